import json

from gandetect.datasets.catalogue import CATALOGUE


def test_what_is_there(run, data_dir):
    code, out, err = run("datasets", "--data-dir", data_dir, "--format", "json")
    assert (code, err) == (0, "")
    found = {line["name"]: line["found"] for line in json.loads(out)}
    assert list(found) == list(CATALOGUE)
    assert found["mnist"] == str(data_dir / "mnist.npz")
    assert found["cifar10"] == "no"


def test_without_a_folder(run, monkeypatch):
    monkeypatch.delenv("GANDETECT_DATA", raising=False)
    code, out, _ = run("datasets", "--format", "csv")
    assert code == 0
    assert "mnist,mnist,no folder," in out


def test_what_is_there_is_not_fetched(run, data_dir):
    assert run("datasets", "--data-dir", data_dir, "--download", "mnist")[0] == 0


def test_mistakes(fails, tmp_path, monkeypatch):
    code, err = fails("datasets", "--download", "mvtec", "--data-dir", tmp_path)
    assert (code, "mvtec cannot be downloaded" in err) == (1, True)
    monkeypatch.delenv("GANDETECT_DATA", raising=False)
    code, err = fails("datasets", "--download", "mnist")
    assert (code, "GANDETECT_DATA" in err) == (1, True)
    code, err = fails("datasets", "--download", "nothing")
    assert (code, "no data set 'nothing' to download, only mnist" in err) == (2, True)
