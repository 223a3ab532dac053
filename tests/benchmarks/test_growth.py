"""How times grow: the exponents, and that a broken-off benchmark goes on."""

import growth
import numpy as np
import pytest


class Quadratic:
    """Fits in a time that grows with the square of the size, and scores in one that does not."""

    clock = 0.0

    def fit(self, X):
        type(self).clock += X.shape[1] ** 2
        return self

    def score_samples(self, X):
        type(self).clock += 1.0
        return np.zeros(len(X))


@pytest.fixture
def known_times(monkeypatch):
    made = []

    def make(name, *_, **params):
        made.append((name, params))
        return Quadratic()

    monkeypatch.setattr(growth, "make_detector", make)
    monkeypatch.setattr(growth.time, "perf_counter", lambda: Quadratic.clock)
    growth.warmed.cache_clear()
    return made


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_exponent_by_hand(power):
    sizes = np.array([10, 40, 160])
    assert growth.exponent(sizes, 3 * sizes**power) == pytest.approx(power)


def test_exponents_of_known_times_and_no_run_twice(known_times, tmp_path, capsys):
    out = tmp_path / "growth.csv"
    arguments = ["--axes", "columns", "--sizes", "4,8,16", "--detectors", "iforest"]
    assert growth.main([*arguments, "--out", str(out)]) == 0
    assert "| columns | iforest | 4 to 16 | 2.00 | 0.00 |" in capsys.readouterr().out
    n_made = len(known_times)
    assert n_made == 4  # and one untimed
    assert growth.main([*arguments, "--out", str(out)]) == 0
    assert len(known_times) == n_made


def test_what_grows_is_what_the_detector_gets(known_times, tmp_path):
    arguments = ["--detectors", "GANomaly,iforest", "--out", str(tmp_path / "growth.csv")]
    growth.main(["--axes", "members", "--sizes", "1,3", *arguments])
    assert {name for name, _ in known_times} == {"GANomaly"}
    assert [params["n_estimators"] for _, params in known_times] == [1, 1, 3]


@pytest.mark.parametrize(
    ("axis", "shape"),
    [("rows", (5, 20)), ("columns", (1000, 5)), ("side", (64, 5, 5)), ("members", (2000, 20))],
)
def test_shapes(axis, shape):
    assert growth.samples_of(axis, 5, 0).shape == shape


def test_an_unknown_axis_is_refused(tmp_path):
    with pytest.raises(SystemExit):
        growth.main(["--axes", "depth", "--out", str(tmp_path / "growth.csv")])
