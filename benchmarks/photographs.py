"""Measure processor time and memory of RDNA on features of larger photographs.

    python benchmarks/photographs.py --out results/photographs.csv
    python benchmarks/photographs.py --sides 256,512 --out results/photographs.csv

Photographs are enlarged square crops of those that scikit-learn includes. Up to a side of 1,024
pixels, the detector is fitted to 20 photographs of that side, in one epoch of a hundred updates,
and five more are scored. For larger sides, a single photograph is scored in overlapping pieces, by
a detector that was fitted to smaller photographs of two shapes without a limit of size. Seconds are
processor time on one thread, so that other work on the machine has little effect. Memory is the
largest resident size of the whole process, including Python and torch. Linux and macOS only.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from markdown_tables import markdown
from numpy.typing import NDArray
from runs import Run, grouped, integers, parser_of, rows_of, run_all
from sklearn.datasets import load_sample_images

from gandetect import RDNADetector

SIDES = (256, 512, 768, 1024, 4096)
# The largest side for training, and the shapes for training if larger photographs are scored.
MOST_FITTED = 1024
SMALLER = ((256, 320), (320, 256))
N_TRAIN, N_SCORED = 20, 5
# The side of the crop of a photograph that is enlarged.
CUTTING = 200
REFERENCE = 256


@dataclass(kw_only=True)
class PhotographRun(Run):
    """One run at one side; `name` is the backbone."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "side", "detector", "seed")

    side: int
    fit_seconds: float | None = None
    score_seconds: float | None = None  # per photograph
    peak_mb: int | None = None


def photographs_of(n: int, shape: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Return crops (n, height, width, 3) at random positions, enlarged to a shape."""
    rng = np.random.default_rng(seed)
    sources = load_sample_images().images
    found = []
    for i in range(n):
        source = sources[i % len(sources)]
        top, left = (int(rng.integers(0, side - CUTTING)) for side in source.shape[:2])
        cutting = source[top : top + CUTTING, left : left + CUTTING]
        x = torch.from_numpy(cutting.copy()).movedim(-1, 0)[None].float()
        enlarged = torch.nn.functional.interpolate(x, shape, mode="bilinear")[0].movedim(0, -1)
        found.append(enlarged.round().to(torch.uint8).numpy())
    return np.stack(found)


def cost(backbone: Any, side: int, seed: int) -> dict[str, Any]:
    """Fit and score in this process, and return the columns of a run."""
    torch.set_num_threads(1)
    is_fitted_to = side <= MOST_FITTED
    X: Any = photographs_of(N_TRAIN, (side, side), seed) if is_fitted_to else []
    for shape in () if is_fitted_to else SMALLER:
        X += list(photographs_of(N_TRAIN // 2, shape, seed))
    scored = photographs_of(N_SCORED if is_fitted_to else 1, (side, side), seed + 1)
    detector = RDNADetector(backbone=backbone, image_size=None, epochs=1, random_state=seed)
    start = time.process_time()
    detector.fit(X)
    fitted = time.process_time()
    detector.anomaly_score(list(scored) if not is_fitted_to else scored)
    seconds = time.process_time() - fitted
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "fit_seconds": round(fitted - start, 1) if is_fitted_to else None,
        "score_seconds": round(seconds / len(scored), 3),
        "peak_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }


def measure(run: PhotographRun) -> Iterator[PhotographRun]:
    """Measure one side in a separate process, so that its memory is only of that side."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(cost, (run.name, run.side, run.seed))
    for column, value in found.items():
        setattr(run, column, value)
    yield run


def report(path: Path) -> str:
    """Return a table: a line for each side, with times as multiples of those at 256 pixels."""
    sides = {
        int(side): {
            column: np.mean([float(row[column]) for row in rows if row[column]] or [np.nan])
            for column in ("fit_seconds", "score_seconds", "peak_mb")
        }
        for (side,), rows in grouped(rows_of(path, PhotographRun), ["side"]).items()
    }
    lines = []
    for side, found in sorted(sides.items()):
        cells = []
        for column in ("fit_seconds", "score_seconds"):
            value = found[column]
            usual = sides.get(REFERENCE, {}).get(column, np.nan)
            times = "" if np.isnan(value / usual) else f"{value / usual:.1f}"
            cells += ["" if np.isnan(value) else f"{value:.1f}", times]
        lines.append([side, *cells, f"{found['peak_mb']:.0f}"])
    heads = ["side", "fit s", "to 256", "score s an image", "to 256", "peak MB"]
    return markdown(heads, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = parser_of(__doc__)
    parser.add_argument("--sides", type=integers, default=list(SIDES), help="in pixels")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.set_defaults(seeds=[0])
    args = parser.parse_args(argv)
    planned = [
        PhotographRun(name=args.backbone, detector="RDNA", side=side, seed=seed)
        for seed in args.seeds
        for side in args.sides
    ]
    went_well = run_all(planned, args, measure)
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
