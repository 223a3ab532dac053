"""The example that serves an exported detector answers over loopback."""

import contextlib
import importlib.util
import json
import select
import socket
import threading
import time
import types
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from gandetect import GANomalyDetector
from gandetect.export import ExportedScorer, load_onnx, to_onnx

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "serve_an_exported_detector.py"


@pytest.fixture(scope="module")
def detector(rows):
    return GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:100])


spec = importlib.util.spec_from_file_location("serve_an_exported_detector", EXAMPLE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)


@contextlib.contextmanager
def served(scorer):
    """The address at which the example serves a scorer."""
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
        b'{"samples": [[null, 2, 3, 4, 5, 6]]}',
        b'{"samples": [[1' + b"0" * 400 + b", 2, 3, 4, 5, 6]]}",
        b'{"samples": [[1' + b"0" * 5000 + b", 2, 3, 4, 5, 6]]}",
        b'{"samples": [[1, 2, 3, 4, 5, 1e999]]}',
        b'{"samples": [[1, 2, 3, 4, 5, 6], [1]]}',
        b'{"samples": [{}]}',
        b'{"samples": {}}',
        b'{"samples": null}',
        b'{"samples": "' + b"a" * 10_000 + b'"}',
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
    ],
    ids=lambda body: str(body[:30]),
)
def test_the_clients_mistakes(address, body):
    status, found = answer(f"{address}/score", body)
    assert status == 422
    assert 0 < len(found["error"]) <= 500


@pytest.mark.parametrize(
    "body",
    [b" " * (16 * 2**20 + 1), b'{"samples": [' + b"[]," * example.MOST_SAMPLES + b"[]]}"],
    ids=["bytes", "samples"],
)
def test_too_much(address, body):
    assert answer(f"{address}/score", body)[0] == 413


def raw(address, head, body=b""):
    """The status of an answer to a request that may not be whole."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: here\r\n" + head + b"\r\n\r\n" + body)
        return int(connection.recv(100).split()[1])


def test_too_much_of_which_the_size_was_not_told(address):
    pieces = (b"10000\r\n" + b" " * 2**16 + b"\r\n") * (example.MOST_BYTES // 2**16 + 1)
    assert raw(address, b"Transfer-Encoding: chunked", pieces + b"0\r\n\r\n") == 413


def test_a_body_that_does_not_arrive(address, monkeypatch):
    monkeypatch.setattr(example, "MOST_SECONDS", 0.1)
    assert raw(address, b"Content-Length: 100", b'{"samples": [') == 408


def test_a_body_that_arrives_byte_by_byte(address, monkeypatch):
    """The limit is one of the whole body: a client that never pauses for long gains nothing."""
    monkeypatch.setattr(example, "MOST_SECONDS", 0.3)
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: here\r\nContent-Length: 2000\r\n\r\n")
        for _ in range(1500):
            connection.sendall(b" ")
            if select.select([connection], [], [], 0.02)[0]:
                break
        assert int(connection.recv(100).split()[1]) == 408


class Waiting:
    """It stands for what takes long."""

    def __init__(self):
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, *args):
        self.has_begun.set()
        assert self.may_end.wait(30)
        raise ValueError("it took long")


@pytest.mark.parametrize("what", ["parsing", "scoring"])
def test_other_requests_while_one_takes_long(detector, address, monkeypatch, what):
    waiting = Waiting()
    if what == "parsing":
        monkeypatch.setattr(example, "json", types.SimpleNamespace(loads=waiting))
    else:
        monkeypatch.setattr(ExportedScorer, "scores_and_labels", waiting)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(answer(f"{address}/score", b'{"samples": []}')[0])
    )
    thread.start()
    try:
        assert waiting.has_begun.wait(30)
        assert answer(f"{address}/health")[0] == 200
        monkeypatch.setattr(example, "MOST_REQUESTS", 1)
        assert answer(f"{address}/score", b'{"samples": []}')[0] == 503
        assert answer(f"{address}/health")[0] == 200
    finally:
        waiting.may_end.set()
        thread.join()
    assert found == [422]
    monkeypatch.undo()
    assert answer(f"{address}/score", b'{"samples": [[1, 2, 3, 4, 5, 6]]}')[0] == 200
