"""Measure how the times of fit and score grow with rows, columns, image size and members.

    python benchmarks/growth.py --out results/growth.csv
    python benchmarks/growth.py --axes columns --sizes 64,1024,20000 --out results/growth.csv

One size varies at a time: "rows" (with 20 columns), "columns" (with 1,000 rows), "side" (64 images,
two epochs in batches of 8) and "members" (2,000 rows with 20 columns). Baselines run on the axes
that they have, in the same file. The exponent is the slope of the logarithm of the median time over
the logarithm of the size: 1 is linear, and 2 for the side, whose square is the number of pixels.
Measurements need an idle machine. Runs that the CSV already contains are skipped, so that the
benchmark can be interrupted. At the smallest size, the detector runs once before the measurements.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from detectors import is_ours, make_detector
from markdown_tables import markdown
from numpy.typing import NDArray
from options import words
from runs import Run, add_detectors, grouped, integers, parser_of, rows_of, run_all

from gandetect import ConvNet

SIZES = {
    "rows": (1_000, 4_000, 16_000, 64_000),
    "columns": (16, 64, 256, 1_024, 4_096),
    "side": (16, 32, 64, 128, 256, 512, 1_024),
    "members": (1, 2, 4, 8, 16, 32),
}
# The axes that only the detectors of gandetect have.
OWN = ("side", "members")


@dataclass(kw_only=True)
class GrowthRun(Run):
    """One run: the times at one size; `name` is the axis."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "size", "detector", "seed", "threads")

    size: int
    fit_seconds: float | None = None
    score_seconds: float | None = None
    threads: int


def samples_of(axis: str, size: int, seed: int) -> NDArray:
    """Return the samples of a run, for fit and for score."""
    rng = np.random.default_rng(seed)
    if axis == "side":
        return rng.random((64, size, size)).astype(np.float32)
    shape = {"rows": (size, 20), "columns": (1_000, size), "members": (2_000, 20)}[axis]
    # A few latent factors determine all columns, because columns of most tables are correlated.
    hidden = rng.normal(size=(shape[0], 8)) @ rng.normal(size=(8, shape[1]))
    return hidden + 0.5 * rng.normal(size=shape)


def detector_of(run: GrowthRun) -> Any:
    """Create the detector of a run with default parameters, except for the axis that varies."""
    params: dict[str, Any] = {}
    if run.name == "members":
        params["n_estimators"] = run.size
    if run.name == "side":
        # In the default batches of 64, images with a side of 1,024 need more than 23 GB.
        params |= {"epochs": 2, "batch_size": 8, "architecture": ConvNet()}
    return make_detector(run.detector, run.seed, standardise=True, **params)


@cache
def warmed(axis: str, detector: str) -> None:
    """Run once without measurement, for everything that a process initialises once."""
    size = min(SIZES[axis])
    run = GrowthRun(name=axis, size=size, detector=detector, seed=0, threads=1)
    X = samples_of(axis, size, 0)[:64]
    detector_of(run).fit(X).score_samples(X)


def measure(run: GrowthRun) -> Iterator[GrowthRun]:
    """Fit and score once, and complete the run."""
    warmed(run.name, run.detector)
    X, detector = samples_of(run.name, run.size, run.seed), detector_of(run)
    start = time.perf_counter()
    detector.fit(X)
    fitted = time.perf_counter()
    detector.score_samples(X)
    run.fit_seconds = round(fitted - start, 4)
    run.score_seconds = round(time.perf_counter() - fitted, 4)
    yield run


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the exponent of the growth of time with size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def report(path: Path) -> str:
    """Return a table: a line for each axis and detector with measurements at two sizes or more."""
    lines: list[list[Any]] = []
    for (axis, detector), runs in grouped(rows_of(path, GrowthRun), ["name", "detector"]).items():
        by_size = {int(size): group for (size,), group in grouped(runs, ["size"]).items()}
        if len(by_size) < 2:
            continue
        sizes = sorted(by_size)
        found = [
            exponent(
                sizes, [float(np.median([float(run[kind]) for run in by_size[s]])) for s in sizes]
            )
            for kind in ("fit_seconds", "score_seconds")
        ]
        covered = f"{sizes[0]} to {sizes[-1]}"
        lines.append([axis, detector, covered, *(f"{power:.2f}" for power in found)])
    return markdown(["what grows", "detector", "sizes", "fit", "score"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing rows of the CSV, and print the exponents of all rows."""
    peers = ["pyod.AutoEncoder", "pyod.LUNAR", "pyod.KNN"] if find_spec("pyod") else []
    parser = parser_of(__doc__)
    add_detectors(parser, ["GANomaly", "AdversarialVAE", "iforest", *peers])
    add = parser.add_argument
    add("--axes", type=words, default=list(SIZES), help=f"of {', '.join(SIZES)}")
    add("--sizes", type=integers, default=None, help="instead of the default ones of each axis")
    parser.set_defaults(seeds=[0])
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.axes) - set(SIZES)):
        parser.error(f"--axes knows {', '.join(SIZES)}, not {', '.join(unknown)}")
    planned = [
        GrowthRun(name=axis, size=size, detector=detector, seed=seed, threads=args.threads)
        for axis in args.axes
        for size in args.sizes or SIZES[axis]
        for seed in args.seeds
        for detector in args.detectors
        if is_ours(detector) or axis not in OWN
    ]
    went_well = run_all(planned, args, measure)
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
