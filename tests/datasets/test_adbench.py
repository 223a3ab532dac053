import numpy as np
import pytest

from gandetect.datasets import DataFileError, list_adbench, load_adbench


def _write(folder, name="6_cardio", X=((1, 2), (3, 4), (5, 60)), y=(0, 0, 1)):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", X=np.asarray(X), y=np.asarray(y))


@pytest.mark.parametrize("name", ["cardio", "6_cardio", "CARDIO"])
@pytest.mark.parametrize("subfolder", [".", "adbench", "adbench/Classical", "Classical"])
def test_names_and_places(tmp_path, name, subfolder):
    _write(tmp_path / subfolder)
    cardio = load_adbench(name, tmp_path)
    assert cardio.data.dtype == np.float64
    assert cardio.data.tolist() == [[1, 2], [3, 4], [5, 60]]
    assert cardio.target.dtype == np.int64
    assert cardio.target.tolist() == [0, 0, 1]
    assert cardio.name == "6_cardio"


def test_a_name_is_not_part_of_another(tmp_path):
    _write(tmp_path, "7_Cardiotocography")
    _write(tmp_path, "6_cardio", y=(1, 0, 0))
    assert load_adbench("cardio", tmp_path).target.tolist() == [1, 0, 0]


def test_list_is_sorted_by_number_and_holds_data_sets_only(tmp_path):
    for name in ("10_cover", "2_annthyroid", "mnist", "4_breastw"):
        _write(tmp_path, name)
    assert list_adbench(tmp_path) == ["2_annthyroid", "4_breastw", "10_cover"]


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    _write(tmp_path / "adbench")
    monkeypatch.setenv("GANDETECT_DATA", str(tmp_path))
    assert list_adbench() == ["6_cardio"]
    assert load_adbench("cardio").name == "6_cardio"


def test_missing_data_set_lists_what_is_there(tmp_path):
    _write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"which has 6_cardio\. Put <number>_wine\.npz"):
        load_adbench("wine", tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": [1, 2, 3]}, "table of numbers"),
        ({"X": [["a"], ["b"], ["c"]]}, "table of numbers"),
        ({"X": [[np.nan], [1], [2]]}, "NaN or infinite"),
        ({"X": [[1], [np.inf], [2]]}, "NaN or infinite"),
        ({"y": [0, 1]}, "each of 3 rows"),
        ({"y": [0, 1, 2]}, "each of 3 rows"),
        ({"y": [[0], [1], [0]]}, "each of 3 rows"),
    ],
)
def test_mislabelled_files(tmp_path, arrays, message):
    _write(tmp_path, **arrays)
    with pytest.raises(DataFileError, match=message):
        load_adbench("cardio", tmp_path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut off", b"no archive", b""])
def test_damaged_file(tmp_path, content):
    (tmp_path / "6_cardio.npz").write_bytes(content)
    with pytest.raises(DataFileError, match="6_cardio") as caught:
        load_adbench("cardio", tmp_path)
    assert "trust" not in str(caught.value)
    assert "pickle" not in str(caught.value)


def test_objects_are_refused(tmp_path):
    _write(tmp_path, X=np.array([[{}], [{}], [{}]]))
    with pytest.raises(DataFileError, match="contains Python objects"):
        load_adbench("cardio", tmp_path)
