import re

import numpy as np
import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gandetect import ConvNet, GANomalyDetector, detectors
from gandetect.notebook import parameter_docs, with_codes
from gandetect.training import loop

pytestmark = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="boxes of scikit-learn 1.9"
)


def tooltips(html):
    """What each parameter of a box says."""
    return {name: text for text, name in re.findall(r' title="([^"]*)">(\w+)</td>', html)}


@pytest.mark.parametrize("name", detectors.__all__)
def test_every_parameter_has_a_tooltip(name):
    detector = getattr(detectors, name)()
    found = tooltips(detector._repr_html_())
    assert set(found) == set(detector.get_params(deep=False))


def test_a_tooltip_says_what_the_docstring_says():
    docs = parameter_docs(GANomalyDetector)
    assert docs["trim"].startswith("float in [0, 0.5], default=0.0. Share of each batch")
    assert docs["trim"].endswith("Costs one more forward pass per update.")
    assert "verbose" in docs
    assert "model_" not in docs


def test_also_in_a_pipeline():
    html = make_pipeline(StandardScaler(), GANomalyDetector())._repr_html_()
    assert tooltips(html)["learning_rate"] == "float, default=1e-3. Step size of the optimizers."


def test_codes_are_not_called_features():
    images = np.random.default_rng(0).normal(size=(20, 8, 8))
    detector = GANomalyDetector(
        epochs=1, n_estimators=1, latent_dim=6, architecture=ConvNet(n_filters=4), random_state=0
    ).fit(images)
    html = detector._repr_html_()
    assert "<div>6 latent codes</div>" in html
    assert not re.search(r"\d features", html)
    assert "output features" not in html
    assert detector._repr_mimebundle_()["text/html"].count("6 latent codes") == 1


def test_many_and_one():
    assert with_codes("<div>100 of 2,048 features</div>") == "<div>100 of 2,048 latent codes</div>"
    assert with_codes("<div>1 feature</div>") == "<div>1 latent codes</div>"
    assert with_codes("<td>3 features</td>") == "<td>3 features</td>"


def test_progress_is_text_that_a_saved_page_holds(capsys):
    assert loop.tqdm.__module__ == "tqdm.std"  # not the widget that tqdm.auto takes in notebooks
    X = np.random.default_rng(0).normal(size=(20, 2))
    GANomalyDetector(epochs=2, n_estimators=1, random_state=0, verbose=1).fit(X)
    line = capsys.readouterr().err.split("\r")[-1]
    assert "2/2" in line
    assert "latent=" in line
