"""The example that serves an exported detector answers over loopback."""

import contextlib
import importlib.util
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from gandetect import GANomalyDetector
from gandetect.export import load_onnx, to_onnx

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "serve_an_exported_detector.py"


@pytest.fixture(scope="module")
def detector(rows):
    return GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:100])


@contextlib.contextmanager
def served(scorer):
    """The address at which the example serves a scorer."""
    spec = importlib.util.spec_from_file_location("serve_an_exported_detector", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    config = uvicorn.Config(example.make_app(scorer), ws="none", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "detector.onnx"
    to_onnx(detector, path)
    with served(load_onnx(path)) as address:
        yield address


def answer(address, body=None):
    request = urllib.request.Request(address, data=body)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_scores(address, detector, rows):
    body = json.dumps({"samples": rows[:20].tolist()}).encode()
    status, found = answer(f"{address}/score", body)
    assert status == 200
    np.testing.assert_allclose(found["anomaly_score"], detector.anomaly_score(rows[:20]), atol=1e-5)
    np.testing.assert_array_equal(found["is_anomaly"], detector.predict(rows[:20]) == -1)


class OnTheThreshold:
    """A score that is rounded across the threshold, away from its label."""

    threshold_ = 1.0

    def scores_and_labels(self, X):
        return np.array([1.0 + 1e-9, 1.0 - 1e-9]), np.array([1, -1])


def test_the_label_is_the_models():
    with served(OnTheThreshold()) as address:
        _, found = answer(f"{address}/score", b'{"samples": [[0], [0]]}')
    assert found["is_anomaly"] == [False, True]


def test_health(address):
    status, found = answer(f"{address}/health")
    assert (status, found["detector"], found["input_shape"]) == (200, "GANomalyDetector", [6])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"samples": [[1, 2]]}',
        b'{"samples": [[1, 2, 3, 4, 5, NaN]]}',
        b'{"samples": [["a", "b", "c", "d", "e", "f"]]}',
        b'{"samples": []}',
        b"[" * 100_000,
    ],
    ids=lambda body: str(body[:30]),
)
def test_the_clients_mistakes(address, body):
    status, found = answer(f"{address}/score", body)
    assert status == 422
    assert found["error"]


def test_too_much(address):
    assert answer(f"{address}/score", b" " * (16 * 2**20 + 1))[0] == 413
