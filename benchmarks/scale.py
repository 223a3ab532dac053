"""Measure memory, throughput and the growth of time with n on data larger than memory.

    python benchmarks/scale.py [--gigabytes 10] [--images 20000] [--folder DIR] [--out FILE.csv]
    python benchmarks/scale.py --only map

A memory map and a folder of images are created, and used at a tenth, three tenths and all of their
size. Each size is fitted and scored in one call. Memory is sampled resident memory (Linux only).
For comparison, the throughput of samples in memory is measured on the number of samples in
`--sample`, alternating, as the ratio of medians of three. The exponent is the slope of log time
over log n. Set `OMP_NUM_THREADS` to one less than the number of cores, because a separate thread
reads files.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory import growth_mb, make_map
from torch.utils.data import Subset

from gandetect import ConvNet, GANomalyDetector, __version__
from gandetect.data.images import ImageFolder

SHARES = (0.1, 0.3, 1.0)
MOST_GROWTH_MB, LEAST_THROUGHPUT = 300, 0.8
_SIZE = 64  # side in pixels


def make_images(folder: Path, n: int) -> ImageFolder:
    """Create a folder of 8-bit grey images of noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = rng.integers(0, 256, size=(_SIZE, _SIZE), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:07d}.png")
    return ImageFolder(folder)


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of a call, and the growth of resident memory in megabytes."""
    start = time.perf_counter()
    growth = growth_mb(function)
    return time.perf_counter() - start, growth


def measure(
    kind: str,
    first: Callable[[int], Any],
    in_memory: Callable[[int], np.ndarray],
    detector: GANomalyDetector,
    n: int,
    n_in_memory: int,
) -> list[dict[str, Any]]:
    """Fit and score at each share of n, and for comparison samples in memory."""
    detector.fit(in_memory(min(n_in_memory, 4096)))  # allocations of the first fit are not measured
    held, same = in_memory(n_in_memory), first(n_in_memory)
    results = []
    for call in ("fit", "score_samples"):
        run = getattr(detector, call)
        pairs = [[timed(lambda run=run, x=x: run(x))[0] for x in (held, same)] for _ in range(3)]
        ratio = np.divide(*np.median(pairs, axis=0))
        sizes = [max(2, int(share * n)) for share in SHARES]
        seconds, growths = zip(
            *(timed(lambda m=m, run=run: run(first(m))) for m in sizes), strict=True
        )
        exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
        results.append(
            {
                "data": kind,
                "call": call,
                "n": n,
                "samples_a_second": round(n / seconds[-1]),
                "of_in_memory": round(float(ratio), 2),
                "growth_mb": round(max(growths)),
                "exponent": round(float(exponent), 2),
                "gandetect": __version__,
            }
        )
    return results


def on_map(folder: Path, gigabytes: float, n_in_memory: int) -> list[dict[str, Any]]:
    X = make_map(folder / "rows.f32", gigabytes)
    detector = GANomalyDetector(epochs=1, n_estimators=1, batch_size=4096, random_state=0)
    n_held = min(n_in_memory, len(X))
    return measure("map", lambda n: X[:n], lambda n: np.array(X[:n]), detector, len(X), n_held)


def on_images(folder: Path, n: int, n_in_memory: int) -> list[dict[str, Any]]:
    images = make_images(folder, n)
    detector = GANomalyDetector(
        epochs=1, n_estimators=1, architecture=ConvNet(n_filters=8), random_state=0
    )

    def held(m: int) -> np.ndarray:
        return np.stack([np.asarray(images[i]) for i in range(m)])

    n_held = min(n_in_memory, n)
    return measure("images", lambda m: Subset(images, range(m)), held, detector, n, n_held)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--sample", type=int, default=50_000, help="samples held in memory")
    parser.add_argument("--folder", type=Path, default=None, help="where the data are made")
    parser.add_argument("--only", choices=["map", "images"], default=None)
    parser.add_argument("--out", type=Path, default=None, help="CSV to append the rows to")
    arguments = parser.parse_args()

    results = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.only != "images":
            results += on_map(Path(folder), arguments.gigabytes, arguments.sample)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.only != "map":
            results += on_images(Path(folder), arguments.images, min(arguments.sample, 2000))
    missed = 0
    for result in results:
        kept = result["growth_mb"] < MOST_GROWTH_MB and result["of_in_memory"] >= LEAST_THROUGHPUT
        missed += not kept
        print(result, "" if kept else "MISSED", flush=True)
    if arguments.out:
        is_new = not arguments.out.exists()
        with arguments.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, results[0])
            if is_new:
                writer.writeheader()
            writer.writerows(results)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
