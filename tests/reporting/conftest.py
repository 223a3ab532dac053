"""Small fitted detectors, of a table and of images, and what they are asked about."""

import numpy as np
import pandas as pd
import pytest

from gandetect import ConvNet, GANomalyDetector

EVIL = '<script>document.title="broken"</script>'


@pytest.fixture(scope="session")
def table():
    """(120, 3) of numbers, words and gaps, of which the last ten lie far off; and labels."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=120), "b": rng.normal(size=120)})
    X[EVIL] = np.where(rng.random(120) < 0.5, EVIL, "plain")
    X.loc[:4, "a"] = None
    X.loc[110:, "b"] += 30
    return X, np.repeat([0, 1], [110, 10])


@pytest.fixture(scope="session")
def of_table(table):
    X, _ = table
    return GANomalyDetector(epochs=5, n_estimators=1, validation_fraction=0.2, random_state=0).fit(
        X[:80]
    )


@pytest.fixture(scope="session")
def images():
    """(20, 8, 8) in 8 bits, of which the last four have a bright spot."""
    X = np.random.default_rng(0).integers(90, 110, size=(20, 8, 8), dtype=np.uint8)
    X[16:, 2:5, 2:5] = 250
    return X


@pytest.fixture(scope="session")
def of_images(images):
    return GANomalyDetector(
        epochs=1, n_estimators=1, architecture=ConvNet(n_filters=4), random_state=0
    ).fit(images[:16])
