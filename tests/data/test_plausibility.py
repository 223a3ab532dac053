"""What is told of data that are read as something else than they are, and what is not."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from gandetect.data.plausibility import (
    channels_warning,
    folder_warning,
    mismatch_hint,
    names_warning,
    range_warning,
    windows_warning,
)


class TestChannels:
    @pytest.mark.parametrize("shape", [(3, 64, 64), (1, 28, 28), (4, 20, 30), (3, 256, 512)])
    def test_first_read_as_last(self, shape):
        for axis in (-1, 2):
            told = channels_warning(shape, axis)
            assert f"images of {shape[-1]} channels" in told
            assert told.endswith("pass channel_axis=0.")

    @pytest.mark.parametrize("shape", [(64, 64, 3), (28, 28, 1), (20, 30, 4)])
    def test_last_read_as_first(self, shape):
        for axis in (0, -3):
            told = channels_warning(shape, axis)
            assert f"images of {shape[0]} channels" in told
            assert told.endswith("pass channel_axis=-1.")

    @pytest.mark.parametrize(
        ("shape", "axis"),
        [
            ((64, 64, 3), -1),
            ((3, 64, 64), 0),
            ((64, 64, 12), -1),  # spectral channels
            ((3, 3, 3), -1),
            ((1, 1, 3), -1),
            ((28, 28), -1),
            ((30,), -1),
            ((3, 64, 64), None),
        ],
    )
    def test_others(self, shape, axis):
        assert channels_warning(shape, axis) is None


def _windows(n_channels, length=40, scale=100.0):
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, length, n_channels)) * scale ** np.arange(n_channels)


class TestWindows:
    @pytest.mark.parametrize(("length", "n_channels"), [(16, 2), (50, 3), (24, 8), (100, 1)])
    def test_narrow_images(self, length, n_channels):
        x = np.zeros((9, length, n_channels))
        for X in (x, x.swapaxes(1, 2)):
            assert f"a series with {n_channels} channel" in windows_warning(X)
            assert "X.reshape(len(X), -1)" in windows_warning(X)

    def test_columns_in_units_of_their_own(self):
        X = _windows(12, scale=10.0)
        assert "a series with 12 channels" in windows_warning(X)
        assert "a series with 12 channels" in windows_warning(X.swapaxes(1, 2))

    @pytest.mark.parametrize(
        "X",
        [
            load_digits().images,
            np.zeros((9, 28, 28)),
            np.zeros((9, 64, 64, 3)),
            np.zeros((9, 30)),
            np.zeros((0, 16, 2)),
            np.random.default_rng(0).integers(0, 256, (9, 20, 60), np.uint8),
            np.random.default_rng(0).normal(size=(9, 20, 60)).cumsum(axis=2),
        ],
        ids=["digits", "empty", "colour", "rows", "none", "noise", "gradient"],
    )
    def test_images(self, X):
        assert windows_warning(X) is None


class TestRange:
    @pytest.mark.parametrize(
        ("fitted", "values", "dtype", "expected"),
        [
            ((0, 1), [0, 255], np.uint8, "pass X / 255."),
            ((0, 1), [0.0, 200.0], float, "pass X / 255."),
            ((0, 0.9), [12, 60000], np.uint16, "pass X / 65535."),
            ((-1, 1), [0, 255], np.uint8, "pass X / 127.5 - 1."),
            ((0, 255), [0.0, 1.0], float, "pass X * 255."),
            ((0, 255), [False, True], bool, "pass X * 255."),
            ((3, 250), [0.1, 0.9], np.float32, "pass X * 255."),
            ((0, 255), [-1.0, 1.0], float, "pass (X + 1) * 127.5."),
            ((0, 255), [0, 65535], np.uint16, "pass X / 257"),
        ],
    )
    def test_other_units(self, fitted, values, dtype, expected):
        told = range_warning(fitted, np.array(values, dtype=dtype))
        assert expected in told
        assert f"X has values from {values[0]:g} to {values[1]:g}" in told

    @pytest.mark.parametrize(
        ("fitted", "values", "dtype"),
        [
            ((0, 255), [0, 255], np.uint8),
            ((0, 255), [0, 1], np.uint8),  # dark
            ((0, 255), [0.0, 0.0], float),  # black
            ((0, 1), [0.0, 1.4], float),
            ((0, 1), [-3.0, 5.0], float),
            ((0, 4095), [0, 65535], np.uint16),
            ((-7, 9), [0.0, 1.0], float),
            ((0, 1), [], float),
        ],
    )
    def test_the_same_units(self, fitted, values, dtype):
        assert range_warning(fitted, np.array(values, dtype=dtype)) is None


class TestMismatch:
    @pytest.mark.parametrize(
        ("shape", "fitted", "n_samples", "expected"),
        [
            ((16,), (16, 16), 16, "X is one sample: pass X[None]."),
            ((16, 3), (16, 16, 3), 16, "X is one sample: pass X[None]."),
            ((3, 20, 30), (20, 30, 3), 5, "pass np.moveaxis(X, 1, -1)"),
            ((20, 30, 3), (3, 20, 30), 5, "pass np.moveaxis(X, -1, 1)"),
            ((90, 80, 3), (64, 48), 5, "ImageFolder(path, image_size=(64, 48), channels=1)"),
            ((90, 80, 3), (64, 48, 3), 5, "--image-size 64,48 --channels 3"),
        ],
    )
    def test_what_to_pass(self, shape, fitted, n_samples, expected):
        assert expected in mismatch_hint(shape, fitted, n_samples)

    @pytest.mark.parametrize(
        ("shape", "fitted"),
        [((5,), (6,)), ((64,), (8, 8)), ((8, 8), (64,)), ((9, 9, 5), (8, 8, 5))],
    )
    def test_nothing_to_say(self, shape, fitted):
        assert mismatch_hint(shape, fitted, 5) is None


def _told(*names):
    return folder_warning([Path("x", name) for name in names], Path("x"))


class TestFolders:
    @pytest.mark.parametrize(
        ("names", "n", "where"),
        [
            (["good/0.png", "bad/0.png", "bad/1.png"], 2, "(bad)"),
            (["OK/0.png", "KO/0.png"], 1, "(KO)"),
            (["good/0.png", "scratch/0.png", "dent/0.png"], 2, "(dent, scratch)"),
            (["good/0.png", "0.png"], 1, "(.)"),
            (["0/a.png", "1/a.png"], 1, "(1)"),
            (["1/a.png", "-1/a.png"], 1, "(-1)"),
            (["camera/good/0.png", "camera/bad/0.png"], 1, "(camera/bad)"),
            (["train/good/0.png", "test/good/0.png", "test/cut/0.png"], 2, "(test/cut, test/good)"),
            (["train/0.png", "test/0.png"], 1, "(test)"),
            (["train/good/0.png", "ground_truth/cut/0_mask.png"], 1, "(ground_truth/cut)"),
            (["a/0.png", "a/0_mask.png"], 1, "(a)"),
        ],
    )
    def test_more_than_normal_images(self, names, n, where):
        told = _told(*names)
        found = f"By their paths, {n} of the {len(names)} images in x"
        assert told.startswith(f"{found} seem to be anomalies, masks or")
        assert where in told

    def test_the_folder_of_the_normal_ones_is_named(self):
        told = _told("train/good/0.png", "test/bad/0.png")
        assert f"as in {Path('x', 'train', 'good')}" in told

    @pytest.mark.parametrize(
        "names",
        [
            ["0.png", "1.png"],
            ["good/0.png", "good/1.png"],
            ["good/camera/0.png", "ok/1.png"],
            ["cats/0.png", "dogs/0.png"],
            ["0/a.png", "1/a.png", "2/a.png"],
            ["a/gas_mask.png", "a/b.png"],
        ],
    )
    def test_nothing_to_say(self, names):
        assert _told(*names) is None


def _told_of(**counts):
    names = [f"{name.replace('X', str(i))}.png" for name, n in counts.items() for i in range(n)]
    return names_warning([Path("x", name) for name in names], "x")


class TestNamesOfFiles:
    @pytest.mark.parametrize(
        ("counts", "n", "words"),
        [
            ({"good_X": 9, "defect_X": 3}, 3, "(defect: 3)"),
            ({"ok-X": 9, "ng-X": 3}, 3, "(ng: 3)"),
            ({"OKX": 2, "NGX": 2}, 2, "(ng: 2)"),
            ({"img_X": 9, "img_X_anomaly": 1}, 1, "(anomaly: 1)"),
            ({"goodX": 1, "Anomaly (X)": 2}, 2, "(anomaly: 2)"),
            ({"scanGoodX": 5, "scanCrackedX": 2}, 2, "(cracked: 2)"),
            ({"no_defect_X": 4, "defect_X": 3, "crackX": 1}, 4, "(defect: 3, crack: 1)"),
            ({"0X": 4, "outlier.X": 4}, 4, "(outlier: 4)"),
        ],
    )
    def test_anomalies_are_counted(self, counts, n, words):
        told = _told_of(**counts)
        total = sum(counts.values())
        found = f"By their file names, {n} of the {total} images in x"
        assert told.startswith(f"{found} seem to be anomalies")
        assert words in told

    def test_a_pattern_of_the_normal_ones(self):
        assert "as in ImageFolder(path, pattern='**/OK*')." in _told_of(OK_X=3, NOK_X=1)
        assert _told_of(X=3, defect_X=1).endswith("Pass the normal images only.")

    @pytest.mark.parametrize(
        "counts",
        [
            {"good_X": 3},
            {"good_X": 3, "other_X": 3},
            {"defect_X": 3},  # all of one kind: what they are called is theirs
            {"defect_X": 9, "X": 2},
            {"no_defect_X": 3, "X": 3},
            {"defect-free-X": 3, "X": 3},
            {"NG-X": 2, "AB-X": 7},  # initials
            {"badge_X": 2, "X": 7},
            {"defector_X": 2, "X": 7},
            {"éX": 2, "X": 2},
        ],
    )
    def test_nothing_to_say(self, counts):
        assert _told_of(**counts) is None
