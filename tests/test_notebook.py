import re
from email.message import Message
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gandetect import ConvNet, GANomalyDetector, detectors
from gandetect.notebook import documentation_page, parameter_docs, with_codes
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
    assert docs["trim"].endswith("It needs one more forward pass per update.")
    assert "verbose" in docs
    assert "model_" not in docs


def test_also_in_a_pipeline():
    html = make_pipeline(StandardScaler(), GANomalyDetector())._repr_html_()
    assert tooltips(html)["learning_rate"] == "float, default=1e-3. Step size of the optimizers."


class TestDocumentationLink:
    @pytest.fixture
    def published(self, monkeypatch):
        """Have the package state this address of its documentation, as a release does."""

        def at(address):
            stated = Message()
            stated["Project-URL"] = "Source, https://example.org/code"
            if address:
                stated["Project-URL"] = f"Documentation, {address}"
            monkeypatch.setattr("gandetect.notebook.metadata", lambda name: stated)

        return at

    @pytest.mark.parametrize("address", ["https://example.org/docs", "https://example.org/docs/"])
    def test_the_box_and_every_parameter_link_to_the_page_of_the_class(self, published, address):
        published(address)
        page = "https://example.org/docs/api/generated/gandetect.GANomalyDetector.html"
        html = GANomalyDetector()._repr_html_()
        links = re.findall(r'href="([^"]*)"', html)
        assert page in links  # the question mark in the head of the box
        parameters = set(GANomalyDetector().get_params(deep=False))
        assert sum(link.startswith(page + "#") for link in links) == len(parameters)
        for name in parameters:
            assert re.search(rf'param-doc-link"[^>]*>\s*{name}\s*<span', html), name

    def test_without_an_address_there_is_no_link(self, published):
        published(None)
        assert "href" not in GANomalyDetector()._repr_html_()

    def test_nor_in_a_checkout_that_is_not_installed(self, monkeypatch):
        def missing(name):
            raise PackageNotFoundError(name)

        monkeypatch.setattr("gandetect.notebook.metadata", missing)
        assert documentation_page(GANomalyDetector) == ""

    def test_a_detector_of_ones_own_has_its_own_pages(self, published):
        published("https://example.org/docs")

        class Own(GANomalyDetector):
            pass

        assert documentation_page(Own) == ""


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
