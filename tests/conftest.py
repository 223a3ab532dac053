"""What the tests of the whole share: every registered detector, small data, fitted detectors."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")  # figures without a screen

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from gandetect import detectors
from gandetect.networks import ConvNet
from tests.helpers import marks_of

torch.set_num_threads(1)

# What a detector's constructor needs beside the shared parameters to be tested in seconds.
CONSTRUCTOR_ARGUMENTS: dict[str, dict[str, object]] = {}


def make_detector(Detector, **parameters):
    """A detector of this class that fits in a moment."""
    own = CONSTRUCTOR_ARGUMENTS.get(Detector.__name__, {})
    return Detector(**{"epochs": 2, "n_estimators": 2, "random_state": 0, **own, **parameters})


def registered():
    return [getattr(detectors, name) for name in detectors.__all__]


def pytest_generate_tests(metafunc):
    """Run a test that takes `sklearn_check` with each of scikit-learn's checks of a detector."""
    if "sklearn_check" in metafunc.fixturenames:
        checks = parametrize_with_checks([make_detector(cls) for cls in registered()])
        names, cases = checks.args
        metafunc.parametrize(names.replace("check", "sklearn_check"), list(cases), **checks.kwargs)


def pytest_collection_modifyitems(items):
    """Skip the examples in docstrings that need callbacks or exporting where these are missing."""
    for item in items:
        if hasattr(item, "dtest"):
            for mark in marks_of("".join(example.source for example in item.dtest.examples)):
                item.add_marker(mark)


@pytest.fixture(scope="session", params=registered(), ids=lambda cls: cls.__name__)
def Detector(request):
    return request.param


@pytest.fixture(scope="session")
def every_detector():
    """All at once, where one process serves them all."""
    return registered()


@pytest.fixture(scope="session")
def make():
    return make_detector


@pytest.fixture(scope="session")
def rows():
    """(1100, 6): more than two blocks of scoring, on a plane but for some noise."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(1100, 2)) @ rng.normal(size=(2, 6))
    return plane + 0.1 * rng.normal(size=plane.shape)


@pytest.fixture(scope="session")
def images():
    """(150, 9, 13, 3): more than two blocks of scoring, odd sizes; soft stripes of any phase."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, size=(150, 1, 1, 1))
    x = np.arange(13).reshape(1, 1, 13, 1)
    stripes = np.sin(x / 2 + phase) * np.array([1.0, 0.5, -1.0])
    return np.repeat(stripes, 9, axis=1) + 0.05 * rng.normal(size=(150, 9, 13, 3))


@pytest.fixture(scope="session")
def tiny_convnet():
    return ConvNet(n_filters=4)


@pytest.fixture(scope="session")
def fitted_to_rows(Detector, rows):
    """Shared by many tests, none of which may change it."""
    return make_detector(Detector).fit(rows[:200])


@pytest.fixture(scope="session")
def fitted_to_images(Detector, images, tiny_convnet):
    """Shared by many tests, none of which may change it."""
    return make_detector(Detector, architecture=tiny_convnet, latent_dim=4).fit(images[:60])


@pytest.fixture(params=["rows", "images"])
def fitted_and_X(request, fitted_to_rows, rows, fitted_to_images, images):
    """A fitted detector beside samples of which it has seen some: of rows, then of images."""
    if request.param == "rows":
        return fitted_to_rows, rows
    return fitted_to_images, images
