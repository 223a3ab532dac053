import sys
from dataclasses import replace

import pytest
import torch

from gandetect.demo import run, run_demo
from gandetect.demo.tasks import table_as_it_comes


@pytest.fixture
def one_task(monkeypatch):
    monkeypatch.setattr(run, "TASKS", (table_as_it_comes,))


def test_table_progress_and_pictures(one_task, tmp_path, capsys):
    results = run_demo(tmp_path / "new" / "folder", detectors=["GANomaly"], epochs=2)
    assert [result.method for result in results] == [
        "GANomalyDetector",
        "IsolationForest",
        "k-nearest neighbours",
    ]
    # IsolationForest and the neighbours separate these tumours well, or the task is set up wrong.
    assert all(result.roc_auc > 0.85 for result in results[1:])
    assert all(abs(result.share_flagged - result.share_expected) < 0.15 for result in results)
    out, err = capsys.readouterr()
    assert "Fitted for 2 epochs on 178 normal rows of 15" in " ".join(out.split())
    for result in results:
        assert f"  {result.method:22}{result.roc_auc:7.3f}" in out
    for i, result in enumerate(results, start=1):
        assert f"[{i}/3] a table as it comes: {result.method} ... done (" in err
    assert str((tmp_path / "new" / "folder").resolve()) in out
    for path in (tmp_path / "new" / "folder").iterdir():
        assert path.name in out
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "a-table-as-it-comes-GANomalyDetector-report.html",
        "a-table-as-it-comes-scores.png",
    ]


def test_the_same_seed_gives_the_same_results(one_task, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "save_pictures", lambda *_: [])

    def timeless(seed):
        results = run_demo(tmp_path, seed=seed, detectors=["GANomaly"], epochs=1)
        return [replace(result, fit_seconds=0.0) for result in results]

    assert timeless(0) == timeless(0)
    assert timeless(0) != timeless(1)


def test_the_number_of_threads_is_put_back(one_task, tmp_path, monkeypatch):
    def fail(*_):
        assert torch.get_num_threads() == 1
        raise RuntimeError("stop here")

    monkeypatch.setattr(run, "fit_and_judge", fail)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="stop here"):
            run_demo(tmp_path, detectors=["GANomaly"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_nothing_runs_when_matplotlib_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"gandetect\[plot\]"):
        run_demo(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert capsys.readouterr() == ("", "")


def test_an_unknown_detector_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ValueError, match="no detector 'Gnomaly'"):
        run_demo(tmp_path / "new", detectors=["Gnomaly"])
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        run_demo(tmp_path / "file")
