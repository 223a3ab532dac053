"""Test the guarantees under faults: killed fits, full disks, damaged files, threads and forks.

    python benchmarks/faults.py [--kills 20] [--mutations 10000] [--seed 0] [--only NAME]

Each check prints its counts and fails if a guarantee does not hold (POSIX only). Each check runs in
a fork of this process, which has imported torch but has not started threads.
"""

from __future__ import annotations

import argparse
import collections
import copy
import errno
import hashlib
import importlib.util
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch

import gandetect
from gandetect import ArchiveError, Checkpoint, ConvNet, GANomalyDetector
from gandetect.archive import checksum
from gandetect.export import ParityError, load_onnx, to_onnx

# Audit events that must not occur while a file is read; `exec` runs code, `compile` creates it.
FORBIDDEN = {"pickle.find_class", "import", "exec", "compile", "os.system", "subprocess.Popen"}
# The largest growth of memory while damaged files are refused, and the largest processor time for
# one of them.
MOST_MB = 200
MOST_SECONDS = 2
# Values that are inserted into forged files. There are no large sizes; SECURITY.md describes their
# effect.
NONSENSE = [
    *(None, True, -1, 0, 3, 10**30, -2.5, float("nan"), float("inf"), "", "encoder"),
    *([], {}, [[]], {"list": [None]}, {"tuple": []}, {"pairs": []}, {"pairs": [["a", 1]]}),
    *({"tensor": "0"}, {"array": "1"}, {"names": [1]}, {"strings": []}, {"strings": ["a"]}),
    *({"object": "MLP", "fields": {"pairs": []}}, {"object": "Path", "fields": {"pairs": []}}),
]

X = np.random.default_rng(0).normal(size=(200, 6))
IMAGES = np.random.default_rng(0).normal(size=(32, 8, 8))


def digest(detector: GANomalyDetector) -> str:
    """Return a digest of the scores and of everything that the training recorded."""
    content = detector.anomaly_score(X).tobytes() + repr(detector.history_).encode()
    return hashlib.sha256(content + repr(detector.threshold_).encode()).hexdigest()


def in_a_fork(work: Callable[[], None]) -> int:
    """Run `work` in a forked process and return its id."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return process


def exit_code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kills(n: int, seed: int, folder: Path) -> str:
    """Kill fits at a random moment, and start them again."""
    detector = GANomalyDetector(epochs=40, n_estimators=2, random_state=0)
    # Import before the forks what a fit imports; otherwise most kills would occur during imports.
    GANomalyDetector(epochs=1, n_estimators=1).set_callbacks(Checkpoint(folder / "first")).fit(X)

    def fit(checkpoint: Path, result: Path) -> None:
        result.write_text(digest(detector.set_callbacks(Checkpoint(checkpoint)).fit(X)))

    start = time.perf_counter()
    assert exit_code(in_a_fork(lambda: fit(folder / "whole", folder / "expected"))) == 0
    duration = time.perf_counter() - start
    expected = (folder / "expected").read_text()

    rng, n_killed, n_begun = random.Random(seed), 0, 0
    while n_killed < n:
        checkpoint, result = folder / f"checkpoint{n_killed}", folder / f"result{n_killed}"
        process = in_a_fork(lambda to=(checkpoint, result): fit(*to))
        time.sleep(rng.uniform(0, duration))
        os.kill(process, signal.SIGKILL)
        if exit_code(process) == 0:  # the fit ended before the kill
            checkpoint.unlink()
            continue
        n_killed += 1
        n_begun += checkpoint.exists()
        assert exit_code(in_a_fork(lambda to=(checkpoint, result): fit(*to))) == 0
        assert result.read_text() == expected, "a resumed fit gave other scores"
    return (
        f"{n_killed} fits killed, {n_begun} of them after a checkpoint; all ended with one result"
    )


def full_disk(folder: Path) -> str:
    """Save a detector with a limit on the size of files, as on a full disk."""
    small = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
    large = GANomalyDetector(epochs=1, n_estimators=8, random_state=0).fit(X)
    path = folder / "detector"
    small.save(path)
    before = path.read_bytes()

    def save() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            large.save(path)
        except OSError as error:
            assert error.errno == errno.EFBIG
        else:
            raise AssertionError("the save did not raise")

    assert exit_code(in_a_fork(save)) == 0
    assert path.read_bytes() == before, "the old file was changed"
    assert sorted(p.name for p in folder.iterdir()) == ["detector"], "a part was left behind"
    return "the save raised, and the old file stayed whole"


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a copy of a file with one to four random changes."""
    changed = bytearray(content)
    header = min(len(content), 8 + int.from_bytes(content[:8], "little"))
    for _ in range(rng.randint(1, 4)):
        # Half of the changes are in the header, which is small compared with the weights.
        end = header if rng.random() < 0.5 else len(changed)
        i = rng.randrange(max(1, min(end, len(changed))))
        j = min(len(changed), i + rng.randint(1, 64))
        kind = rng.randrange(6)
        if kind == 0 and changed:
            changed[min(i, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[i:j] = rng.randbytes(j - i)
        elif kind == 2:
            del changed[i:j]
        elif kind == 3:
            changed[i:i] = changed[i:j]
        elif kind == 4:
            del changed[i:]
        else:
            changed[i:j] = b"9" * (j - i)
    return bytes(changed)


def forged(content: bytes, rng: random.Random) -> bytes:
    """Return an archive with one to three changed values and a valid checksum."""
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    document = json.loads(header["__metadata__"]["gandetect"])
    for _ in range(rng.randint(1, 3)):
        if tensors and rng.random() < 0.2:
            forge_tensor(tensors, rng)
        else:
            forge_tree(document, rng)
    text = json.dumps(document)
    metadata = {"gandetect": text, "sha256": checksum(text, tensors)}
    return safetensors.torch.save(tensors, metadata=metadata)


def forge_tensor(tensors: dict[str, torch.Tensor], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    tensor = tensors.pop(name)
    kind = rng.randrange(5)
    if kind == 1:
        tensors[name] = tensor.reshape(-1).clone()
    elif kind == 2:
        tensors[name] = tensor[None].clone()
    elif kind == 3:
        tensors[name] = tensor.to(rng.choice([torch.float16, torch.int64, torch.bool]))
    elif kind == 4:
        tensors[name] = torch.full_like(tensor, rng.choice([0, 1, 100]))


def forge_tree(document: object, rng: random.Random) -> None:
    """Replace, remove or duplicate one entry of nested lists and dicts, at any depth."""
    places = [(nest, key) for nest in nests(document) for key in keys_of(nest)]
    nest, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del nest[key]
    elif kind == 1:
        other, its_key = rng.choice(places)
        nest[key] = copy.deepcopy(other[its_key])
    elif kind == 2 and isinstance(nest, list):
        nest.insert(key, copy.deepcopy(nest[key]))
    else:
        nest[key] = copy.deepcopy(rng.choice(NONSENSE))


def nests(value: object) -> Iterator[list | dict]:
    if isinstance(value, list | dict):
        yield value
        for key in keys_of(value):
            yield from nests(value[key])


def keys_of(nest: list | dict) -> list:
    return list(nest) if isinstance(nest, dict) else list(range(len(nest)))


class Target(NamedTuple):
    """A file, functions that change and read it, and a check of the result of a changed file."""

    content: bytes
    change: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], object]
    is_right: Callable[[object], bool]


def targets(folder: Path) -> dict[str, Target]:
    """Create saved detectors, a checkpoint and an exported file, for rows and for images."""
    small = {"epochs": 1, "n_estimators": 1, "random_state": 0}
    rows = GANomalyDetector(**small).set_callbacks(Checkpoint(folder / "checkpoint")).fit(X)
    images = GANomalyDetector(**small, architecture=ConvNet(n_filters=2)).fit(IMAGES)
    rows.save(folder / "rows")
    images.save(folder / "images")

    def resume(path: Path) -> object:
        return GANomalyDetector(**small).set_callbacks(Checkpoint(path)).fit(X)

    readers = {"rows": gandetect.load, "images": gandetect.load, "checkpoint": resume}
    found = {
        name: Target((folder / name).read_bytes(), mutated, read, lambda _: False)
        for name, read in readers.items()
    }
    # A forged file with a valid checksum may have any content that is a valid detector.
    for name in ("rows", "images"):
        content = found[name].content
        found[f"forged {name}"] = Target(content, forged, gandetect.load, lambda _: True)
    if importlib.util.find_spec("onnxscript") and importlib.util.find_spec("onnxruntime"):
        to_onnx(rows, folder / "onnx", X)
        expected = rows.anomaly_score(X)

        def is_near(scorer: object) -> bool:
            # A larger difference is allowed if it was reported by a ParityWarning, which refers to
            # the samples of the certificate.
            told = 10 * scorer.difference * scorer.certificate.score_unit
            return np.allclose(scorer.anomaly_score(X), expected, rtol=1e-5, atol=max(1e-5, told))

        # Names and comments of a graph may change; its scores must not.
        found["onnx"] = Target((folder / "onnx").read_bytes(), mutated, load_onnx, is_near)
    return found


def mutations(n: int, seed: int, folder: Path) -> str:
    """Read damaged and forged files: each gives an ArchiveError or a valid result, and no code."""
    path, rng = folder / "damaged", random.Random(seed)
    heard: list[str] = []
    is_reading = False

    def listen(event: str, _: object) -> None:
        if is_reading and event in FORBIDDEN:
            heard.append(event)

    files = targets(folder)
    for target in files.values():  # import all modules that reading needs
        path.write_bytes(target.content)
        target.read(path)
    sys.addaudithook(listen)
    counts: collections.Counter[str] = collections.Counter()
    slowest, memory = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(n):
        name, target = list(files.items())[i % len(files)]
        changed = target.change(target.content, rng)
        if changed == target.content:
            continue
        path.write_bytes(changed)
        start, is_reading = time.process_time(), True
        try:
            found = target.read(path)
        except (ArchiveError, ParityError):
            counts[f"{name} refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name}: change {i} of seed {seed} raised this") from error
        else:
            is_reading = False
            assert target.is_right(found), f"{name}: change {i} of seed {seed} was read"
            counts[f"{name} read"] += 1
        finally:
            is_reading = False
        slowest = max(slowest, time.process_time() - start)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    assert not heard, collections.Counter(heard)
    assert slowest < MOST_SECONDS, f"a file took {slowest:.1f} s"
    assert growth < MOST_MB, f"memory grew by {growth:.0f} MB"
    return (
        f"ArchiveError or ParityError, or right: {dict(sorted(counts.items()))}, "
        f"slowest {slowest:.2f} s, memory grew by {growth:.0f} MB"
    )


def concurrency(folder: Path) -> str:
    """Compare the bits of results from eight threads, after a fork and in a spawned process."""
    detector = GANomalyDetector(epochs=2, n_estimators=2, random_state=0).fit(X)
    expected = detector.anomaly_score(X)
    assert exit_code(in_a_fork(lambda: same_bits(detector, expected))) == 0
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(same_bits, (detector, expected))
    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(same_bits, detector, expected) for _ in range(32)]:
            future.result()
    return "8 threads, fork and spawn: the same bits"


def same_bits(detector: GANomalyDetector, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(detector.anomaly_score(X), expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only checks whose name contains this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a fork of a process with threads can deadlock

    checks: dict[str, Callable[[Path], str]] = {
        "kills": lambda folder: kills(arguments.kills, arguments.seed, folder),
        "full disk": full_disk,
        "mutations": lambda folder: mutations(arguments.mutations, arguments.seed, folder),
        "concurrency": concurrency,
    }
    for name, check in checks.items():
        if arguments.only in name:
            with tempfile.TemporaryDirectory() as folder:
                print(f"{name:12s} {check(Path(folder))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
