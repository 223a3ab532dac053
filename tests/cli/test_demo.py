import pytest

from gandetect import demo


@pytest.fixture
def recorded(monkeypatch):
    """The arguments with which the demo is called, instead of its work."""
    calls = []
    monkeypatch.setattr(demo, "run_demo", lambda out, **options: calls.append((out, options)))
    return calls


def test_what_the_demo_is_called_with(recorded, run):
    assert run("demo")[0] == 0
    assert run("demo", "--out", "here", "--seed", "5", "--detectors", "alocc, BiGAN")[0] == 0
    assert run("demo", "--epochs", "2")[0] == 0
    assert recorded == [
        ("demo-output", {"seed": 0, "detectors": None, "epochs": None}),
        ("here", {"seed": 5, "detectors": ["ALOCCDetector", "BiGANDetector"], "epochs": None}),
        ("demo-output", {"seed": 0, "detectors": None, "epochs": 2}),
    ]


def test_a_folder_that_can_not_be_made(fails):
    code, err = fails("demo", "--out", __file__)
    assert code == 1
    assert "File exists" in err
