"""Folders of good and bad images, in the layouts that people have."""

from argparse import ArgumentParser

import numpy as np
import pytest
from PIL import Image

from gandetect.cli.data import read_samples
from gandetect.cli.options import add_data, add_protocol
from gandetect.datasets import DataFileError, ImageFiles, load_labelled_images, load_mvtec
from gandetect.datasets.labelled import class_folders, read_mask

SHAPE = (4, 6)


def _save(path, value=0, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(path)


def _save_mask(path, rows=slice(0, 1)):
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[rows] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.mark.parametrize("load", ["labelled", "mvtec", "command line"])
@pytest.mark.parametrize(
    "place",
    ["masks/", "masks/bad/", "gt/", "bad/masks/", "bad_mask/", "bad/a_label", "bad/a_GT"],
)
def test_masks_at_any_place_are_no_images(tmp_path, load, place):
    folder = tmp_path / "nut" / "test"
    _save(folder / "defect-free" / "a.png")
    _save(folder / "bad" / "a.png")
    _save_mask(folder / f"{place}{'a' if place.endswith('/') else ''}.bmp")
    _save(tmp_path / "nut" / "train" / "defect-free" / "a.png")
    if load == "command line":
        parser = ArgumentParser()
        add_data(parser)
        add_protocol(parser)
        read = read_samples(parser.parse_args(["--data", str(folder)]), "test")
    else:
        read = (
            load_labelled_images(folder)
            if load == "labelled"
            else load_mvtec(tmp_path, "nut", "test")
        )
    assert list(read.labels) == [1, 0]
    assert [int(mask.sum()) for mask in read.masks] == [SHAPE[1], 0]


class TestLoad:
    @pytest.mark.parametrize(
        ("good", "bad"), [("good", "bad"), ("OK", "ko"), ("Normal", "Anomaly"), ("0", "1")]
    )
    def test_names_that_say_what_is_normal(self, tmp_path, good, bad):
        _save(tmp_path / good / "a.png", 1)
        _save(tmp_path / bad / "a.png", 2)
        read = load_labelled_images(tmp_path, masks=False)
        assert dict(zip(read.images[:, 0, 0].tolist(), read.labels, strict=True)) == {1: 0, 2: 1}
        assert sorted(read.defects) == sorted(["good", bad])
        assert read.data is read.images
        assert read.target is read.labels
        assert read.masks is None

    @pytest.mark.parametrize("normal_class", ["blue", ["blue", "red"]])
    def test_names_that_the_user_gives(self, tmp_path, normal_class):
        for name in ("blue", "green", "red"):
            _save(tmp_path / name / "a.png")
        read = load_labelled_images(tmp_path, normal_class, masks=False)
        assert read.labels.tolist() == [
            int(n not in normal_class) for n in ("blue", "green", "red")
        ]

    def test_names_that_say_nothing(self, tmp_path):
        _save(tmp_path / "blue" / "a.png")
        _save(tmp_path / "red" / "a.png")
        with pytest.raises(
            ValueError, match=r"folders blue, red, of which none has a name .*normal_class"
        ):
            load_labelled_images(tmp_path)
        with pytest.raises(ValueError, match="folders blue, red, of which none is green"):
            load_labelled_images(tmp_path, "green")

    def test_one_class_alone(self, tmp_path):
        _save(tmp_path / "good" / "a.png")
        assert load_labelled_images(tmp_path).labels.tolist() == [0]

    def test_no_folder_of_a_class(self, tmp_path):
        _save(tmp_path / "a.png")
        with pytest.raises(ValueError, match="does not have all of its images in folders"):
            load_labelled_images(tmp_path)
        _save(tmp_path / "good" / "a.png")
        with pytest.raises(ValueError, match="does not have all of its images in folders"):
            load_labelled_images(tmp_path)

    def test_settings_and_lazy_sequences(self, tmp_path):
        _save(tmp_path / "good" / "a.png", shape=(8, 16))
        _save(tmp_path / "bad" / "a.png", shape=(8, 16))
        mask = np.zeros((8, 16), dtype=np.uint8)
        mask[0, 0] = 255
        (tmp_path / "masks" / "bad").mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "masks" / "bad" / "a.png")
        options = {"image_size": 4, "keep_aspect": True, "channels": 3}
        read = load_labelled_images(tmp_path, **options)
        assert read.images.shape == (2, 2, 4, 3)
        assert [np.argwhere(mask).tolist() for mask in read.masks] == [[[0, 0]], []]
        lazy = load_labelled_images(tmp_path, lazy=True, **options)
        assert isinstance(lazy.images, ImageFiles)
        np.testing.assert_array_equal(np.stack(list(lazy.masks)), read.masks)

    def test_a_damaged_image_is_left_out_with_its_label(self, tmp_path):
        for name in ("good/a.png", "bad/a.png", "bad/b.png"):
            _save(tmp_path / name)
        (tmp_path / "bad" / "a.png").write_bytes(b"no image")
        with pytest.raises(DataFileError, match=r"a\.png"):
            load_labelled_images(tmp_path, masks=False)
        with pytest.warns(UserWarning, match="1 of 3 images cannot be read"):
            read = load_labelled_images(tmp_path, masks=False, on_error="skip")
        assert [path.name for path in read.paths] == ["b.png", "a.png"]
        assert read.labels.tolist() == [1, 0]


class TestMasks:
    @pytest.fixture(autouse=True)
    def images(self, tmp_path):
        for name in ("test/good/000.png", "test/bad/001.png", "test/worse/002.png"):
            _save(tmp_path / name)

    @pytest.mark.parametrize(
        "name",
        [
            "test/ground_truth/{kind}/{stem}_mask.png",
            "test/ground_truth/{kind}/{stem}.png",
            "test/masks/{kind}/{stem}_mask.bmp",
            "test/Masks/{stem}.png",
            "test/mask/{kind}/{stem}_gt.tif",
            "ground_truth/{kind}/{stem}_mask.png",
            "test/{kind}/{stem}_mask.png",
            "test/{kind}/{stem}_GT.bmp",
        ],
    )
    def test_names_and_places(self, tmp_path, name):
        for row, (kind, stem) in enumerate((("bad", "001"), ("worse", "002"))):
            _save_mask(tmp_path / name.format(kind=kind, stem=stem), row)
        read = load_labelled_images(tmp_path / "test")
        assert read.defects.tolist() == ["bad", "good", "worse"]
        rows = [mask.any(axis=1).nonzero()[0].tolist() for mask in read.masks]
        assert rows == [[0], [], [1]]

    def test_masks_are_never_images(self, tmp_path):
        _save_mask(tmp_path / "test" / "ground_truth" / "bad" / "001.png")
        _save_mask(tmp_path / "test" / "worse" / "002_mask.png")
        assert len(load_labelled_images(tmp_path / "test").images) == 3

    def test_a_name_that_two_defects_share(self, tmp_path):
        _save(tmp_path / "test" / "worse" / "001.png")
        for stem in ("001", "002"):
            _save_mask(tmp_path / "test" / "masks" / f"{stem}.png")
        with pytest.raises(FileNotFoundError, match=r"001\.png has no mask"):
            load_labelled_images(tmp_path / "test")

    def test_none_at_all(self, tmp_path):
        with pytest.warns(UserWarning, match="none of the 2 defects has a mask, such as"):
            assert load_labelled_images(tmp_path / "test").masks is None

    def test_some_missing(self, tmp_path):
        _save_mask(tmp_path / "ground_truth" / "bad" / "001_mask.png")
        with pytest.raises(FileNotFoundError, match=r"002\.png has no mask .* masks=False"):
            load_labelled_images(tmp_path / "test")
        assert load_labelled_images(tmp_path / "test", masks=False).masks is None

    @pytest.mark.parametrize("lazy", [False, True])
    def test_empty_ones_are_counted(self, tmp_path, lazy):
        _save_mask(tmp_path / "ground_truth" / "bad" / "001_mask.png", slice(0, 0))
        _save_mask(tmp_path / "ground_truth" / "worse" / "002_mask.png")
        with pytest.warns(UserWarning, match=r"1 of the masks of 2 defects mark no.*001_mask\.png"):
            load_labelled_images(tmp_path / "test", lazy=lazy)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_another_size(self, tmp_path, lazy):
        for kind, stem in (("bad", "001"), ("worse", "002")):
            _save(tmp_path / "ground_truth" / kind / f"{stem}.png", 9, (6, 4))
        with pytest.raises(DataFileError, match=r"mask .*001\.png has the size \(6, 4\)"):
            load_labelled_images(tmp_path / "test", lazy=lazy)


MARKED = np.zeros(SHAPE, dtype=bool)
MARKED[1:3, 2:4] = True


def _coloured(colour, background=(0, 0, 0)):
    return Image.fromarray(np.where(MARKED[..., None], colour, background).astype(np.uint8))


def _palette(colours):
    image = Image.fromarray(MARKED.astype(np.uint8))
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "mask",
    [
        Image.fromarray(MARKED),
        Image.fromarray(MARKED.astype(np.uint8)),
        Image.fromarray(MARKED.astype(np.uint16)),
        Image.fromarray(MARKED.astype(np.float32)),
        _coloured((0, 0, 1)),
        _coloured((1, 0, 0)),
        _coloured((0, 0, 0, 255), (0, 0, 0, 0)),
        _coloured((0, 0, 0, 1), (0, 0, 0, 0)),
        _coloured((255, 0, 0, 255), (255, 255, 255, 0)),
        _coloured((255, 255, 255, 255), (0, 0, 0, 255)),
        _coloured((1, 1, 1, 0), (0, 0, 0, 0)),
        _coloured((0, 255), (0, 0)),
        _palette([0, 0, 0, 128, 0, 0]),
        _palette([0, 0, 0, 0, 0, 1]),
        _palette([0, 0, 0, 0, 0, 0]),
    ],
    ids=lambda image: image.mode,
)
def test_colours_of_masks(tmp_path, mask):
    mask.save(tmp_path / "mask.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), MARKED)


def test_a_mask_as_jpeg_is_cut_at_half(tmp_path):
    marked = np.kron(MARKED, np.ones((16, 16), dtype=bool))
    Image.fromarray((255 * marked).astype(np.uint8)).save(tmp_path / "mask.jpg", quality=60)
    assert (read_mask(tmp_path / "mask.jpg") != marked).mean() < 0.01


def test_a_mask_that_is_empty(tmp_path):
    for mode in ("1", "L", "RGB", "RGBA", "LA", "P"):
        Image.new(mode, SHAPE[::-1]).save(tmp_path / "mask.png")
        assert not read_mask(tmp_path / "mask.png").any()


class TestClassFolders:
    @pytest.mark.parametrize(
        ("names", "chosen", "expected"),
        [
            (["a.png", "b.png"], (), None),
            (["good/a.png", "good/b.png"], (), ["good", "good"]),
            (["good/1/a.png", "bad/1/a.png"], (), ["good", "bad"]),
            (["1/good/a.png", "2/bad/a.png"], (), ["good", "bad"]),
            (["1/x/a.png", "2/y/a.png"], (), [1, 2]),
            (["1/x/a.png", "2/y/a.png"], ("y",), ["x", "y"]),
            (["0/a.png", "-1/a.png"], (), [0, -1]),
            (["0/a.png", "one/a.png"], (), ["0", "one"]),
        ],
    )
    def test_depths(self, tmp_path, names, chosen, expected):
        found = class_folders([tmp_path / name for name in names], tmp_path, chosen)
        assert expected == (None if found is None else found.tolist())

    def test_images_outside_are_counted(self, tmp_path):
        paths = [tmp_path / name for name in ("good/a.png", "bad/a.png", "b.png")]
        with pytest.raises(
            ValueError, match=r"1 of the 3 images .*b\.png, are not in the folder of a class"
        ):
            class_folders(paths, tmp_path, ("good",))
        assert class_folders(paths, tmp_path) is None

    def test_names_at_several_depths(self, tmp_path):
        paths = [tmp_path / name for name in ("good/a.png", "x/good/a.png")]
        with pytest.raises(ValueError, match="at several depths"):
            class_folders(paths, tmp_path, ("good",))
        assert class_folders(paths, tmp_path) is None
