import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from sklearn.decomposition import PCA

from gandetect import GANomalyDetector
from gandetect.plotting import FeatureAttributionDisplay
from gandetect.plotting.style import BLUE, GREEN, VERMILLION


def labels(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def test_the_most_anomalous_feature_comes_first():
    display = FeatureAttributionDisplay.from_predictions(
        [1.0, 9.5, 3.0], [2.0, 5.0, 3.5], feature_names=["a", "b", "c"], name="a row"
    )
    assert labels(display) == ["b = 9.5", "a = 1", "c = 3"]
    assert [bar.get_width() for bar in display.bars_] == [4.5, 1.0, 0.5]
    assert [text.get_text() for text in display.ax_.texts] == [
        "expected 5",
        "expected 2",
        "expected 3.5",
    ]
    assert same_color(display.bars_[0].get_facecolor(), VERMILLION)
    assert same_color(display.bars_[1].get_facecolor(), BLUE)
    assert display.ax_.yaxis.get_inverted()
    assert display.ax_.get_title(loc="left") == "a row"


def test_the_map_decides_and_few_are_shown():
    display = FeatureAttributionDisplay.from_predictions(
        [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], anomaly_map=[0.1, 0.9, 0.5], n_features=2
    )
    assert labels(display) == ["x1 = 2", "x2 = 3"]
    assert display.ax_.get_ylabel() == "2 of 3 features"


def test_nothing_is_cut_off():
    names = [f"a feature with the long name {i}" for i in range(4)]
    display = FeatureAttributionDisplay.from_predictions(
        [1.234e-5, 2, 3, 4], [1, 2e-7, 2, 9], feature_names=names, name="a name"
    )
    display.figure_.canvas.draw()
    frame = display.figure_.bbox
    for artist in (display.ax_.get_legend(), *display.ax_.texts, *display.ax_.get_yticklabels()):
        box = artist.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1


def test_from_a_detector_in_the_units_of_the_row():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal([0, 1000], [1, 500], size=(60, 2)), columns=["small", "large"])
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
    display = FeatureAttributionDisplay.from_estimator(detector, X.iloc[[3]])
    np.testing.assert_array_equal(display.x, X.iloc[3])
    np.testing.assert_array_equal(display.x_hat, detector.reconstruct(X)[3])
    np.testing.assert_array_equal(display.anomaly_map, detector.anomaly_map(X)[3])
    assert list(display.feature_names) == ["small", "large"]
    score = detector.anomaly_score(X)[3]
    assert display.name == f"anomaly score {score:.2f}, threshold {detector.threshold_:.2f}"


def test_what_is_no_row_is_refused():
    X = np.random.default_rng(0).normal(size=(20, 3))
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
    for wrong in (X, X[0]):
        with pytest.raises(ValueError, match=r"X\[\[i\]\]"):
            FeatureAttributionDisplay.from_estimator(detector, wrong)
    with pytest.raises(TypeError, match="PCA has no method reconstruct"):
        FeatureAttributionDisplay.from_estimator(PCA().fit(X), X[[0]])
    with pytest.raises(ValueError, match="one length"):
        FeatureAttributionDisplay.from_predictions([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="feature_names must have 2"):
        FeatureAttributionDisplay.from_predictions([1, 2], [1, 2], feature_names=["a"])


def test_of_a_table_in_its_words():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "amount": rng.normal(1000, 500, size=60),
            "country": rng.choice(["DE", "FR"], 60),
            "age": np.where(np.arange(60) % 3, 30.0, np.nan),
        }
    )
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
    odd = X.iloc[[3]].assign(country="XX", age=np.nan)
    display = FeatureAttributionDisplay.from_estimator(detector, odd)
    assert labels(display)[0] == "country = XX"
    assert "age = missing" in labels(display)
    assert display.ax_.texts[0].get_text().removeprefix("expected ") in ("DE", "FR")
    assert same_color(display.bars_[0].get_facecolor(), GREEN)
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "other than the expected value" in legend


def test_words_need_a_map():
    with pytest.raises(ValueError, match="anomaly_map is required"):
        FeatureAttributionDisplay.from_predictions(["a", 1.0], ["b", 2.0])
