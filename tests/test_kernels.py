"""Scores do not depend on which of their kernels MKL and oneDNN choose.

A processor of another maker has other kernels, so that a test on one machine says little of the
next: each case runs in a process of its own that is told which kernels to use.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gandetect import MLP, ConvNet
from gandetect.model.fitted import SCORE_TOLERANCE
from tests.helpers import rounding_of

# Scores each saved detector's samples together, alone, in another order, and in parts; with the
# threshold on each of some samples, it labels these in each of the batches.
SCRIPT = """
import json, sys
import numpy as np, torch
import gandetect
folder, n_threads, uses_onednn, *names = sys.argv[1:]
torch.set_num_threads(int(n_threads))
torch.backends.mkldnn.set_flags(uses_onednn == "True")

def answers(detector, X):
    n = len(X)
    order = np.random.default_rng(0).permutation(n)
    together = detector.anomaly_score(X)
    shuffled, parts = np.empty(n), []
    shuffled[order] = detector.anomaly_score(X[order])
    for part in np.array_split(X, 3):
        parts.append(detector.anomaly_score(part))
    some = [1, n - 1]
    alone = [detector.anomaly_score(X[i : i + 1])[0] for i in some]
    labels = []
    for i, score in zip(some, alone):
        detector.threshold_ = score
        batches = [[i], [*some, i], order.tolist()]
        labels += [detector.predict(X[batch])[batch.index(i)] for batch in batches]
    return {
        "together": together.tolist(),
        "shuffled": shuffled.tolist(),
        "parts": np.concatenate(parts).tolist(),
        "alone": [*map(float, alone)],
        "labels": [*map(int, labels)],
    }

found = {}
for name in names:
    detector = gandetect.load(f"{folder}/{name}.safetensors")
    found[name] = answers(detector, np.load(f"{folder}/{name.split('_')[-1]}.npy"))
print(json.dumps(found))
"""
KERNELS = [
    (None, 1, True),
    ("AVX2", 1, False),
    ("COMPATIBLE", 1, True),
    (None, 2, False),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory, every_detector, make, rows, images):
    """Detectors of rows and of images in files, beside what they score here and its rounding."""
    folder = tmp_path_factory.mktemp("kernels")
    # 6 columns: in products as narrow, some kernels round a row by its place.
    X = {"rows": rows[:530], "images": images[:70]}
    architecture = {"rows": MLP(), "images": ConvNet(n_filters=2)}
    expected = {}
    for kind, x in X.items():
        np.save(folder / f"{kind}.npy", x)
        for Detector in every_detector:
            detector = make(Detector, architecture=architecture[kind], epochs=3)
            detector.fit(x[:60])
            name = f"{Detector.__name__}_{kind}"
            detector.save(folder / f"{name}.safetensors")
            expected[name] = detector.anomaly_score(x), rounding_of(detector)
    return folder, expected


@pytest.mark.parametrize(("mkl", "n_threads", "uses_onednn"), KERNELS)
def test_scores_and_labels(saved, mkl, n_threads, uses_onednn):
    folder, expected = saved
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    if mkl:
        environment["MKL_CBWR"] = mkl
    arguments = [str(folder), str(n_threads), str(uses_onednn), *expected]
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for case, found in json.loads(done.stdout).items():
        scores, rounding = expected[case]
        together = np.array(found["together"])
        bound = SCORE_TOLERANCE * np.maximum(1, np.abs(together))
        for how in ("shuffled", "parts"):
            assert (np.abs(found[how] - together) <= bound).all(), (case, how)
        n = len(together)
        some = [1, n - 1]
        assert (np.abs(found["alone"] - together[some]) <= bound[some]).all(), case
        assert set(found["labels"]) == {1}, case
        np.testing.assert_allclose(together, scores, atol=rounding, rtol=1e-5, err_msg=case)
