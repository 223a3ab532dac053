import math
import shutil

import numpy as np
import pytest
from PIL import Image

from gandetect.datasets import DataFileError, ImageFiles, load_labelled_images, load_mvtec
from gandetect.datasets.labelled import _resize_mask
from gandetect.datasets.mvtec import categories_in, is_category

SIZE = (6, 4)  # width, height


@pytest.fixture
def root(tmp_path):
    """A category with two training images, and a normal one and two defects to test."""
    folder = tmp_path / "nut"
    for name, value in (
        ("train/good/000", 1),
        ("train/good/001", 2),
        ("test/good/000", 3),
        ("test/crack/000", 4),
        ("test/scratch/000", 5),
    ):
        _save(folder / f"{name}.png", value)
    _save_mask(folder, "crack", [(1, 2)])
    _save_mask(folder, "scratch", [(0, 0), (3, 5)])
    return tmp_path


def _save(path, value, size=SIZE, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def _save_mask(folder, defect, pixels, size=SIZE):
    mask = np.zeros(size[::-1], dtype=np.uint8)
    mask[tuple(zip(*pixels, strict=True))] = 255
    path = folder / "ground_truth" / defect / "000_mask.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def test_train(root):
    train = load_mvtec(root, "nut")
    assert train.images.shape == (2, 4, 6)
    assert train.images.dtype == np.uint8
    assert train.images[:, 0, 0].tolist() == [1, 2]
    assert train.labels.tolist() == [0, 0]
    assert train.masks.shape == (2, 4, 6)
    assert train.masks.dtype == bool
    assert not train.masks.any()
    assert [path.name for path in train.paths] == ["000.png", "001.png"]
    assert train.groups is None


def test_test(root):
    test = load_mvtec(root, "nut", "test")
    assert test.images[:, 0, 0].tolist() == [4, 3, 5]
    assert test.labels.tolist() == [1, 0, 1]
    assert test.labels.dtype == np.int64
    assert test.defects.tolist() == ["crack", "good", "scratch"]
    assert [np.argwhere(mask).tolist() for mask in test.masks] == [
        [[1, 2]],
        [],
        [[0, 0], [3, 5]],
    ]
    assert [path.parent.name for path in test.paths] == test.defects.tolist()


def test_the_names_of_scikit_learn(root):
    test = load_mvtec(root, "nut", "test")
    assert test.data is test.images
    assert test.target is test.labels


def test_root_may_be_the_folder_above(root, monkeypatch):
    (root / "data").mkdir()
    (root / "nut").rename(root / "data" / "nut")
    (root / "data").rename(root / "mvtec")
    assert load_mvtec(root, "nut").images.shape == (2, 4, 6)
    monkeypatch.setenv("GANDETECT_DATA", str(root))
    assert load_mvtec(None, "nut").images.shape == (2, 4, 6)


def test_colour_and_channels(root):
    for name in ("000", "001"):
        _save(root / "nut" / "train" / "good" / f"{name}.png", (10, 20, 30), mode="RGB")
    colour = load_mvtec(root, "nut")
    assert colour.images.shape == (2, 4, 6, 3)
    assert colour.images[0, 0, 0].tolist() == [10, 20, 30]
    assert load_mvtec(root, "nut", channels=1).images.shape == (2, 4, 6)
    assert load_mvtec(root, "nut", "test", channels=3).images.shape == (3, 4, 6, 3)


def test_image_size_applies_to_images_and_masks(root):
    test = load_mvtec(root, "nut", "test", image_size=(2, 3))
    assert test.images.shape == (3, 2, 3)
    assert test.images[:, 0, 0].tolist() == [4, 3, 5]
    # Blocks of 2 by 2 pixels: (1, 2) falls into (0, 1), (0, 0) and (3, 5) into the corners.
    assert [np.argwhere(mask).tolist() for mask in test.masks] == [
        [[0, 1]],
        [],
        [[0, 0], [1, 2]],
    ]


def test_masks_grow_by_repeating_pixels(root):
    test = load_mvtec(root, "nut", "test", image_size=(8, 12))
    assert test.masks.sum(axis=(1, 2)).tolist() == [4, 0, 8]
    assert test.masks[0, 2:4, 4:6].all()


@pytest.mark.parametrize(("place", "expected"), [(0, [0]), (1, [0]), (2, [0, 1]), (4, [1])])
def test_a_defect_on_a_border_marks_both_sides(root, place, expected):
    """Of five columns to two, the middle one is half in either."""
    folder = root / "nut"
    for name in ("crack", "good", "scratch"):
        _save(folder / "test" / name / "000.png", 0, (5, 5))
        _save_mask(folder, name, [(place, place)], (5, 5))
    mask = load_mvtec(root, "nut", "test", image_size=2).masks[0]
    assert mask.any(axis=0).nonzero()[0].tolist() == expected
    assert mask.any(axis=1).nonzero()[0].tolist() == expected


@pytest.mark.parametrize("new", [1, 2, 6, 10, 40, 97])
def test_no_defect_is_lost_however_small(new):
    for old in (1, 13, 17, 19, 64, 100):
        for place in range(old):
            mask = np.zeros((old, 1), dtype=bool)
            mask[place] = True
            resized = _resize_mask(mask, (new, 3))
            assert resized.shape == (new, 3)
            rows = resized.any(axis=1).nonzero()[0]
            # The old pixel reaches from place / old to (place + 1) / old of the height.
            assert rows[0] == place * new // old
            assert rows[-1] == math.ceil((place + 1) * new / old) - 1
            assert len(rows) == rows[-1] - rows[0] + 1
            assert (resized == resized[:, :1]).all()


def test_lazy_sequences_equal_the_arrays(root):
    arrays = load_mvtec(root, "nut", "test", image_size=3)
    lazy = load_mvtec(root, "nut", "test", image_size=3, lazy=True)
    assert isinstance(lazy.images, ImageFiles)
    assert len(lazy.images) == len(lazy.masks) == 3
    np.testing.assert_array_equal(np.stack(list(lazy.images)), arrays.images)
    np.testing.assert_array_equal(np.stack(list(lazy.masks)), arrays.masks)
    np.testing.assert_array_equal(lazy.labels, arrays.labels)


def test_lazy_masks_keep_the_size_of_their_image(root):
    lazy = load_mvtec(root, "nut", "test", lazy=True)
    assert [mask.shape for mask in lazy.masks] == [(4, 6)] * 3
    assert lazy.masks[-1].sum() == 2
    with pytest.raises(IndexError):
        lazy.masks[3]


def test_lazy_reads_nothing_until_asked(root):
    (root / "nut" / "train" / "good" / "001.png").write_bytes(b"no image")
    train = load_mvtec(root, "nut", lazy=True)
    assert train.images[0].shape == (4, 6)
    with pytest.raises(DataFileError, match=r"001\.png cannot be read as an image"):
        train.images[1]


def test_lazy_masks_of_an_unreadable_image(root):
    (root / "nut" / "test" / "good" / "000.png").write_bytes(b"no image")
    lazy = load_mvtec(root, "nut", "test", lazy=True)
    with pytest.raises(DataFileError, match=r"000\.png cannot be read as an image"):
        lazy.masks[1]


def test_groups(root):
    (root / "nut" / "groups.csv").write_text("name,group,split\n001,a,train\n000,b,train\n")
    assert load_mvtec(root, "nut").groups.tolist() == ["b", "a"]
    (root / "nut" / "groups.csv").write_text("name,group\n001,a\n")
    assert load_mvtec(root, "nut").groups.tolist() == ["", "a"]


def test_groups_without_the_columns(root):
    (root / "nut" / "groups.csv").write_text("000,b\n")
    with pytest.raises(DataFileError, match="columns name and group"):
        load_mvtec(root, "nut")


@pytest.mark.parametrize("content", [b"name,group\n001,\xe9\n", b"\xff\xfe\x00\x81"])
def test_groups_that_are_no_utf8(root, content):
    (root / "nut" / "groups.csv").write_bytes(content)
    with pytest.raises(DataFileError, match=r"groups\.csv is not a table in UTF-8"):
        load_mvtec(root, "nut")


def test_groups_with_a_byte_order_mark(root):
    (root / "nut" / "groups.csv").write_text("\ufeffname,group\n001,a\n", encoding="utf-8")
    assert load_mvtec(root, "nut").groups.tolist() == ["", "a"]


def test_sizes_that_differ_ask_for_image_size(root):
    _save(root / "nut" / "train" / "good" / "001.png", 0, (5, 5))
    with pytest.raises(ValueError, match=r"\(5, 5\).*Pass image_size"):
        load_mvtec(root, "nut")
    assert load_mvtec(root, "nut", image_size=(4, 4)).images.shape == (2, 4, 4)


@pytest.mark.parametrize("image_size", [None, 4])
def test_a_mask_of_another_size(root, image_size):
    _save_mask(root / "nut", "crack", [(1, 2)], (4, 6))
    with pytest.raises(DataFileError, match=r"has the size \(6, 4\), its image .* \(4, 6\)"):
        load_mvtec(root, "nut", "test", image_size)


def test_a_missing_mask(root):
    (root / "nut" / "ground_truth" / "crack" / "000_mask.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no mask .*000_mask\.png"):
        load_mvtec(root, "nut", "test")


@pytest.mark.parametrize("name", ["test/crack/000.png", "ground_truth/crack/000_mask.png"])
def test_an_unreadable_image_or_mask(root, name):
    (root / "nut" / name).write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    with pytest.raises(DataFileError, match="cannot be read as an image"):
        load_mvtec(root, "nut", "test")


def test_an_unknown_category_lists_the_known(root):
    with pytest.raises(FileNotFoundError, match="no category 'bolt', only nut"):
        load_mvtec(root, "bolt")


def test_an_unknown_category_lists_those_of_the_folder_below(root):
    (root / "mvtec").mkdir()
    (root / "nut").rename(root / "mvtec" / "nut")
    with pytest.raises(FileNotFoundError, match="no category 'bolt', only nut"):
        load_mvtec(root, "bolt")


@pytest.mark.parametrize("category", ["", ".", ".."])
def test_a_root_is_no_category(root, category):
    with pytest.raises(ValueError, match="must be the name of a folder"):
        load_mvtec(root / "nut", category)


def test_the_category_itself_as_root(root):
    with pytest.raises(FileNotFoundError, match="pass the folder above it"):
        load_mvtec(root / "nut", "nut")


def test_no_root(root):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*expected <root>/<category>"):
        load_mvtec(root / "nowhere", "nut")


def test_no_folders_of_images(root):
    (root / "bolt" / "train").mkdir(parents=True)
    with pytest.raises(
        FileNotFoundError, match=r"no image that matches.*expected <root>/<category>"
    ):
        load_mvtec(root, "bolt")


def test_an_empty_folder_of_images(root):
    (root / "nut" / "test" / "dent").mkdir()
    with pytest.raises(FileNotFoundError, match="dent has no image"):
        load_mvtec(root, "nut", "test")


def test_defects_among_the_training_images(root):
    _save(root / "nut" / "train" / "crack" / "000.png", 0)
    with pytest.raises(DataFileError, match="training images are normal; it contains crack, good"):
        load_mvtec(root, "nut")


def test_unknown_split(root):
    with pytest.raises(ValueError, match="train, test, got 'all'"):
        load_mvtec(root, "nut", "all")


LAYOUTS = {
    "MVTec": ("good", "bad", "000_mask.png"),
    "VisA, converted": ("good", "bad", "000.png"),
    "BTech": ("ok", "ko", "000.png"),
    "BTech 03": ("ok", "ko", "000.bmp"),
    "other endings": ("Normal", "bad", "000_mask.bmp"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    good, bad, mask = LAYOUTS[layout]
    folder = tmp_path / "nut"
    for kind in (f"train/{good}", f"test/{good}", f"test/{bad}"):
        _save(folder / kind / "000.png", 0)
    _save(folder / "ground_truth" / bad / mask, 255)
    train, test = load_mvtec(tmp_path, "nut"), load_mvtec(tmp_path, "nut", "test")
    assert train.defects.tolist() == ["good"]
    assert sorted(test.defects) == sorted(["good", bad])
    assert test.masks.all(axis=(1, 2)).tolist() == (test.labels == 1).tolist()
    assert categories_in(tmp_path) == ["nut"]
    assert is_category(folder)
    assert not is_category(tmp_path)


@pytest.fixture
def visa(tmp_path):
    """A category in the layout in which VisA is published."""
    data = tmp_path / "candle" / "Data"
    for name in ("Images/Normal/0000.JPG", "Images/Normal/0001.JPG", "Images/Anomaly/000.JPG"):
        _save(data / name, 0)
    _save(data / "Masks" / "Anomaly" / "000.png", 1)
    table = tmp_path / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    table.write_text(
        "object,split,label,image,mask\n"
        "candle,train,normal,candle/Data/Images/Normal/0001.JPG,\n"
        "candle,test,normal,candle/Data/Images/Normal/0000.JPG,\n"
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
        "fryum,train,normal,fryum/Data/Images/Normal/0000.JPG,\n"
    )
    return tmp_path


def test_visa_as_published(visa):
    assert [path.name for path in load_mvtec(visa, "candle").paths] == ["0001.JPG"]
    test = load_mvtec(visa, "candle", "test")
    assert test.labels.tolist() == [0, 1]
    assert test.masks.all(axis=(1, 2)).tolist() == [False, True]
    assert categories_in(visa) == ["candle"]
    assert is_category(visa / "candle")


def test_visa_without_its_table(visa):
    (visa / "split_csv" / "1cls.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"1cls\.csv, which is missing"):
        load_mvtec(visa, "candle")
    images = load_labelled_images(visa / "candle" / "Data" / "Images")
    assert images.labels.tolist() == [1, 0, 0]
    assert images.masks.all(axis=(1, 2)).tolist() == [True, False, False]


def test_visa_without_the_category(visa):
    (visa / "nut" / "Data" / "Images").mkdir(parents=True)
    with pytest.raises(DataFileError, match="lists no image of nut for test"):
        load_mvtec(visa, "nut", "test")


def test_no_masks_at_all(root):
    shutil.rmtree(root / "nut" / "ground_truth")
    with pytest.warns(UserWarning, match="none of the 2 defects has a mask, .*: masks is None"):
        test = load_mvtec(root, "nut", "test")
    assert test.masks is None
    assert test.labels.tolist() == [1, 0, 1]


def test_masks_that_are_not_asked_for(root):
    (root / "nut" / "ground_truth" / "crack" / "000_mask.png").unlink()
    assert load_mvtec(root, "nut", "test", masks=False).masks is None


def test_training_images_without_a_folder(root):
    (root / "nut" / "train" / "good").rename(root / "nut" / "other")
    for path in (root / "nut" / "other").iterdir():
        path.rename(root / "nut" / "train" / path.name)
    assert load_mvtec(root, "nut").defects.tolist() == ["good", "good"]


def test_test_images_without_a_folder(root):
    _save(root / "nut" / "test" / "000.png", 0)
    with pytest.raises(DataFileError, match=r"000\.png is not in a folder good/"):
        load_mvtec(root, "nut", "test")


@pytest.mark.parametrize("place", ["train/.ipynb_checkpoints", "test/.git"])
def test_hidden_folders(root, place):
    part = place.partition("/")[0]
    (root / "nut" / place).mkdir()
    with pytest.warns(UserWarning, match="hidden files or folders left out: 1"):
        read = load_mvtec(root, "nut", part)
    assert len(read.images) == {"train": 2, "test": 3}[part]


def test_subfolders_of_a_kind(root):
    _save(root / "nut" / "train" / "good" / "camera" / "9.png", 9)
    train = load_mvtec(root, "nut")
    assert train.images[:, 0, 0].tolist() == [1, 2, 9]
    assert train.labels.tolist() == [0, 0, 0]


def test_turned_images_and_their_masks(root):
    """A photograph that is stored lying, and its mask as it is shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "nut" / "test" / "crack" / "000.jpg"
    (path.parent / "000.png").unlink()
    Image.new("L", SIZE).save(path, exif=exif)
    _save_mask(root / "nut", "crack", [(5, 3)], SIZE[::-1])
    test = load_mvtec(root, "nut", "test", (6, 4))
    assert np.argwhere(test.masks[0]).tolist() == [[5, 3]]


def test_damaged_images_are_left_out(root):
    (root / "nut" / "groups.csv").write_text("name,group\n001,a\n000,b\n")
    (root / "nut" / "train" / "good" / "000.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 of 2 images cannot be read"):
        train = load_mvtec(root, "nut", on_error="skip")
    assert train.images[:, 0, 0].tolist() == [2]
    assert train.groups.tolist() == ["a"]
