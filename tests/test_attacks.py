"""An attack stays in its ball, and fools."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from gandetect.attacks import projected_gradient

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["c", "a", "b"])[Y]


@pytest.fixture(scope="module")
def classifier():
    return LogisticRegression(max_iter=300).fit(X, NAMES)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_it_fools_within_its_ball(classifier, norm):
    attacked = projected_gradient(classifier, X, NAMES, eps=1.0, norm=norm)
    assert classifier.score(attacked, NAMES) < 0.6 < 0.9 < classifier.score(X, NAMES)
    lengths = np.linalg.norm(attacked - X, ord=norm, axis=1)
    np.testing.assert_allclose(lengths.max(), 1.0, atol=1e-9)


def test_one_step_is_the_sign_of_the_gradient():
    """Of a linear classifier: away from the weight of the true class."""
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[1.0, -1.0], [0.0, 2.0]])
    attacked = projected_gradient(model, np.ones((1, 2)), np.array([0]), eps=0.5, n_steps=1)
    np.testing.assert_allclose(attacked, [[0.5, 1.5]])


def test_it_stays_in_the_range(classifier):
    attacked = projected_gradient(classifier, X, NAMES, eps=3.0, clip=(1.0, 5.0))
    assert attacked.min() >= 1.0
    assert attacked.max() <= 5.0


def test_it_can_stop_when_the_classifier_is_fooled(classifier):
    far = projected_gradient(classifier, X, NAMES, eps=2.0, norm=2, n_steps=40)
    near = projected_gradient(
        classifier, X, NAMES, eps=2.0, norm=2, n_steps=40, stop_when_fooled=True
    )
    was_wrong = classifier.predict(X) != NAMES
    np.testing.assert_array_equal(near[was_wrong], X[was_wrong])
    both = (classifier.predict(far) != NAMES) & (classifier.predict(near) != NAMES) & ~was_wrong
    assert both.sum() > 50
    changes = [np.linalg.norm((to - X)[both], axis=1).mean() for to in (near, far)]
    assert changes[0] < 0.8 * changes[1]


def test_images():
    images = np.random.default_rng(0).uniform(size=(6, 2, 5, 4))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(18, 3))
    y = model(torch.from_numpy(images).float()).argmax(1).numpy()
    attacked = projected_gradient(model, images, y, eps=1.0, norm=2)
    assert attacked.shape == images.shape
    assert (model(torch.from_numpy(attacked).float()).argmax(1).numpy() != y).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0}, "eps must be above 0"),
        ({"norm": 1}, "norm must be inf or 2"),
        ({"y": np.full(150, "z")}, "no class z"),
    ],
)
def test_what_cannot_be_used(classifier, change, message):
    arguments = {"y": NAMES, "eps": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        projected_gradient(classifier, X, **arguments)


def test_no_gradient():
    forest = RandomForestClassifier(2).fit(X, NAMES)
    with pytest.raises(TypeError, match="RandomForestClassifier has no gradient"):
        projected_gradient(forest, X, NAMES, eps=1.0)
