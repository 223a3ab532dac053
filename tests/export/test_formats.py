"""Files of both formats: parity, certificates, refusals."""

import dataclasses

import numpy as np
import pytest

from gandetect import ALOCCDetector, ArchiveError, GANomalyDetector
from gandetect.export import (
    ParityError,
    formats,
    load_onnx,
    load_torch_export,
    to_onnx,
    to_torch_export,
)
from gandetect.export import (
    certificate as certificates,
)

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

FORMATS = {"onnx": (to_onnx, load_onnx), "torch": (to_torch_export, load_torch_export)}


@pytest.fixture(scope="module", params=FORMATS)
def written(request, tmp_path_factory, rows):
    """A small detector, the certificate of its file, the file, and what loads it."""
    write, read = FORMATS[request.param]
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
    path = tmp_path_factory.mktemp("exported") / "detector"
    return detector, write(detector, path, rows[:50]), path, read


@pytest.fixture(scope="module", params=["rows", "images"])
def trained_and_X(request, Detector, make, rows, images, tiny_convnet):
    """Trained for long enough that every part of the score varies."""
    if request.param == "rows":
        return make(Detector, epochs=10).fit(rows[:200]), rows
    detector = make(Detector, epochs=20, batch_size=16, learning_rate=3e-3, latent_dim=4)
    return detector.set_params(architecture=tiny_convnet).fit(images[:60]), images


@pytest.mark.parametrize("name", FORMATS)
def test_parity(trained_and_X, name, tmp_path):
    fitted, X = trained_and_X
    write, read = FORMATS[name]
    certificate = write(fitted, tmp_path / "detector")
    assert certificate.max_difference <= 1e-5
    scorer = read(tmp_path / "detector")
    np.testing.assert_allclose(
        scorer.anomaly_score(X), fitted.anomaly_score(X), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(scorer.predict(X), fitted.predict(X))
    np.testing.assert_allclose(
        scorer.anomaly_score(X[:1]), fitted.anomaly_score(X[:1]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", FORMATS)
def test_draws_of_samples(name, rows, tmp_path):
    """A detector that was trimmed measures distances to them, too."""
    write, read = FORMATS[name]
    fitted = ALOCCDetector(epochs=5, n_estimators=2, trim=0.1, random_state=0).fit(rows[:200])
    assert "subsampled_neighbours" in fitted.neighbours_
    assert write(fitted, tmp_path / "detector").max_difference <= 1e-5
    np.testing.assert_allclose(
        read(tmp_path / "detector").anomaly_score(rows),
        fitted.anomaly_score(rows),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_file_holds_its_certificate(written):
    detector, certificate, path, read = written
    found = read(path).certificate
    assert found.detector == "GANomalyDetector"
    assert found.max_difference == certificate.max_difference
    np.testing.assert_array_equal(found.anomaly_score, detector.anomaly_score(found.X))


def test_an_onnx_model_needs_onnxruntime_alone(rows, tmp_path):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
    to_onnx(detector, tmp_path / "detector.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    for n in (1, 7, 600):
        scores, labels = session.run(None, {"X": rows[:n]})
        np.testing.assert_allclose(scores, detector.anomaly_score(rows[:n]), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(labels, detector.predict(rows[:n]))


def test_loading_checks_again(written, monkeypatch):
    _, _, path, read = written
    from_json = certificates.Certificate.from_json
    monkeypatch.setattr(
        formats.Certificate,
        "from_json",
        lambda *args: dataclasses.replace(
            found := from_json(*args), anomaly_score=found.anomaly_score + 1e-3
        ),
    )
    with pytest.raises(ParityError):
        read(path)


@pytest.mark.parametrize("name", FORMATS)
def test_what_differs_is_not_written(name, rows, tmp_path, monkeypatch):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
    (tmp_path / "detector").write_text("what was there")

    def wrong(*args):
        found = certificates.certify(*args)
        return dataclasses.replace(found, anomaly_score=found.anomaly_score + 1e-3)

    monkeypatch.setattr(formats, "certify", wrong)
    with pytest.raises(ParityError, match="differs"):
        FORMATS[name][0](detector, tmp_path / "detector")
    assert (tmp_path / "detector").read_text() == "what was there"


def test_damaged_files(written, tmp_path):
    _, _, path, read = written
    content = path.read_bytes()
    for damaged in (b"", b"no model", content[: len(content) // 2], content[:100]):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ArchiveError):
            read(tmp_path / "damaged")


def test_no_file(tmp_path):
    for _, read in FORMATS.values():
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")


def test_without_onnxruntime(written, monkeypatch):
    _, _, path, _ = written

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "onnxruntime":
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    importing = formats.importlib.import_module
    monkeypatch.setattr(formats.importlib, "import_module", without)
    with pytest.raises(ImportError, match=r"gandetect\[export\]"):
        load_onnx(path)
