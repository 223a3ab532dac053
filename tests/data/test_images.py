import pickle
import sys

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

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
    with pytest.raises(DataFileError, match=r"b\.png can not be read as an image"):
        images[1]


def test_pattern_and_hidden_files(tmp_path):
    for name in ("a.png", "b.jpg", "sub/c.png", "._a.png"):
        _save(tmp_path / name.replace("._", "__"), GRADIENT)
    (tmp_path / "__a.png").rename(tmp_path / "._a.png")
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in ImageFolder(tmp_path).paths] == ["a.png", "b.jpg", "c.png"]
    assert [path.name for path in ImageFolder(tmp_path, pattern="*.png").paths] == ["a.png"]


def test_image_size_is_height_and_width(tmp_path):
    _save(tmp_path / "a.png", GRADIENT)
    assert ImageFolder(tmp_path, image_size=(3, 5))[0].shape == (3, 5)
    assert ImageFolder(tmp_path, image_size=5)[0].shape == (5, 5)
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
    assert ImageFolder(tmp_path, image_size=5).stack().shape == (2, 5, 5)


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


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_images_keep_their_range(tmp_path, suffix):
    _save(tmp_path / f"a.{suffix}", np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16))
    assert ImageFolder(tmp_path)[0].tolist() == [[0, 0, 1, 128, 255]]


def test_pixels_without_a_known_range(tmp_path):
    _save(tmp_path / "a.tif", np.zeros((4, 6), dtype=np.float32))
    with pytest.raises(DataFileError, match="32-bit pixels"):
        ImageFolder(tmp_path)[0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_cut_off_images(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    _save(path, np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataFileError, match=f"a.{suffix} can not be read as an image"):
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
    (tmp_path / "notes.txt").touch()
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
    with pytest.raises(ValueError, match="no path"):
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
