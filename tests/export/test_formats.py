"""Files of both formats: parity, certificates, refusals; and scoring with what was read."""

import copy
import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch.torch_version import TorchVersion

import gandetect
from gandetect import (
    AdversarialVAEDetector,
    ALOCCDetector,
    ArchiveError,
    ConvNet,
    GANomalyDetector,
)
from gandetect.export import (
    Certificate,
    ExportedScorer,
    ParityError,
    ParityWarning,
    load_onnx,
    load_torch_export,
    to_onnx,
    to_torch_export,
)
from gandetect.export import certificate as certificates
from gandetect.model.statistics import WORST_SCORE
from tests.helpers import one_detector

onnx = pytest.importorskip("onnx")
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


@pytest.fixture(scope="module")
def onnx_path(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("exported") / "detector.onnx"
    to_onnx(GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50]), path)
    return path


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


def test_an_onnx_model_needs_onnxruntime_alone(rows, tmp_path, caplog):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
    exporter = logging.getLogger("torch.onnx._internal.exporter._registration")
    exporter.addHandler(caplog.handler)
    to_onnx(detector, tmp_path / "detector.onnx")
    exporter.removeHandler(caplog.handler)
    assert not [line for line in caplog.messages if line]  # others are empty lines
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    for n in (1, 7, 600):
        scores, labels = session.run(None, {"X": rows[:n]})
        np.testing.assert_allclose(scores, detector.anomaly_score(rows[:n]), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(labels, detector.predict(rows[:n]))


def test_loading_checks_again(written, monkeypatch):
    _, _, path, read = written
    from_json = certificates.Certificate.from_json
    monkeypatch.setattr(
        certificates.Certificate,
        "from_json",
        lambda *args: dataclasses.replace(
            found := from_json(*args), anomaly_score=found.anomaly_score + 0.1
        ),
    )
    with pytest.raises(ParityError):
        read(path)


@pytest.mark.parametrize("name", FORMATS)
def test_what_differs_much_is_not_written_and_what_differs_little_is_told(
    name, rows, tmp_path, monkeypatch
):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
    (tmp_path / "detector").write_text("what was there")

    certify = certificates.certify

    def wrong(*args):
        found = certify(*args)
        return dataclasses.replace(found, anomaly_score=found.anomaly_score + error)

    monkeypatch.setattr(certificates, "certify", wrong)
    write, read = FORMATS[name]
    error = 1.0
    with pytest.raises(ParityError, match="differs"):
        write(detector, tmp_path / "detector")
    assert (tmp_path / "detector").read_text() == "what was there"
    error = 1e-3
    with pytest.warns(ParityWarning, match="differs by 1.0e-03"):
        certificate = write(detector, tmp_path / "detector")
    assert certificate.max_difference == pytest.approx(1e-3, rel=0.1)
    assert read(tmp_path / "detector").difference == certificate.max_difference
    assert write(detector, tmp_path / "detector", tolerance=0.01).max_difference > 1e-4


@pytest.mark.parametrize(
    ("tolerance", "error"),
    [("1e-5", TypeError), (True, TypeError), (-1.0, ValueError), (float("nan"), ValueError)],
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_tolerance_that_is_none(onnx_path, name, tolerance, error, rows, tmp_path):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
    write, read = FORMATS[name]
    with pytest.raises(error, match="tolerance"):
        write(detector, tmp_path / "detector", tolerance=tolerance)
    assert not (tmp_path / "detector").exists()
    with pytest.raises(error, match="tolerance"):
        read(onnx_path, tolerance=tolerance)


@pytest.mark.parametrize("name", FORMATS)
def test_labels_differ(name, rows, monkeypatch, tmp_path):
    """The whole file is refused for one label of the reference batch."""
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])

    certify = certificates.certify

    def one_other(*args):
        found = certify(*args)
        label = found.label.copy()
        label[0] *= -1
        return dataclasses.replace(found, label=label)

    monkeypatch.setattr(certificates, "certify", one_other)
    with pytest.raises(ParityError, match="labels"):
        FORMATS[name][0](detector, tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


def test_damaged_files(written, tmp_path):
    _, _, path, read = written
    content = path.read_bytes()
    for damaged in (b"", b"no model", content[: len(content) // 2], content[:100]):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ArchiveError):
            read(tmp_path / "damaged")


@pytest.mark.parametrize("size", [1e-6, 1e-3])
def test_weights_that_are_not_those_that_were_certified(onnx_path, size, tmp_path):
    """However little they move the scores: that is damage, and not the rounding of a runtime."""
    model = onnx.load(onnx_path)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    changed = onnx.numpy_helper.to_array(weights) * (1 + size)
    weights.raw_data = changed.astype(np.float32).tobytes()
    (tmp_path / "damaged").write_bytes(model.SerializeToString())
    with pytest.raises(ArchiveError, match="is damaged or was changed"):
        load_onnx(tmp_path / "damaged")


def test_files_of_a_version_without_a_checksum_of_the_graph(onnx_path, tmp_path):
    model = onnx.load(onnx_path)
    [entry] = model.metadata_props
    certificate = Certificate.from_json(entry.value, "file")
    entry.value = dataclasses.replace(certificate, graph=None).to_json()
    (tmp_path / "older").write_bytes(model.SerializeToString())
    assert load_onnx(tmp_path / "older").difference == load_onnx(onnx_path).difference


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
def test_a_torch_that_cannot_export_is_told(write, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.8.0+cpu"))
    with pytest.raises(ImportError, match=r"torch 2\.9 or newer, and this is torch 2\.8\.0"):
        write(GANomalyDetector(), tmp_path / "detector")
    assert not list(tmp_path.iterdir())


def test_files_of_other_kinds_name_what_reads_them(written, rows, tmp_path):
    detector, _, path, read = written
    with pytest.raises(ArchiveError, match="is a folder, not an exported file"):
        read(tmp_path)
    detector.save(tmp_path / "saved")
    with pytest.raises(ArchiveError, match=r"is a file of save.*gandetect\.load"):
        read(tmp_path / "saved")
    extension = {"load_onnx": ".onnx", "load_torch_export": ".PT2"}[read.__name__]
    exported = (tmp_path / "exported").with_suffix(extension)
    exported.write_bytes(path.read_bytes())
    with pytest.raises(ArchiveError, match=rf"gandetect\.export\.{read.__name__} reads exported"):
        gandetect.load(exported)


@pytest.mark.parametrize(
    ("providers", "error", "message"),
    [
        ("CPUExecutionProvider", TypeError, "providers must be a sequence of names, such as"),
        (None, TypeError, "providers must be a sequence of names"),
        (["CPU"], ValueError, r"no execution provider 'CPU': here it has \[.*'CPUExecutionPro"),
        ([("CPU", {})], ValueError, "no execution provider 'CPU'"),
    ],
)
def test_providers_are_checked(providers, error, message, onnx_path):
    with pytest.raises(error, match=message):
        load_onnx(onnx_path, providers)


def test_options_of_a_provider(onnx_path, rows):
    scorer = load_onnx(onnx_path, [("CPUExecutionProvider", {})])
    assert scorer.predict(rows[:3]).shape == (3,)


def test_no_file(tmp_path):
    for _, read in FORMATS.values():
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")


@pytest.mark.parametrize("name", FORMATS)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    name, fitted_to_rows, rows, tmp_path, monkeypatch
):
    write, _ = FORMATS[name]
    monkeypatch.setattr(certificates, "certify", lambda *_: pytest.fail("it has begun"))
    for place, error in (
        (tmp_path / "none" / "x", OSError),
        (b"x", TypeError),
        (tmp_path, OSError),
    ):
        with pytest.raises(error, match=r"Cannot write|path must be"):
            write(fitted_to_rows, place, rows)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_what_reads_onnx(onnx_path, monkeypatch, missing):
    def without(name, *args, **kwargs):
        if name == missing:
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    importing = certificates.importlib.import_module
    monkeypatch.setattr(certificates.importlib, "import_module", without)
    with pytest.raises(ImportError, match=rf"need {missing}: .*gandetect\[export\]"):
        load_onnx(onnx_path)


class Foreign:
    """Changes of a model that `to_onnx` wrote, each to something that it never writes."""

    def operator(model):
        model.graph.node[0].op_type = "RandomNormalLike"

    def domain(model):
        model.graph.node[0].domain = "com.microsoft"

    def function(model):
        function = model.functions.add(name="f", domain="mine", output=["y"])
        function.node.add(op_type="Loop", output=["y"])

    def loop(model):
        model.graph.node.add(op_type="Loop", input=["X"], output=["turns"])

    def subgraph(model):
        attribute = model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
        attribute.g.node.add(op_type="Identity", input=["X"], output=["y"])

    def subgraphs(model):
        attribute = model.graph.node[0].attribute.add(name="bodies")
        attribute.graphs.add().node.add(op_type="If", output=["y"])

    def external_tensor(model):
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="secret.txt")

    def external_constant(model):
        attribute = model.graph.node.add(op_type="Constant", output=["c"]).attribute.add(
            name="value"
        )
        attribute.t.external_data.add(key="location", value="secret.txt")

    def sparse_tensor(model):
        model.graph.sparse_initializer.add().values.name = "w"

    def training(model):
        model.training_info.add().algorithm.node.add(op_type="Loop", output=["y"])

    def shape_without_data(model):
        model.graph.initializer[0].dims.extend([2**40, 2**20])

    def negative_shape(model):
        model.graph.initializer[0].dims.append(-1)

    def many_dimensions(model):
        model.graph.initializer[0].dims.extend([1] * 100)

    def more_fields_than_can_be_parsed(model):
        for _ in range(300_000):
            model.graph.value_info.add()


@pytest.mark.parametrize("name", [name for name in vars(Foreign) if not name.startswith("_")])
def test_onnx_models_of_strangers(onnx_path, name, tmp_path, monkeypatch):
    """Nothing reaches onnxruntime that `to_onnx` does not write."""
    model = onnx.load(onnx_path)
    vars(Foreign)[name](model)
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())
    monkeypatch.setattr(certificates, "_onnx_run", None)
    with pytest.raises(ArchiveError, match=r"to_onnx did not write it"):
        load_onnx(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 30,  # a number without an end
        b"\x0b",  # a group, which onnx has none of
        b"\x3a\x05",  # a graph that is cut off
        b"\xf8\xff\xff\xff\x0f\x01",  # a field of no number that onnx has
        b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x40",  # a graph of 2**62 bytes
    ],
    ids=["number", "group", "cut", "field", "length"],
)
def test_what_is_no_protobuf(content, tmp_path):
    (tmp_path / "foreign.onnx").write_bytes(content)
    with pytest.raises(ArchiveError):
        load_onnx(tmp_path / "foreign.onnx")


def test_values_within_values(tmp_path):
    """Types of sequences of sequences, deeper than anything that reads them can go."""
    content = b""
    for _ in range(3000):
        content = tagged(4, tagged(1, content))
    (tmp_path / "foreign.onnx").write_bytes(tagged(7, tagged(11, tagged(2, content))))
    with pytest.raises(ArchiveError, match="not an ONNX model"):
        load_onnx(tmp_path / "foreign.onnx")


def tagged(number, content):
    """A protobuf field of bytes."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


class Drawing(torch.nn.Module):
    """A graph with an operator that draws numbers."""

    def __init__(self, detector):
        super().__init__()
        self.layout, self.settings = detector.model_.layout, detector.model_.settings
        self.threshold = detector.model_.threshold

    def forward(self, X):
        scores = X.sum(1) + torch.randn_like(X).sum(1)
        return scores, self.label(scores, self.threshold)

    def label(self, scores, threshold):
        return torch.where(scores > threshold, -1, 1)


def test_an_operator_that_would_not_be_loaded_is_not_written(rows, monkeypatch, tmp_path):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
    monkeypatch.setattr(certificates, "exportable", Drawing)
    with pytest.raises(ValueError, match=r"RandomNormalLike.*to_torch_export"):
        to_onnx(detector, tmp_path / "detector.onnx")
    assert not (tmp_path / "detector.onnx").exists()


SAMPLES = np.array([[0.0, 1.0], [2.0, 3.0], [-1.0, 0.0], [1.0, 0.5], [4.0, 4.0]])


def by_hand(**changes):
    values = {
        "detector": "D",
        "gandetect": "1",
        "torch": "2",
        "input_shape": (2,),
        "feature_names": None,
        "threshold": 2.0,
        "block_size": 2,
        "unit": 1.0,
        "score_unit": 1.0,
        "max_difference": 0.0,
        "origin": "given",
        "X": SAMPLES[:2],
        "anomaly_score": np.array([1.0, 5.0]),
        "label": np.array([1, -1]),
    }
    return Certificate(**{**values, **changes})


def run(x):
    assert x.dtype == np.float64
    assert len(x) <= 2
    scores = x.reshape(len(x), -1).sum(axis=1)
    return scores, np.where(scores > 2, -1, 1)


def test_signs():
    scorer = ExportedScorer(run, by_hand())
    np.testing.assert_array_equal(scorer.anomaly_score(SAMPLES), [1, 5, -1, 1.5, 8])
    np.testing.assert_array_equal(scorer.score_samples(SAMPLES), [-1, -5, 1, -1.5, -8])
    np.testing.assert_array_equal(scorer.predict(SAMPLES), [1, -1, 1, 1, -1])
    assert (scorer.threshold_, scorer.offset_, scorer.difference) == (2.0, -2.0, 0.0)


def test_a_graph_that_is_not_the_certificates():
    with pytest.raises(ParityError):
        ExportedScorer(lambda x: (run(x)[0] + 1e-3, run(x)[1]), by_hand())


def test_a_graph_that_cannot_be_run():
    def fails(x):
        raise RuntimeError("no such input")

    with pytest.raises(ArchiveError, match="no such input"):
        ExportedScorer(fails, by_hand())


def test_scores_and_labels_come_from_one_pass():
    calls = []
    scorer = ExportedScorer(lambda x: (calls.append(len(x)), run(x))[1], by_hand())
    calls.clear()
    scores, labels = scorer.scores_and_labels(SAMPLES)
    assert calls == [2, 2, 1]
    np.testing.assert_array_equal(scores, scorer.anomaly_score(SAMPLES))
    np.testing.assert_array_equal(labels, scorer.predict(SAMPLES))


def test_flat_images():
    x = np.ones((2, 2, 3))
    scorer = ExportedScorer(
        run,
        by_hand(
            input_shape=(2, 3), X=x, anomaly_score=np.array([6.0, 6.0]), label=np.array([-1, -1])
        ),
    )
    np.testing.assert_array_equal(scorer.anomaly_score(x.reshape(2, 6)), [6, 6])


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (np.zeros((0, 2)), ValueError, "minimum of 1"),
        (np.zeros((3, 4)), ValueError, "shape"),
        (np.zeros(2), ValueError, r"X is one sample: pass \[X\]"),
        ([[np.nan, 0]], ValueError, "X contains NaN: leave out"),
        ([["a", "b"]], TypeError, "numeric"),
        ([["1", 2]], TypeError, "numeric"),
        (np.array([["1", 2]], dtype=object), TypeError, "numeric"),
        (np.array([["2020-01-01"] * 2], dtype="M8[D]"), TypeError, "dates"),
        ([[None, 0]], ValueError, "None"),
        ([[None, 0.5], [1, 2]], ValueError, "None"),
        (pd.DataFrame({"a": [pd.NA, 1], "b": [1, 2]}), ValueError, "missing"),
        (np.array([[pd.NaT, 0]], dtype=object), ValueError, "missing"),
        (np.array([[pd.Timestamp(0), 0]], dtype=object), TypeError, "numeric"),
        (scipy.sparse.eye(2), TypeError, "array of samples, got dia_matrix"),
        ([[float("inf"), 0]], ValueError, "X contains infinity: leave out"),
        ([[10**400, 0]], ValueError, "float64"),
        ([[-(10**400), 0]], ValueError, "float64"),
        ([[0, 1], [2]], ValueError, "samples that differ in length"),
        (np.ma.array([[0, 1.0]], mask=[[True, False]]), ValueError, "masked"),
        ([[1j, 0]], ValueError, "Complex"),
        (None, TypeError, "array of samples, got NoneType"),
        ("rows.csv", TypeError, "array of samples, got str"),
        ({"a": [1]}, TypeError, "array of samples, got dict"),
    ],
)
def test_bad_input(bad, error, words):
    with pytest.raises(error, match=words):
        ExportedScorer(run, by_hand()).predict(bad)


@pytest.mark.parametrize(
    "good",
    [
        SAMPLES.tolist(),
        SAMPLES.astype(np.float32),
        SAMPLES.astype(object),
        torch.tensor(SAMPLES, requires_grad=True),
        torch.tensor(SAMPLES, dtype=torch.bfloat16),
        np.ma.array(SAMPLES, mask=False),
        pd.DataFrame(SAMPLES).convert_dtypes(),
    ],
    ids=lambda good: type(good).__name__,
)
def test_what_holds_numbers(good):
    np.testing.assert_array_equal(
        ExportedScorer(run, by_hand()).anomaly_score(good), [1, 5, -1, 1.5, 8]
    )


def test_large_whole_numbers_that_float64_holds():
    found = ExportedScorer(run, by_hand()).anomaly_score([[2**70, 0], [0, 0]])
    np.testing.assert_array_equal(found, [2.0**70, 0])


def test_another_threshold():
    scorer = ExportedScorer(run, by_hand())
    np.testing.assert_array_equal(scorer.predict(SAMPLES, threshold=5.5), [1, 1, 1, 1, -1])
    np.testing.assert_array_equal(scorer.predict(SAMPLES, 0), [-1, -1, 1, -1, -1])
    np.testing.assert_array_equal(scorer.predict(SAMPLES, float("inf")), [1, 1, 1, 1, 1])
    np.testing.assert_array_equal(scorer.predict(SAMPLES, -float("inf")), [-1, -1, -1, -1, -1])
    np.testing.assert_array_equal(scorer.predict(SAMPLES), [1, -1, 1, 1, -1])
    scores, labels = scorer.scores_and_labels(SAMPLES, threshold=5.5)
    np.testing.assert_array_equal(labels, scorer.predict(SAMPLES, 5.5))
    np.testing.assert_array_equal(scores, scorer.anomaly_score(SAMPLES))
    assert scorer.threshold_ == 2.0


def test_scores_on_a_threshold_that_is_given_are_not_flagged():
    scorer = ExportedScorer(run, by_hand())
    assert scorer.predict([[1e6, 0]], 1e6 - 1) == [1]
    assert scorer.predict([[5, 5e-6]], 5.0) == [1]
    assert scorer.predict([[5, 1e-3]], 5.0) == [-1]


@pytest.mark.parametrize(
    ("threshold", "error"),
    [("high", TypeError), (True, TypeError), ([1.0], TypeError), (float("nan"), ValueError)],
)
def test_a_threshold_that_is_none(threshold, error):
    with pytest.raises(error, match="threshold must be"):
        ExportedScorer(run, by_hand()).predict(SAMPLES, threshold)


@pytest.mark.parametrize(("n_jobs", "n_threads"), [(None, 0), (1, 1), (2, 2)])
def test_threads(n_jobs, n_threads, onnx_path, monkeypatch):
    session, used = onnxruntime.InferenceSession, []

    def watched(model, options, **others):
        used.append(options.intra_op_num_threads)
        return session(model, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    load_onnx(onnx_path, n_jobs=n_jobs)
    assert used == [n_threads]


@pytest.mark.parametrize("n_jobs", [0, 1.5, "all", True])
def test_threads_are_checked(n_jobs, tmp_path):
    with pytest.raises((TypeError, ValueError), match="n_jobs"):
        load_onnx(tmp_path / "absent.onnx", n_jobs=n_jobs)


def test_names_of_columns():
    scorer = ExportedScorer(run, by_hand(feature_names=["a", "b"]))
    scorer.predict(pd.DataFrame(SAMPLES, columns=["a", "b"]))
    with pytest.raises(ValueError, match="columns"):
        scorer.predict(pd.DataFrame(SAMPLES, columns=["b", "a"]))


def traced(detector, X):
    """Scores and labels of the module that is exported."""
    with torch.inference_mode():
        scores, labels = certificates.exportable(detector)(
            torch.from_numpy(np.asarray(X, dtype=float))
        )
    return scores.numpy(), labels.numpy()


@pytest.mark.parametrize(
    ("channel_axis", "shape"), [(0, (3, 9, 8)), (-1, (9, 8, 3)), (None, (9, 8))]
)
def test_layouts_of_images(channel_axis, shape):
    X = np.random.default_rng(0).integers(0, 256, size=(20, *shape), dtype=np.uint8)
    detector = GANomalyDetector(
        epochs=1, n_estimators=1, channel_axis=channel_axis, architecture=ConvNet(n_filters=2)
    )
    scores, _ = traced(detector.fit(X), X)
    np.testing.assert_allclose(scores, detector.anomaly_score(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scaling", ["unskewed", "standard", "robust", "unit", "symmetric", "none"])
def test_values_beyond_float32(rows, scaling):
    X = rows[:80]
    detector = GANomalyDetector(epochs=1, n_estimators=1, scaling=scaling, random_state=0).fit(X)
    X = X[:5] * np.array([[1e14], [1e30], [1e39], [1e181], [1e307]])
    scores, labels = traced(detector, X)
    np.testing.assert_allclose(scores, detector.anomaly_score(X), rtol=1e-5)
    assert labels.tolist() == detector.predict(X).tolist() == [-1] * 5


def test_an_overflow_is_the_worst(images):
    """Far from its samples the spread of a VAE's code is an exponential beyond float32."""
    detector = AdversarialVAEDetector(
        epochs=1, n_estimators=1, architecture=ConvNet(n_filters=2), random_state=0, score="prior"
    )
    detector.fit(images[:20])
    X = images[:2] * [[[[1.0]]], [[[1e30]]]]
    scores, labels = traced(detector, X)
    assert scores[0] != WORST_SCORE
    assert scores[1] == detector.anomaly_score(X)[1] == WORST_SCORE
    assert labels[1] == detector.predict(X)[1] == -1


@one_detector
def test_what_is_not_a_number_is_no_inlier(fitted_to_rows, rows):
    X = rows[:2].copy()
    X[0, 0] = np.nan
    assert traced(fitted_to_rows, X)[1].tolist()[0] == -1


@one_detector
def test_a_threshold_of_another_score(fitted_to_rows):
    changed = copy.deepcopy(fitted_to_rows).set_params(score="paper")
    with pytest.raises(ValueError, match="infer_threshold"):
        certificates.exportable(changed)


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
@one_detector
def test_a_method_that_cannot_be_exported(write, fitted_to_rows, monkeypatch, tmp_path):
    reason = "its features come from a network of another package."
    monkeypatch.setattr(type(fitted_to_rows.model_), "cannot_be_exported", reason, raising=False)
    with pytest.raises(TypeError, match="cannot be exported because its features come"):
        write(fitted_to_rows, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_score_near_a_threshold_is_judged_alike(rows, tmp_path):
    """The published score is measured in its spread over the training samples, in both."""
    detector = GANomalyDetector(epochs=1, n_estimators=1, score="paper", random_state=0)
    detector.fit(rows[:200])
    to_torch_export(detector, tmp_path / "m", rows[:3])
    scorer = load_torch_export(tmp_path / "m")
    score = detector.anomaly_score(rows[:1])[0]
    for share, label in ((0.5, 1), (20.0, -1)):
        unit = 1e-5 * max(detector.model_.score_unit, score)
        detector.threshold_ = score - share * unit
        assert detector.predict(rows[:1]) == scorer.predict(rows[:1], score - share * unit) == label


class TestThresholdAtRunTime:
    @pytest.fixture(scope="class")
    @classmethod
    def exported(cls, fitted_to_rows, rows, tmp_path_factory):
        path = tmp_path_factory.mktemp("threshold") / "detector.onnx"
        to_onnx(fitted_to_rows, path, rows)
        return path

    @one_detector
    def test_the_graph_takes_one_or_has_its_own(self, exported, fitted_to_rows, rows):
        session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
        X = np.asarray(rows, dtype=np.float64)
        scores, labels = session.run(["anomaly_score", "label"], {"X": X})
        np.testing.assert_array_equal(labels, fitted_to_rows.predict(rows))
        for threshold in (np.median(scores), scores.max(), -np.inf):
            inputs = {"X": X, "threshold": np.array(threshold)}
            (labels,) = session.run(["label"], inputs)
            tolerance = 1e-5 * max(1, abs(threshold)) if np.isfinite(threshold) else 0
            np.testing.assert_array_equal(labels, np.where(scores > threshold + tolerance, -1, 1))
        assert (labels == -1).all()

    @one_detector
    def test_it_is_given_while_loading(self, exported, rows):
        plain = load_onnx(exported)
        threshold = float(np.median(plain.anomaly_score(rows)))
        scorer = load_onnx(exported, threshold=threshold)
        assert (scorer.threshold_, scorer.offset_) == (threshold, -threshold)
        np.testing.assert_array_equal(scorer.predict(rows), plain.predict(rows, threshold))
        assert (scorer.predict(rows, plain.threshold_) == plain.predict(rows)).all()
        assert (scorer.predict(rows) != plain.predict(rows)).any()

    @one_detector
    def test_of_a_torch_export_program(self, fitted_to_rows, rows, tmp_path):
        to_torch_export(fitted_to_rows, tmp_path / "detector.pt2", rows)
        scorer = load_torch_export(tmp_path / "detector.pt2", threshold=-1e9)
        assert (scorer.predict(rows) == -1).all()

    @pytest.mark.parametrize(("threshold", "error"), [("2", TypeError), (np.nan, ValueError)])
    @one_detector
    def test_what_is_no_threshold(self, exported, threshold, error):
        with pytest.raises(error, match="threshold must be"):
            load_onnx(exported, threshold=threshold)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["rows", "images"])
def test_known_anomalies(name, kind, rows, images, tiny_convnet, tmp_path):
    """Trees that rows walk through, and distances of codes."""
    write, read = FORMATS[name]
    X = rows[:200] if kind == "rows" else images[:60]
    X = np.concatenate([X, X[:4] + np.linspace(1, 2, X[0].size).reshape(X.shape[1:])])
    y = np.arange(len(X)) >= len(X) - 4
    fitted = GANomalyDetector(labels="learn", epochs=20, n_estimators=2, random_state=0)
    if kind == "images":
        fitted.set_params(architecture=tiny_convnet, latent_dim=4)
    assert write(fitted.fit(X, y), tmp_path / "detector").max_difference <= 1e-5
    scorer = read(tmp_path / "detector")
    np.testing.assert_allclose(
        scorer.anomaly_score(X), fitted.anomaly_score(X), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(scorer.predict(X), fitted.predict(X))
