"""Measure how fit and score times grow with rows, columns, the side of images and members.

    python benchmarks/growth.py --out results/growth.csv
    python benchmarks/growth.py --axes columns --sizes 64,1024,20000 --out results/growth.csv

One thing grows at a time: "rows" (of 20 columns), "columns" (of 1,000 rows), "side" (64 images, two
epochs) and "members" (2,000 rows of 20 columns). Baselines run where they have the axis, in the
same file. The exponent is the slope of the logarithm of the median time over the logarithm of the
size: 1 is linear. Times need an idle machine; runs that the CSV already holds are skipped, so that
the benchmark can be broken off. The detector at the smallest size runs once beforehand, untimed.
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
    "side": (16, 32, 64),
    "members": (1, 2, 4, 8, 16, 32),
}
# The axes that only the detectors of gandetect have.
OWN = ("side", "members")


@dataclass(kw_only=True)
class GrowthRun(Run):
    """One run: how long it took at one size; `name` is what grows."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "size", "detector", "seed", "threads")

    size: int
    fit_seconds: float | None = None
    score_seconds: float | None = None
    threads: int


def samples_of(axis: str, size: int, seed: int) -> NDArray:
    """The samples of a run, to fit and to score."""
    rng = np.random.default_rng(seed)
    if axis == "side":
        return rng.random((64, size, size)).astype(np.float32)
    shape = {"rows": (size, 20), "columns": (1_000, size), "members": (2_000, 20)}[axis]
    # A few directions hold all columns together, as in most tables.
    hidden = rng.normal(size=(shape[0], 8)) @ rng.normal(size=(8, shape[1]))
    return hidden + 0.5 * rng.normal(size=shape)


def detector_of(run: GrowthRun) -> Any:
    """The detector of a run, at its defaults but for what grows."""
    params: dict[str, Any] = {}
    if run.name == "members":
        params["n_estimators"] = run.size
    if run.name == "side":
        params |= {"epochs": 2, "architecture": ConvNet()}
    return make_detector(run.detector, run.seed, standardise=True, **params)


@cache
def warmed(axis: str, detector: str) -> None:
    """Run what is made once in a process, untimed."""
    size = min(SIZES[axis])
    run = GrowthRun(name=axis, size=size, detector=detector, seed=0, threads=1)
    X = samples_of(axis, size, 0)[:64]
    detector_of(run).fit(X).score_samples(X)


def measure(run: GrowthRun) -> Iterator[GrowthRun]:
    """Fit and score once; fill in the run."""
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
    """The power of the size that the time grows with."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def report(path: Path) -> str:
    """A line for each axis and detector that was measured at two sizes or more."""
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
    """Run what the CSV does not hold yet, and print the exponents of all that it holds."""
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
