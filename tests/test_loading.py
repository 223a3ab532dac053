"""`gandetect.load` opens what the catalogue has, and nothing else."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import gandetect
from gandetect import ArchiveError, GANomalyDetector
from gandetect.archive import write_archive


@dataclass(eq=False, repr=False, kw_only=True)
class OwnDetector(GANomalyDetector):
    """Not of the package."""


def test_any_detector_of_the_catalogue(fitted_and_X, tmp_path):
    fitted, X = fitted_and_X
    fitted.save(tmp_path / "detector")
    loaded = gandetect.load(tmp_path / "detector")
    assert type(loaded) is type(fitted)
    np.testing.assert_array_equal(loaded.anomaly_score(X), fitted.anomaly_score(X))


def test_a_detector_of_ones_own_is_refused(rows, tmp_path):
    OwnDetector(epochs=1, n_estimators=1).fit(rows[:30]).save(tmp_path / "detector")
    with pytest.raises(ArchiveError, match="'OwnDetector'"):
        gandetect.load(tmp_path / "detector")
    assert type(OwnDetector.load(tmp_path / "detector")) is OwnDetector


def test_another_classes_load_is_refused(rows, tmp_path):
    GANomalyDetector(epochs=1, n_estimators=1).fit(rows[:30]).save(tmp_path / "detector")
    with pytest.raises(ArchiveError, match=r"contains the class GANomalyDetector.*gandetect\.load"):
        OwnDetector.load(tmp_path / "detector")


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "BaseDetector",
        "load",
        "annotations",
        "__all__",
        "",
        None,
        3,
        ["a"],
        np.array(["a", "b"]),
    ],
)
def test_nothing_is_imported_by_a_name(tmp_path, name):
    write_archive(tmp_path / "file", {"detector": name, "parameters": {"command": "true"}})
    with pytest.raises(ArchiveError):
        gandetect.load(tmp_path / "file")


def test_a_pickle_is_refused_unread(fitted_to_rows, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(pickle.dumps(fitted_to_rows))
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    with pytest.raises(ArchiveError):
        gandetect.load(tmp_path / "file")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        gandetect.load(tmp_path / "file")
