import pickle
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch.utils.data import DataLoader

from gandetect.data.images import read_image, read_shape
from gandetect.datasets import DataFileError, ImageFiles, ImageFolder

GRADIENT = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6)


def _save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path, **options)


def test_reads_what_was_written(tmp_path):
    colour = np.stack([GRADIENT, GRADIENT + 50, GRADIENT + 100], axis=-1)
    _save(tmp_path / "gray" / "a.png", GRADIENT)
    _save(tmp_path / "rgb" / "a.png", colour)
    gray, rgb = ImageFolder(tmp_path / "gray"), ImageFolder(tmp_path / "rgb")
    np.testing.assert_array_equal(gray[0], GRADIENT)
    np.testing.assert_array_equal(rgb[0], colour)
    assert (gray[0].dtype, gray.image_shape) == (np.uint8, (4, 6))
    assert (rgb[0].dtype, rgb.image_shape) == (np.uint8, (4, 6, 3))


def test_is_a_sequence_in_the_order_of_paths(tmp_path):
    for value, name in enumerate(("a/2.png", "a/10.png", "b/1.PNG", "c.bmp")):
        _save(tmp_path / name, np.full((2, 3), value, dtype=np.uint8))
    images = ImageFolder(tmp_path)
    assert [path.name for path in images.paths] == ["10.png", "2.png", "1.PNG", "c.bmp"]
    assert len(images) == 4
    assert [int(image[0, 0]) for image in images] == [1, 0, 2, 3]
    assert images[-1][0, 0] == 3
    assert images[np.int64(2)][0, 0] == 2
    with pytest.raises(IndexError):
        images[4]
    with pytest.raises(TypeError):
        images[1:2]


def test_feeds_a_torch_data_loader(tmp_path):
    for name in ("a.png", "b.png"):
        _save(tmp_path / name, GRADIENT)
    (batch,) = DataLoader(ImageFolder(tmp_path), batch_size=2)
    np.testing.assert_array_equal(batch.numpy(), np.stack([GRADIENT, GRADIENT]))


def test_images_can_be_written_to(tmp_path):
    _save(tmp_path / "a.png", GRADIENT)
    images = ImageFolder(tmp_path)
    images[0][:] = 7
    np.testing.assert_array_equal(images[0], GRADIENT)


def test_reads_nothing_until_asked(tmp_path):
    _save(tmp_path / "a.png", GRADIENT)
    (tmp_path / "b.png").write_bytes(b"no image")
    images = ImageFolder(tmp_path)
    np.testing.assert_array_equal(images[0], GRADIENT)
    with pytest.raises(DataFileError, match=r"b\.png cannot be read as an image"):
        images[1]


def test_pattern(tmp_path):
    for name in ("a.png", "b.jpg", "sub/c.png"):
        _save(tmp_path / name, GRADIENT)
    assert [path.name for path in ImageFolder(tmp_path).paths] == ["a.png", "b.jpg", "c.png"]
    assert [path.name for path in ImageFolder(tmp_path, pattern="*.png").paths] == ["a.png"]


@pytest.mark.parametrize("pattern", ["", None, "/a/*.png"])
def test_what_is_no_pattern(tmp_path, pattern):
    with pytest.raises(ValueError, match="pattern must match paths in the folder"):
        ImageFolder(tmp_path, pattern=pattern)


def test_one_path_is_no_list_of_paths(tmp_path):
    for path in ("a.png", Path("a.png"), b"a.png"):
        with pytest.raises(
            TypeError, match=r"paths must be a list of paths, got a single path: pass \["
        ):
            ImageFiles(path)
    with pytest.raises(FileNotFoundError, match=r"^there is no image none\.png$"):
        ImageFiles(["none.png"])[0]
    with pytest.raises(TypeError, match=r"must be an integer, got slice: .*Subset\(images, ind"):
        ImageFiles(["none.png"])[:1]


class TestWhatIsLeftOut:
    @pytest.fixture(autouse=True)
    def image(self, tmp_path):
        _save(tmp_path / "good" / "a.png", GRADIENT)

    def names(self, folder):
        return [path.relative_to(folder).as_posix() for path in ImageFolder(folder).paths]

    @pytest.mark.parametrize(
        "name",
        [".ipynb_checkpoints/a.png", "good/.git/x/a.png", "__MACOSX/good/a.png", "good/._a.png"],
    )
    def test_what_is_hidden(self, tmp_path, name):
        hidden = tmp_path / name.replace("._", "")
        _save(hidden, GRADIENT)
        if "._" in name:
            hidden.rename(tmp_path / name)
            _save(tmp_path / "good" / "a.png", GRADIENT)
        with pytest.warns(
            UserWarning, match=r": images read: 1; hidden files or folders left out: 1"
        ):
            assert self.names(tmp_path) == ["good/a.png"]

    @pytest.mark.parametrize("name", ["Thumbs.db", ".DS_Store", "good/desktop.ini"])
    def test_files_of_the_system_need_no_word(self, tmp_path, name):
        (tmp_path / name).touch()
        assert self.names(tmp_path) == ["good/a.png"]

    def test_other_endings_are_counted_in_one_line(self, tmp_path):
        for name in ("a.heic", "b.heic", "notes.txt", ".hidden.png"):
            (tmp_path / "good" / name).touch()
        with pytest.warns(UserWarning) as told:
            ImageFolder(tmp_path)
        assert len(told) == 1
        assert "hidden files or folders left out: 1 (.hidden.png)" in str(told[0].message)
        assert "files of other extensions left out: 3 (.heic, .txt)" in str(told[0].message)

    def test_folders_that_are_called_like_images(self, tmp_path):
        _save(tmp_path / "good" / "film.png" / "b.png", GRADIENT)
        (tmp_path / "good" / "scan.png").mkdir()
        with pytest.warns(
            UserWarning, match=r"of an image that contain none left out: 1 \(scan\.png\)"
        ):
            assert self.names(tmp_path) == ["good/a.png", "good/film.png/b.png"]

    def test_nothing_but_a_folder_that_is_called_like_an_image(self, tmp_path):
        (tmp_path / "empty" / "scan.png").mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match=r"contain none left out: 1 \(scan\.png\)"):
            ImageFolder(tmp_path / "empty")

    def test_nothing_but_other_endings(self, tmp_path):
        (tmp_path / "phone").mkdir()
        (tmp_path / "phone" / "a.heic").touch()
        with pytest.raises(
            FileNotFoundError, match=r"files of other extensions left out: 1 \(\.heic\)"
        ):
            ImageFolder(tmp_path / "phone")

    def test_links_to_folders_are_followed(self, tmp_path):
        _save(tmp_path / "elsewhere" / "b.png", GRADIENT)
        (tmp_path / "good" / "more").symlink_to(tmp_path / "elsewhere")
        assert self.names(tmp_path / "good") == ["a.png", "more/b.png"]

    @pytest.mark.parametrize("target", [".", "..", "sub"])
    def test_no_folder_is_read_twice(self, tmp_path, target):
        _save(tmp_path / "good" / "sub" / "b.png", GRADIENT)
        (tmp_path / "good" / "a_link").symlink_to(target, target_is_directory=True)
        with pytest.warns(
            UserWarning, match=r"links to folders .* already read left out: 1 \(a_link\)"
        ):
            assert self.names(tmp_path / "good") == ["a.png", "sub/b.png"]

    def test_two_links_that_lead_to_each_other(self, tmp_path):
        for here, there in (("x", "y"), ("y", "x")):
            (tmp_path / "out" / here).mkdir(parents=True)
            _save(tmp_path / "out" / here / f"{here}.png", GRADIENT)
            (tmp_path / "out" / here / "other").symlink_to(tmp_path / "out" / there)
        (tmp_path / "good" / "x").symlink_to(tmp_path / "out" / "x")
        with pytest.warns(UserWarning, match="links to folders that are already read left out: 1"):
            assert self.names(tmp_path / "good") == ["a.png", "x/other/y.png", "x/x.png"]

    def test_links_to_nothing_are_counted(self, tmp_path):
        (tmp_path / "good" / "b.png").symlink_to(tmp_path / "gone.png")
        with pytest.warns(
            UserWarning, match=r"broken links or special files left out: 1 \(b\.png\)"
        ):
            assert self.names(tmp_path) == ["good/a.png"]

    def test_a_folder_called_like_an_image(self, tmp_path):
        _save(tmp_path / "scan.png" / "b.png", GRADIENT)
        assert self.names(tmp_path) == ["good/a.png", "scan.png/b.png"]


def test_image_size_is_height_and_width(tmp_path):
    _save(tmp_path / "a.png", GRADIENT)
    assert ImageFolder(tmp_path, image_size=(3, 5))[0].shape == (3, 5)
    assert ImageFolder(tmp_path, image_size=3, keep_aspect=False)[0].shape == (3, 3)
    assert ImageFolder(tmp_path, image_size=[3, np.int64(5)])[0].shape == (3, 5)


def test_shrinking_averages_all_pixels(tmp_path):
    # Every second column is white: skipping pixels would give 0 or 255.
    stripes = np.zeros((8, 8), dtype=np.uint8)
    stripes[:, ::2] = 255
    _save(tmp_path / "a.png", stripes)
    small = ImageFolder(tmp_path, image_size=2)[0]
    assert ((small > 100) & (small < 155)).all()


def test_sizes_that_differ_ask_for_image_size(tmp_path):
    _save(tmp_path / "a.png", np.zeros((4, 6), dtype=np.uint8))
    _save(tmp_path / "b.png", np.zeros((6, 4), dtype=np.uint8))
    images = ImageFolder(tmp_path)
    with pytest.raises(ValueError, match=r"b\.png has the shape \(6, 4\).*Pass image_size"):
        images[1]
    assert ImageFolder(tmp_path, image_size=(5, 5)).stack().shape == (2, 5, 5)


def test_gray_and_colour_ask_for_channels(tmp_path):
    _save(tmp_path / "a.png", np.full((4, 6), 9, dtype=np.uint8))
    _save(tmp_path / "b.png", np.full((4, 6, 3), 7, dtype=np.uint8))
    with pytest.raises(ValueError, match="channels=1 or channels=3"):
        ImageFolder(tmp_path).stack()
    gray = ImageFolder(tmp_path, channels=1).stack()
    assert gray.shape == (2, 4, 6)
    assert gray[:, 0, 0].tolist() == [9, 7]
    colour = ImageFolder(tmp_path, channels=3).stack()
    assert colour.shape == (2, 4, 6, 3)
    assert colour[:, 0, 0].tolist() == [[9, 9, 9], [7, 7, 7]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, 255),
        ("LA", (90, 10), 90),
        ("RGBA", (10, 20, 30, 0), [10, 20, 30]),
    ],
)
def test_other_kinds_of_pixels(tmp_path, mode, colour, expected):
    Image.new(mode, (6, 4), colour).save(tmp_path / "a.png")
    assert ImageFolder(tmp_path)[0][0, 0].tolist() == expected


def test_palettes_with_transparent_colours(tmp_path):
    image = Image.new("P", (6, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=b"\x00\xff")
    assert ImageFolder(tmp_path)[0][0, 0].tolist() == [10, 20, 30]
    # 10, 20 and 30 weighted by 0.299, 0.587 and 0.114 are 18.15.
    assert ImageFolder(tmp_path, channels=1)[0][0, 0] == 18


def _write_png_of_16_bits(path, array, colour_type):
    """Write what pillow can not: a PNG of 16 bits a colour."""
    height, width = array.shape[:2]

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    # The filter of each row is 1, the difference from the pixel to the left.
    values = array.astype(">u2").reshape(height, -1).view(np.uint8)
    step = 2 * array.shape[-1]
    rows = np.concatenate([values[:, :step], values[:, step:] - values[:, :-step]], axis=1)
    content = b"".join(b"\1" + row.tobytes() for row in rows)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(content))
        + chunk(b"IEND", b"")
    )


class TestBitDepth:
    DEEP = np.array([[0, 255, 256, 4095], [300, 32768, 65535, 7]], dtype=np.uint16)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_all_levels_of_16_bits_are_kept(self, tmp_path, suffix):
        _save(tmp_path / f"a.{suffix}", self.DEEP)
        images = ImageFolder(tmp_path)
        np.testing.assert_array_equal(images[0], self.DEEP)
        assert images[0].dtype == images.stack().dtype == np.uint16

    @pytest.mark.parametrize(("n_values", "colour_type"), [(3, 2), (4, 6), (2, 4)])
    def test_all_levels_of_deep_colours_are_kept(self, tmp_path, n_values, colour_type):
        array = np.random.default_rng(0).integers(0, 65536, (5, 7, n_values)).astype(np.uint16)
        _write_png_of_16_bits(tmp_path / "a.png", array, colour_type)
        expected = array[..., 0] if n_values == 2 else array[..., :3]
        np.testing.assert_array_equal(ImageFolder(tmp_path)[0], expected)

    def test_deep_colours_resized_and_grey(self, tmp_path):
        array = np.full((6, 6, 3), (1000, 2000, 3000), dtype=np.uint16)
        _write_png_of_16_bits(tmp_path / "a.png", array, 2)
        image = ImageFolder(tmp_path, image_size=4)[0]
        assert (image.shape, image.dtype) == ((4, 4, 3), np.uint16)
        assert image[0, 0].tolist() == [1000, 2000, 3000]
        # 0.299, 0.587 and 0.114 of these.
        assert ImageFolder(tmp_path, image_size=4, channels=1)[0][0, 0] == 1815

    def test_deep_grey_as_colour(self, tmp_path):
        _save(tmp_path / "a.png", self.DEEP)
        expected = np.stack([self.DEEP] * 3, axis=-1)
        np.testing.assert_array_equal(ImageFolder(tmp_path, channels=3)[0], expected)

    def test_the_largest_value_of_a_pgm_is_full(self, tmp_path):
        values = np.array([0, 4095], dtype=">u2").tobytes()
        (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n4095\n" + values)
        assert ImageFolder(tmp_path)[0].tolist() == [[0, 65535]]
        assert ImageFolder(tmp_path, bit_depth=12)[0].tolist() == [[0, 255]]

    @pytest.mark.parametrize(("bit_depth", "expected"), [(12, [0, 1, 255]), (13, [0, 0, 127])])
    def test_scaled_by_what_the_user_says(self, tmp_path, bit_depth, expected):
        _save(tmp_path / "a.png", np.array([[0, 15, 4095]], dtype=np.uint16))
        image = read_image(tmp_path / "a.png", bit_depth=bit_depth)
        assert image.dtype == np.uint8
        assert image[0].tolist() == expected

    def test_values_of_more_bits_than_said(self, tmp_path):
        _save(tmp_path / "a.png", self.DEEP)
        with pytest.raises(
            DataFileError, match=r"a\.png has the value 65535, which exceeds 12 bits"
        ):
            ImageFolder(tmp_path, bit_depth=12)[0]

    def test_levels_that_are_lost_are_told(self, tmp_path):
        _save(tmp_path / "a.png", np.arange(400, 800, dtype=np.uint16).reshape(20, 20))
        with pytest.warns(
            UserWarning, match=r"bit_depth=12 keeps 26 of the 400 levels of .*a\.png"
        ):
            ImageFolder(tmp_path, bit_depth=12).stack()

    def test_deep_and_other_images_ask_for_it(self, tmp_path):
        deep = np.array([[0, 4095], [1000, 2000]], dtype=np.uint16)
        _save(tmp_path / "a.png", deep)
        _save(tmp_path / "b.png", deep.astype(np.uint8))
        with pytest.raises(ValueError, match=r"b\.png has pixels of uint8.*bit_depth=12"):
            ImageFolder(tmp_path).stack()
        assert ImageFolder(tmp_path, bit_depth=12).stack().dtype == np.uint8

    @pytest.mark.parametrize("bit_depth", [7, 17, "12", None, 12.5])
    def test_out_of_range(self, tmp_path, bit_depth):
        with pytest.raises(ValueError, match="bit_depth must be 'auto' or an integer from 8 to 16"):
            ImageFiles([tmp_path / "a.png"], bit_depth=bit_depth)

    def test_floats(self, tmp_path):
        values = np.array([[-1.5, 0.25, 3e7]], dtype=np.float32)
        _save(tmp_path / "a.tif", values)
        image = ImageFolder(tmp_path)[0]
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, values)
        with pytest.raises(DataFileError, match="bit_depth=12 is for unsigned integers"):
            ImageFolder(tmp_path, bit_depth=12)[0]

    def test_floats_that_are_not_finite(self, tmp_path):
        _save(tmp_path / "a.tif", np.array([[0.0, np.nan]], dtype=np.float32))
        with pytest.raises(DataFileError, match=r"a\.tif has pixels that are NaN or infinite"):
            ImageFolder(tmp_path)[0]

    def test_integers_of_32_bits_are_refused(self, tmp_path):
        _save(tmp_path / "a.tif", np.zeros((4, 6), dtype=np.int32))
        with pytest.raises(DataFileError, match=r"a\.tif .* integers of 32 bits"):
            ImageFolder(tmp_path)[0]

    def test_deep_colours_that_can_not_be_read(self, tmp_path):
        (tmp_path / "a.ppm").write_bytes(b"P6\n2 2\n65535\n" + bytes(24))
        with pytest.raises(DataFileError, match=r"a\.ppm .* more than 8 bits"):
            ImageFolder(tmp_path)[0]


# How an image comes out of each EXIF orientation, by the standard.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.T, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation(tmp_path, orientation, suffix):
    image = np.kron(np.array([[0, 255, 255], [128, 0, 0]], dtype=np.uint8), np.ones((8, 8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if suffix == "tif" else {"exif": exif}
    path = tmp_path / f"a.{suffix}"
    _save(path, image.astype(np.uint8), **options)
    expected = TURNED[orientation](image)
    found = ImageFolder(tmp_path, channels=1)[0]
    assert read_shape(path) == found.shape == expected.shape
    assert np.abs(found - expected).mean() < 10  # of lossy formats


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_several_pages_are_refused(tmp_path, suffix):
    pages = [Image.new("L", (6, 4), 40 * i) for i in range(3)]
    path = tmp_path / f"a.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(DataFileError, match=rf"a\.{suffix} .* contains 3 pages or frames"):
        ImageFolder(tmp_path)[0]
    pages[1].save(path)
    assert ImageFolder(tmp_path, channels=1)[0][0, 0] == 40


def test_what_a_phone_appends_is_no_page(tmp_path):
    photo, preview = Image.new("RGB", (6, 4), "red"), Image.new("RGB", (3, 2))
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert ImageFolder(tmp_path)[0].shape == (4, 6, 3)


def test_smaller_copies_of_a_page_are_no_pages(tmp_path):
    page = Image.fromarray(GRADIENT)
    # Pillow marks all pages; what the first one is called does not matter.
    smaller = {"save_all": True, "append_images": [Image.new("L", (3, 2))], "tiffinfo": {254: 1}}
    page.save(tmp_path / "a.tif", **smaller)
    np.testing.assert_array_equal(ImageFolder(tmp_path)[0], GRADIENT)


def test_other_formats_are_not_opened(tmp_path, monkeypatch):
    """Whatever a file is called: reading EPS starts a program."""
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **_: started.append(args))
    monkeypatch.setattr("subprocess.check_call", lambda *args, **_: started.append(args))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "a.png").write_bytes(eps)
    with pytest.raises(DataFileError, match=r"a\.png .* not one of BMP, GIF, JPEG, PNG"):
        ImageFolder(tmp_path)[0]
    assert not started


def test_too_many_pixels(tmp_path, monkeypatch):
    _save(tmp_path / "a.png", GRADIENT)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(DataFileError, match=r"a\.png .* exceeds limit .*MAX_IMAGE_PIXELS"):
        ImageFolder(tmp_path)[0]


@pytest.mark.parametrize(("channels", "shape"), [(None, (8, 8, 3)), (3, (8, 8, 3)), (1, (8, 8))])
def test_colours_by_their_lightness(channels, shape, tmp_path):
    Image.new("RGB", (8, 8), (200, 200, 200)).convert("LAB").save(tmp_path / "a.tif")
    image = ImageFolder(tmp_path, channels=channels)[0]
    assert image.shape == shape
    np.testing.assert_allclose(image, 200.0, atol=3)


def test_colours_that_can_not_be_converted(tmp_path, monkeypatch):
    def fails(*args):
        raise ValueError("conversion from X to RGB not supported")

    Image.new("RGB", (8, 8)).save(tmp_path / "a.tif")
    monkeypatch.setattr(Image.Image, "convert", fails)
    with pytest.raises(DataFileError, match=r"a\.tif .* conversion from X"):
        ImageFolder(tmp_path, channels=1)[0]


class TestKeepAspect:
    def test_the_longer_side_gets_the_size(self, tmp_path):
        for name, size in (("a", (80, 40)), ("b", (20, 40)), ("c", (30, 30)), ("d", (400, 1))):
            Image.new("L", size).save(tmp_path / f"{name}.png")
        images = ImageFolder(tmp_path, image_size=16)
        assert images.shapes() == [image.shape for image in images]
        assert [image.shape for image in images] == [(8, 16), (16, 8), (16, 16), (1, 16)]
        assert ImageFolder(tmp_path, (16, 8), keep_aspect=True)[0].shape == (4, 8)
        with pytest.raises(ValueError, match=r"b\.png .*\(16, 8\).*Pass image_size=\(height"):
            images.stack()

    @pytest.mark.parametrize("info", [None, "text", "exif"])
    def test_the_shape_of_a_png_is_that_of_its_image(self, tmp_path, info):
        known, exif = PngInfo(), Image.Exif()
        known.add_text("Software", "camera")
        exif[0x0112] = 6
        how = {"text": {"pnginfo": known}, "exif": {"exif": exif}}.get(info, {})
        Image.new("L", (6, 4)).save(tmp_path / "a.png", **how)
        images = ImageFolder(tmp_path, image_size=12)
        assert images.shapes() == [images[0].shape] == [(12, 8) if info == "exif" else (8, 12)]

    def test_squares_are_resized_as_ever(self, tmp_path):
        _save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8))
        kept = ImageFolder(tmp_path, 5).stack()
        np.testing.assert_array_equal(kept, ImageFolder(tmp_path, (5, 5)).stack())

    def test_needs_a_size(self, tmp_path):
        with pytest.raises(ValueError, match="keep_aspect=True needs image_size"):
            ImageFiles([tmp_path / "a.png"], keep_aspect=True)


class TestOnError:
    def test_unreadable_images_are_left_out(self, tmp_path):
        for name in ("a.png", "b.png", "d.png"):
            _save(tmp_path / name, GRADIENT)
        (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
        (tmp_path / "c.png").write_bytes(b"no image")
        with pytest.warns(UserWarning, match=r"2 of 4 images cannot be read: .*b\.png") as told:
            images = ImageFolder(tmp_path, on_error="skip")
        assert "c.png" in str(told[0].message)
        assert [path.name for path in images.paths] == ["a.png", "d.png"]
        assert [path.name for path in images.skipped] == ["b.png", "c.png"]
        assert images.stack().shape == (2, 4, 6)

    def test_all_are_named(self, tmp_path):
        _save(tmp_path / "sound.png", GRADIENT)
        names = [f"{i}.png" for i in range(8)]
        for name in names:
            (tmp_path / name).write_bytes(b"no image")
        with pytest.warns(UserWarning, match="8 of 9 images cannot be read") as told:
            ImageFolder(tmp_path, on_error="skip")
        assert all(name in str(told[0].message) for name in names)

    def test_without_it_an_error_names_it(self, tmp_path):
        _save(tmp_path / "a.png", GRADIENT)
        (tmp_path / "b.png").write_bytes(b"no image")
        with pytest.raises(DataFileError, match=r"b\.png .*on_error='skip'.*--on-error skip"):
            ImageFolder(tmp_path)[1]

    def test_sound_images_need_no_word(self, tmp_path):
        _save(tmp_path / "a.png", GRADIENT)
        assert ImageFolder(tmp_path, on_error="skip").skipped == []

    def test_none_can_be_read(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"no image")
        with pytest.raises(DataFileError, match=r"1 of 1 images cannot be read: .*a\.png"):
            ImageFolder(tmp_path, on_error="skip")

    def test_other_words(self, tmp_path):
        with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'ignore'"):
            ImageFiles([tmp_path / "a.png"], on_error="ignore")


def test_settings_read_another_folder_alike(tmp_path):
    _save(tmp_path / "one" / "a.png", np.zeros((8, 4), dtype=np.uint16))
    _save(tmp_path / "two" / "a.png", np.zeros((20, 10, 3), dtype=np.uint8))
    images = ImageFolder(tmp_path / "one", 6, channels=1, bit_depth=12, keep_aspect=True)
    other = ImageFolder(tmp_path / "two", **images.settings)
    assert other.settings == images.settings
    assert other[0].shape == images[0].shape == (6, 3)
    assert other[0].dtype == images[0].dtype


def test_errors_name_the_call_that_helps(tmp_path):
    for name, size in (("a", (6, 4)), ("b", (4, 6))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=rf"ImageFolder\('{tmp_path}', image_size=256\)") as raised:
        ImageFolder(tmp_path)[1]
    assert "--image-size" in str(raised.value)
    assert "channels" not in str(raised.value)
    Image.new("RGB", (4, 6)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"image_size=256.*, and channels=1 .*--channels"):
        ImageFolder(tmp_path)[1]
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"Pass channels=1 or channels=3, .*--channels"):
        ImageFolder(tmp_path)[1]
    Image.new("L", (4, 6)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"ImageFiles\(paths, image_size=256\)"):
        ImageFiles([tmp_path / "a.png", tmp_path / "b.png"])[1]


def test_a_file_where_a_folder_is_asked_for(tmp_path):
    _save(tmp_path / "a.png", GRADIENT)
    with pytest.raises(NotADirectoryError, match=r"a\.png is a file.*ImageFiles\(\["):
        ImageFolder(tmp_path / "a.png")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(NotADirectoryError, match=r"a\.xlsx is a file.*\.csv.*pandas\.read_excel"):
        ImageFolder(tmp_path / "a.xlsx")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_cut_off_images(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    _save(path, np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataFileError, match=f"a.{suffix} cannot be read as an image"):
        ImageFolder(tmp_path)[0]


def test_a_file_that_went_away(tmp_path):
    _save(tmp_path / "a.png", GRADIENT)
    images = ImageFolder(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError):
        images[0]


def test_folders_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no image that matches '\*\*/\*'"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize("image_size", ["8", (8,), (8, 8, 3), 8.0, (8, None)])
def test_image_size_of_another_type(tmp_path, image_size):
    with pytest.raises(TypeError, match="image_size must be"):
        ImageFiles([tmp_path / "a.png"], image_size=image_size)


@pytest.mark.parametrize("image_size", [0, (8, -1)])
def test_image_size_out_of_range(tmp_path, image_size):
    with pytest.raises(ValueError, match="at least 1 pixel"):
        ImageFiles([tmp_path / "a.png"], image_size=image_size)


@pytest.mark.parametrize("channels", [0, 2, 4, "rgb"])
def test_channels_out_of_range(tmp_path, channels):
    with pytest.raises(ValueError, match="channels must be"):
        ImageFiles([tmp_path / "a.png"], channels=channels)


def test_no_paths():
    with pytest.raises(ValueError, match="paths is empty"):
        ImageFiles([])


def test_pickles(tmp_path):
    _save(tmp_path / "a.png", GRADIENT)
    images = ImageFolder(tmp_path, image_size=3)
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy[0], images[0])


def test_repr_is_short(tmp_path):
    _save(tmp_path / "a.png", GRADIENT)
    assert repr(ImageFolder(tmp_path)) == f"ImageFolder({str(tmp_path)!r}, 1 images)"
    assert repr(ImageFiles(["a.png"])) == "ImageFiles(1 images, a.png ...)"


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    _save(tmp_path / "a.png", GRADIENT)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "gandetect\[images\]"'):
        ImageFolder(tmp_path)[0]
