"""Compare a fit in two processes with a fit in a single process, with one thread each.

    python benchmarks/processes.py [--samples 256] [--side 128] [--batch-size 128] [--epochs 4]
        [--repeats 3] [--out results/processes.csv]
    python benchmarks/processes.py --samples 20000 --columns 500 --batch-size 4096 ...

The samples are images or, with ``--columns``, rows with this number of columns.

The fits are measured in turn, each in new processes that `torchrun` starts. The time is that of a
second `fit`, because the first one in a process imports large parts of torch. The ceiling is the
largest possible speed-up on the machine at that time: two independent processes, each with half of
the images and of the batch. The difference is the largest one between the scores of scikit-learn's
digits after three epochs in one and in two processes. It is a rounding difference, but adversarial
training with Adam amplifies it: after long fits the weights differ, with results of equal quality.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from gandetect import GANomalyDetector, __version__

LIMIT, TOLERANCE = 1.7, 1e-4


class Task(NamedTuple):
    """The data and the settings of the fits, and the number of repeats."""

    samples: int
    side: int
    columns: int
    batch_size: int
    epochs: int
    repeats: int


def blobs(n: int, side: int) -> np.ndarray:
    """Return square images, each with a bright spot at a random position."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] / side
    centres = rng.uniform(0.3, 0.7, size=(2, n, 1, 1))
    spots = np.exp(-40 * ((rows - centres[0]) ** 2 + (columns - centres[1]) ** 2))
    return (spots + rng.normal(0, 0.05, size=(n, side, side))).astype(np.float32)


def fit_here(task: Task, out: Path) -> None:
    """Fit in this process, which may be one of several; the first one writes time and scores."""
    digits = load_digits().images[:512]
    detector = GANomalyDetector(epochs=3, random_state=0).fit(digits)
    if task.columns:
        X = np.random.default_rng(0).normal(size=(task.samples, task.columns))
    else:
        X = blobs(task.samples, task.side)
    start = time.perf_counter()
    GANomalyDetector(epochs=task.epochs, batch_size=task.batch_size, random_state=0).fit(X)
    seconds = time.perf_counter() - start
    if os.environ.get("RANK") == "0":
        np.savez(out, seconds=seconds, scores=detector.anomaly_score(digits))


def fit_in(n_processes: int, task: Task) -> tuple[float, np.ndarray]:
    """Return the seconds of a fit in `n_processes` processes, and the scores after it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "fit.npz"
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
        sizes = [f"--{name.replace('_', '-')}={value}" for name, value in task._asdict().items()]
        script = [__file__, *sizes, "--worker", str(out)]
        environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, *launch, *script],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with np.load(out) as saved:
            return float(saved["seconds"]), saved["scores"]


def seconds_of_halves(task: Task) -> float:
    """Return the seconds of two independent processes with half of the work each."""
    half = task._replace(samples=task.samples // 2, batch_size=task.batch_size // 2)
    with ThreadPoolExecutor(2) as pool:
        return max(seconds for seconds, _ in pool.map(fit_in, (1, 1), (half, half)))


def main() -> int:
    """Measure, print and append to the CSV; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--side", type=int, default=128, help="of an image, in pixels")
    parser.add_argument("--columns", type=int, default=0, help="of rows, instead of images")
    parser.add_argument("--batch-size", type=int, default=128, help="of both processes together")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None, help="CSV to append the row to")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    task = Task(**{name: getattr(arguments, name) for name in Task._fields})
    if arguments.worker:
        fit_here(task, arguments.worker)
        return 0

    runs = []
    for _ in range(task.repeats):
        (alone, scores), (together, other_scores) = fit_in(1, task), fit_in(2, task)
        difference = float(np.abs(scores - other_scores).max())
        runs.append((alone, together, seconds_of_halves(task), difference))
        print(
            "seconds alone {:.1f}, together {:.1f}, two halves {:.1f}".format(*runs[-1]), flush=True
        )
    alone, together, halves = (statistics.median(run[i] for run in runs) for i in range(3))
    speedup, ceiling = alone / together, alone / halves
    difference = max(run[3] for run in runs)
    print(f"two processes: {speedup:.2f} times as fast (limit {LIMIT}, ceiling {ceiling:.2f}),")
    print(f"scores differ by {difference:.1e} (limit {TOLERANCE})")
    if arguments.out:
        is_new = not arguments.out.exists()
        with arguments.out.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow([*task._fields, "speedup", "ceiling", "difference", "gandetect"])
            figures = [f"{speedup:.2f}", f"{ceiling:.2f}", f"{difference:.1e}"]
            writer.writerow([*task, *figures, __version__])
    return int(speedup < LIMIT or difference > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
