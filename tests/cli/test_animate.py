from pathlib import Path

import pytest

from gandetect import plotting


@pytest.fixture
def recorded(monkeypatch):
    calls = []

    def animate(run_folder, out, **options):
        calls.append((run_folder, out, options))

    monkeypatch.setattr(plotting, "animate", animate, raising=False)
    return calls


def test_what_the_film_is_made_of(recorded, run, tmp_path):
    out = tmp_path / "film.mp4"
    code, shown, _ = run("animate", "here", "--out", out)
    assert (code, shown) == (0, f"{out}\n")
    more = ("--panels", "fake,true", "--fps", "5", "--dpi", "50")
    assert run("animate", "here", "--out", out, *more)[0] == 0
    assert recorded == [
        (Path("here"), out, {"fps": 2.0, "dpi": 100}),
        (Path("here"), out, {"fps": 5.0, "dpi": 50, "panels": ["fake", "true"]}),
    ]


def test_a_folder_that_is_missing(recorded, fails, tmp_path):
    code, err = fails("animate", "here", "--out", tmp_path / "x" / "film.gif")
    assert (code, "no such folder" in err) == (1, True)
    assert recorded == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--dpi", "3", "an integer, 10 to 600"),
        ("--dpi", "100000", "an integer, 10 to 600"),
        ("--fps", "0", "a number, 0.01 to 100"),
    ],
)
def test_what_no_film_has(recorded, fails, option, value, message):
    code, err = fails("animate", "here", option, value)
    assert (code, message in err) == (2, True)
    assert recorded == []
