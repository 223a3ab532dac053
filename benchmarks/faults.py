"""What happens when things go wrong: killed fits, full disks, damaged files, threads and forks.

    python benchmarks/faults.py [--kills 20] [--mutations 10000] [--seed 0] [--only NAME]

Each check prints what it counted and fails if a promise was broken (POSIX only). All begins with
a fork of this process, which has torch in it already but has run no thread.
"""

from __future__ import annotations

import argparse
import collections
import errno
import hashlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import gandetect
from gandetect import ArchiveError, Checkpoint, GANomalyDetector

# What no reading of a file may do; `exec` runs code, `compile` makes it from text.
FORBIDDEN = {"pickle.find_class", "import", "exec", "compile", "os.system", "subprocess.Popen"}
# How far memory may grow while damaged files are refused.
MOST_MB = 200

X = np.random.default_rng(0).normal(size=(200, 6))


def digest(detector: GANomalyDetector) -> str:
    """Of the scores and all that the training has written down."""
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
    """Fits that are killed at a random moment, and begun again."""
    detector = GANomalyDetector(epochs=40, n_estimators=2, random_state=0)
    # What the first fit imports is imported before the forks, or most kills would fall into it.
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
        if exit_code(process) == 0:  # it was done before
            checkpoint.unlink()
            continue
        n_killed += 1
        n_begun += checkpoint.exists()
        assert exit_code(in_a_fork(lambda to=(checkpoint, result): fit(*to))) == 0
        assert result.read_text() == expected, "a resumed fit ended with other bits"
    return (
        f"{n_killed} fits killed, {n_begun} of them after a checkpoint; all ended with one result"
    )


def full_disk(folder: Path) -> str:
    """A save that may not write as much as it must."""
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
    """Another file, by one to four changes of a random kind."""
    changed = bytearray(content)
    header = min(len(content), 8 + int.from_bytes(content[:8], "little"))
    for _ in range(rng.randint(1, 4)):
        # Half of the changes fall into the header, which is small beside the weights.
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


def mutations(n: int, seed: int, folder: Path) -> str:
    """Damaged models and checkpoints: an ArchiveError each, and nothing that runs code."""
    checkpoint = folder / "checkpoint"
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0)
    detector.set_callbacks(Checkpoint(checkpoint)).fit(X).save(folder / "model")
    readers: list[tuple[bytes, Callable[[Path], object]]] = [
        ((folder / "model").read_bytes(), gandetect.load),
        (checkpoint.read_bytes(), lambda path: detector.set_callbacks(Checkpoint(path)).fit(X)),
    ]
    heard: list[str] = []
    is_reading = False

    def listen(event: str, _: object) -> None:
        if is_reading and event in FORBIDDEN:
            heard.append(event)

    path, rng = folder / "damaged", random.Random(seed)
    for content, read in readers:  # what is imported once, for any file, is imported now
        path.write_bytes(content)
        read(path)
    sys.addaudithook(listen)
    counts: collections.Counter[str] = collections.Counter()
    slowest, memory = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(n):
        content, read = readers[i % 2]
        damaged = mutated(content, rng)
        if damaged == content:
            continue
        path.write_bytes(damaged)
        start, is_reading = time.perf_counter(), True
        try:
            read(path)
            counts["read although it was damaged"] += 1
        except ArchiveError:
            counts["ArchiveError"] += 1
        finally:
            is_reading = False
        slowest = max(slowest, time.perf_counter() - start)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    assert counts.keys() == {"ArchiveError"}, counts
    assert not heard, collections.Counter(heard)
    assert growth < MOST_MB, f"memory grew by {growth:.0f} MB"
    return f"{dict(counts)}, slowest {slowest:.2f} s, memory grew by {growth:.0f} MB"


def concurrency(folder: Path) -> str:
    """The same bits from eight threads, after a fork and in a spawned process."""
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
    torch.set_num_threads(1)  # a fork of a process with threads may wait for them forever

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
