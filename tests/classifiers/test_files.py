"""Classifiers from files: scikit-learn's as data, networks as programs."""

import zipfile

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from gandetect import AdversarialVAEDetector
from gandetect.classifiers.files import read_classifier
from tests.helpers import needs_export


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2)).eval()


@pytest.fixture
def program(tmp_path):
    """A network, and the file of its program."""
    net, path = network(), tmp_path / "net.pt2"
    shapes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(net, (torch.zeros(2, 3),), dynamic_shapes=shapes)
    torch.export.save(exported, path)
    return net, path


def test_a_program_answers_as_its_network_and_has_a_gradient(program):
    net, path = program
    classifier = read_classifier(path)
    for n in (1, 7):
        x = torch.randn(n, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
        answer = classifier.eval()(x)
        torch.testing.assert_close(answer, net(x))
        (slope,) = torch.autograd.grad(answer.sum(), x)
        assert slope.abs().sum() > 0


def test_a_detector_guards_it_and_the_file_of_the_detector_leaves_it_out(program, tmp_path):
    net, path = program
    X = np.random.default_rng(0).normal(size=(60, 3))
    settings = {"epochs": 1, "n_estimators": 1, "random_state": 0}
    detector = AdversarialVAEDetector(classifier=read_classifier(path), **settings).fit(X)
    own = AdversarialVAEDetector(classifier=net, **settings).fit(X)
    np.testing.assert_allclose(detector.anomaly_score(X), own.anomaly_score(X), rtol=1e-5)
    detector.save(tmp_path / "guard")
    with pytest.raises(TypeError, match="classifier"):
        AdversarialVAEDetector.load(tmp_path / "guard")
    loaded = AdversarialVAEDetector.load(tmp_path / "guard", classifier=read_classifier(path))
    np.testing.assert_array_equal(loaded.anomaly_score(X), detector.anomaly_score(X))


@needs_export
def test_a_program_for_one_size_of_batch_is_refused_before_training(tmp_path):
    exported = torch.export.export(network(), (torch.zeros(2, 3),))
    torch.export.save(exported, tmp_path / "two.pt2")
    detector = AdversarialVAEDetector(classifier=read_classifier(tmp_path / "two.pt2"))
    with pytest.raises(ValueError, match="cannot be applied"):
        detector.fit(np.random.default_rng(0).normal(size=(60, 3)))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_classifier(tmp_path / "none.pt2")
    for ending in ("pkl", "pt", "joblib"):
        with pytest.raises(ValueError, match=r"\.skops or \.pt2"):
            read_classifier(tmp_path / f"net.{ending}")
    (tmp_path / "text.pt2").write_text("no program")
    with pytest.raises(ValueError, match=r"does not contain a torch\.export program"):
        read_classifier(tmp_path / "text.pt2")


class Foreign:
    """A type that is not scikit-learn's."""

    def predict_proba(self, X):
        return X


def test_scikit_learns_is_data(tmp_path):
    io = pytest.importorskip("skops.io")
    X = np.random.default_rng(0).normal(size=(60, 3))
    fitted = LogisticRegression().fit(X, X[:, 0] > 0)
    io.dump(fitted, tmp_path / "net.skops")
    read = read_classifier(tmp_path / "net.skops")
    np.testing.assert_array_equal(read.predict_proba(X), fitted.predict_proba(X))
    io.dump(Foreign(), tmp_path / "foreign.skops")
    with pytest.raises(ValueError, match="does not contain a scikit-learn classifier"):
        read_classifier(tmp_path / "foreign.skops")


@pytest.mark.parametrize("name", ["schema.json", "1.npy"])
def test_a_small_file_that_unpacks_to_much_is_refused_unread(name, tmp_path, monkeypatch):
    io = pytest.importorskip("skops.io")
    fitted = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    io.dump(fitted, tmp_path / "net.skops")
    bomb = tmp_path / "bomb.skops"
    with zipfile.ZipFile(tmp_path / "net.skops") as sound, zipfile.ZipFile(bomb, "w") as forged:
        for entry in set(sound.namelist()) - {name}:
            forged.writestr(entry, sound.read(entry))
        forged.writestr(name, b"[" * 2**25, compress_type=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(io, "load", lambda place: pytest.fail("it was read"))
    with pytest.raises(
        ValueError,
        match=r"bomb\.skops' does not contain a scikit-learn classifier.*without compression",
    ):
        read_classifier(bomb)


def test_what_skops_compresses_is_read(tmp_path):
    io = pytest.importorskip("skops.io")
    fitted = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    path = tmp_path / "net.skops"
    io.dump(fitted, path, compression=zipfile.ZIP_DEFLATED, compresslevel=9)
    assert read_classifier(path).predict([[0.0], [1.0]]).tolist() == [0, 1]
