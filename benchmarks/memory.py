"""Measure the growth of resident memory in fit and score on a memory map larger than memory.

    python benchmarks/memory.py [--gigabytes 4] [--folder DIR] [--out results/memory.csv]

The growth is the largest resident size during the call minus the size before the call, including
pages of the mapped file, sampled every 20 ms (Linux only).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gandetect import GANomalyDetector, __version__

LIMIT_MB = 300


def resident_mb() -> float:
    """Return the resident size of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth_mb(function: Callable[[], object]) -> float:
    """Return the largest resident size while `function` runs, minus the size before."""
    before, peak, is_over = resident_mb(), resident_mb(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.is_set():
            peak = max(peak, resident_mb())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function()
    finally:
        is_over.set()
        watcher.join()
    return peak - before


def make_map(path: Path, gigabytes: float, n_columns: int = 1000) -> np.memmap:
    """Write a file of normally distributed rows, and return it as a read-only memory map."""
    n_rows = int(gigabytes * 2**30 / 4 / n_columns)
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, n_rows, 10_000):
            n = min(10_000, n_rows - start)
            file.write(rng.standard_normal((n, n_columns), dtype=np.float32).tobytes())
    return np.memmap(path, dtype=np.float32, mode="r", shape=(n_rows, n_columns))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=None, help="where the file is made")
    parser.add_argument("--out", type=Path, default=None, help="CSV to append the rows to")
    arguments = parser.parse_args()

    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        X = make_map(Path(folder) / "rows.f32", arguments.gigabytes)
        # A first fit, so that allocations that occur once in a process are not measured.
        GANomalyDetector(epochs=1, n_estimators=1, batch_size=4096).fit(np.array(X[:8192]))
        detector = GANomalyDetector(epochs=1, n_estimators=1, batch_size=4096, random_state=0)
        rows.append(("fit", growth_mb(lambda: detector.fit(X))))
        rows.append(("score_samples", growth_mb(lambda: detector.score_samples(X))))
    for name, growth in rows:
        print(f"{name:14s} grew by {growth:6.0f} MB on {arguments.gigabytes} GB, limit {LIMIT_MB}")
        if arguments.out:
            is_new = not arguments.out.exists()
            with arguments.out.open("a", newline="") as file:
                writer = csv.writer(file)
                if is_new:
                    writer.writerow(["call", "gigabytes", "growth_mb", "gandetect"])
                writer.writerow([name, arguments.gigabytes, f"{growth:.0f}", __version__])
    return int(any(growth > LIMIT_MB for _, growth in rows))


if __name__ == "__main__":
    sys.exit(main())
