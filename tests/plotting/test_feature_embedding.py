import numpy as np
import pytest
from sklearn.decomposition import PCA

from gandetect import GANomalyDetector
from gandetect.plotting import FeatureEmbeddingDisplay

Y = np.repeat([0, 1], [40, 10])


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(50, 4)) + 8 * Y[:, None]


@pytest.fixture(scope="module")
def detector(X):
    return GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X[:40])


def test_groups_that_lie_apart_stay_apart(X):
    display = FeatureEmbeddingDisplay.from_predictions(Y, X, perplexity=8, name="a method")
    distances = np.linalg.norm(display.embedding[:, None] - display.embedding, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (Y[distances.argmin(axis=1)] == Y).all()
    normal, anomalous = display.ax_.lines
    np.testing.assert_array_equal(normal.get_xydata(), display.embedding[Y == 0])
    np.testing.assert_array_equal(anomalous.get_xydata(), display.embedding[Y == 1])
    assert anomalous.zorder > normal.zorder, "the rarer kind is not covered"
    assert normal.get_marker() != anomalous.get_marker()
    entries = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert entries == ["normal (40)", "anomalous (10)"]


@pytest.mark.parametrize(
    ("of", "method"), [("features", "discriminator_features"), ("codes", "transform")]
)
def test_from_a_detector(detector, X, of, method):
    display = FeatureEmbeddingDisplay.from_estimator(detector, X, Y, of=of, perplexity=8)
    features = getattr(detector, method)(X)
    expected = FeatureEmbeddingDisplay.from_predictions(Y, features, perplexity=8)
    np.testing.assert_array_equal(display.embedding, expected.embedding)
    assert display.ax_.get_title(loc="left") == "GANomalyDetector"


def test_many_columns_are_reduced_first(X):
    wide = np.random.default_rng(0).normal(size=(60, 300))
    y = np.arange(60) % 2
    display = FeatureEmbeddingDisplay.from_predictions(y, wide, perplexity=8)
    components = PCA(50, random_state=0).fit_transform(wide)
    expected = FeatureEmbeddingDisplay.from_predictions(y, components, perplexity=8)
    np.testing.assert_array_equal(display.embedding, expected.embedding)


def test_what_can_not_be_drawn(detector, X):
    with pytest.raises(ValueError, match='"features" or "codes", got \'pixels\''):
        FeatureEmbeddingDisplay.from_estimator(detector, X, Y, of="pixels")
    with pytest.raises(TypeError, match="PCA has no method discriminator_features"):
        FeatureEmbeddingDisplay.from_estimator(PCA().fit(X), X, Y)
    with pytest.raises(ValueError, match="perplexity"):
        FeatureEmbeddingDisplay.from_predictions(Y, X, perplexity=50)
    with pytest.raises(ValueError, match="inconsistent"):
        FeatureEmbeddingDisplay.from_predictions(Y[1:], X)
