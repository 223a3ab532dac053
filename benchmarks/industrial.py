"""Measure detection and localisation of defects on images in the layout of MVTec AD.

    python benchmarks/industrial.py --data DATA --textures DATA/dtd --out results/industrial.csv

A run is one method on one category with one seed. The methods are RDNA, and the error maps of a PCA
and of an autoencoder; or, on the features of a backbone, the distance to the nearest patches, RDNA
without its reconstruction module, and detectors of rows on pooled features, which have no maps.
Runs that the file already contains are skipped; with --checkpoints an interrupted run of RDNA is
resumed. At the end the table of all rows of the file is printed.

    python benchmarks/industrial.py ... --methods RDNA --labelled 10 --set labels=learn

removes ten defects, equally many of each kind, from the test set, and passes them to RDNA with
their masks. If the photographs of a category show some parts several times, all photographs of
these parts are removed from the test set, so that no training part is tested. Without
`--set labels=learn` the same test set is used, and the defects are not used.

    python benchmarks/industrial.py ... --methods RDNA --backbone efficientnet-lite0 --keep-aspect

does not resize all photographs to a square: their longer side becomes the resolution, and each is
scored in its own shape. The other methods need images of one shape.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import sklearn
import torch
from detectors import KNearestNeighbors
from markdown_tables import markdown
from numpy.typing import NDArray
from options import add_parameters
from results_file import Results, read_rows
from scipy.ndimage import uniform_filter
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPRegressor
from sklearn.utils import Bunch
from threadpoolctl import threadpool_limits

import gandetect
from gandetect import (
    AdversarialVAEDetector,
    ALOCCDetector,
    BiGANDetector,
    Checkpoint,
    GANomalyDetector,
    RDNADetector,
)
from gandetect.datasets import load_mvtec
from gandetect.detectors.rdna import RDNAFeatureModel
from gandetect.metrics import per_region_overlap, pixel_average_precision, pixel_roc_auc
from gandetect.model.patches import PatchBank, drawn_patches, gaussian_smoothed
from gandetect.networks.backbone import Backbone

# RDNA on features, with a discriminant module that gets no reconstruction.
WITHOUT_RECONSTRUCTION = "RDNA-without-reconstruction"
RDNAS = ("RDNA", WITHOUT_RECONSTRUCTION)
# Detectors of rows on the mean features of an image.
POOLED: dict[str, Any] = {
    "AdversarialVAE-pooled": AdversarialVAEDetector,
    "ALOCC-pooled": ALOCCDetector,
    "BiGAN-pooled": BiGANDetector,
    "GANomaly-pooled": GANomalyDetector,
    "knn-mean-pooled": None,
}
DEFAULT_METHODS = ("RDNA", "PCA", "autoencoder")
METHODS = (*DEFAULT_METHODS, WITHOUT_RECONSTRUCTION, "patches", *POOLED)
# The number of images that a backbone processes, or that are scored, at once.
N_AT_ONCE = 8
FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap", "pro")
# The side of the images for the baselines, whose rows have 3 x 64 x 64 values.
BASELINE_SIZE = 64


@dataclass(kw_only=True)
class Row:
    """One run: method, data, results, times and versions."""

    category: str
    method: str
    params: str  # JSON; empty braces for a baseline
    resolution: int  # of the evaluated images and masks
    aspect: str = ""  # "kept": the resolution is that of the longer side; otherwise of both
    seed: int
    n_labelled: int = 0  # defects moved from the test set to training
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    pro: float | None = None
    fit_seconds: float | None = None
    score_seconds: float | None = None
    epochs: int | None = None
    stop_reason: str = ""
    n_train: int | None = None
    n_test: int | None = None
    threads: int
    gandetect: str = gandetect.__version__
    torch: str = torch.__version__
    sklearn: str = sklearn.__version__
    error: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """Return the values that identify the run, as text."""
        return tuple(str(getattr(self, column)) for column in KEY)


COLUMNS = tuple(field.name for field in fields(Row))
KEY = ("category", "method", "params", "resolution", "aspect", "seed", "n_labelled")


class ErrorMaps:
    """The squared error of a reconstruction by an estimator of rows, as a map.

    Parameters
    ----------
    method : {"PCA", "autoencoder"}
    seed : int
    """

    def __init__(self, method: str, seed: int) -> None:
        self.estimator: Any
        if method == "PCA":
            self.estimator = PCA(n_components=0.95, svd_solver="full", random_state=seed)
        else:
            self.estimator = MLPRegressor(hidden_layer_sizes=(256, 32, 256), random_state=seed)

    def fit(self, images: NDArray) -> Self:
        """Fit to normal 8-bit images (n, H, W) or (n, H, W, C)."""
        rows = self._rows(images)
        self.estimator.fit(rows, *([] if isinstance(self.estimator, PCA) else [rows]))
        return self

    def anomaly_map(self, images: NDArray) -> NDArray:
        """Return the error in the size of the images, (n, H, W)."""
        rows = self._rows(images)
        if isinstance(self.estimator, PCA):
            restored = self.estimator.inverse_transform(self.estimator.transform(rows))
        else:
            restored = self.estimator.predict(rows)
        errors = ((rows - restored) ** 2).reshape(len(rows), -1, *self.size).mean(axis=1)
        return _resized(torch.from_numpy(errors)[:, None], images.shape[1:3])[:, 0].numpy()

    def anomaly_score(self, images: NDArray) -> NDArray:
        """Return the largest value of each map, averaged over squares as in DRAEM."""
        side = round(21 * max(images.shape[1:3]) / 256)
        smoothed = uniform_filter(self.anomaly_map(images), (0, side, side), mode="constant")
        return smoothed.max(axis=(1, 2))

    def _rows(self, images: NDArray) -> NDArray:
        x = torch.from_numpy(images.astype(np.float32) / 255)
        x = x.movedim(-1, 1) if x.ndim == 4 else x[:, None]
        factor = BASELINE_SIZE / max(x.shape[2:])
        self.size = tuple(max(round(factor * side), 1) for side in x.shape[2:])
        return _resized(x, self.size).flatten(1).numpy()


class OnlyDiscriminant(RDNAFeatureModel):
    """A model whose discriminant module gets each vector in place of its reconstruction."""

    def restored_and_judged(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.reconstructor(x), self.discriminant(x, x, torch.zeros_like(x))

    @classmethod
    def runs_foreign_code(cls, settings: Any) -> bool:
        return False  # as in RDNA, hooks return no maps before the last epoch


class WithoutReconstruction(RDNADetector):
    """RDNA on features without its reconstruction module."""

    def _model_class(self) -> type[RDNAFeatureModel]:
        return OnlyDiscriminant


class OnFeatures:
    """Base of methods on the maps of a backbone, standardised on all training images.

    Parameters
    ----------
    backbone : str
    seed : int
    """

    def __init__(self, backbone: str, seed: int) -> None:
        self.backbone = Backbone(backbone)
        self.seed = seed

    def maps(self, images: NDArray) -> Iterator[torch.Tensor]:
        """Yield the maps of 8-bit images (n, H, W) or (n, H, W, C), in batches."""
        with torch.no_grad():
            yield from map(self.backbone, self._batches(images))

    @staticmethod
    def _batches(images: NDArray) -> Iterator[torch.Tensor]:
        for start in range(0, len(images), N_AT_ONCE):
            x = torch.from_numpy(images[start : start + N_AT_ONCE].astype(np.float32) / 255)
            yield x.movedim(-1, 1) if x.ndim == 4 else x[:, None]


class NearestPatches(OnFeatures):
    """PatchCore's score with patches drawn at random: the largest smoothed distance."""

    def fit(self, images: NDArray) -> Self:
        """Fit to normal images."""
        self.backbone.learn(self._batches(images))
        generator = torch.Generator().manual_seed(self.seed)
        n_each = max(10_000 // len(images), 1)
        patches = [drawn_patches(m, n_each, generator=generator) for m in self.maps(images)]
        self.bank = PatchBank.of(patches, generator=generator)
        return self

    def judge(self, images: NDArray) -> tuple[NDArray, NDArray]:
        """Return scores (n,) and maps in the size of the images, (n, H, W)."""
        found = []
        for maps in self.maps(images):
            distances = _resized(self.bank(maps)[0][:, None], maps.shape[2:])[:, 0]
            found.append(gaussian_smoothed(distances, 1.0))
        fine = torch.cat(found)
        scores = fine.amax(dim=(1, 2)).numpy()
        return scores, _resized(fine[:, None], images.shape[1:3])[:, 0].numpy()


class OnPooledFeatures(OnFeatures):
    """A detector of rows on the mean features of an image, which gives no maps."""

    def __init__(self, method: str, backbone: str, seed: int) -> None:
        super().__init__(backbone, seed)
        of_rows = POOLED[method]
        nearest = KNearestNeighbors(method="mean")
        self.detector: Any = nearest if of_rows is None else of_rows(random_state=seed)

    def fit(self, images: NDArray) -> Self:
        """Fit to normal images."""
        self.backbone.learn(self._batches(images))
        self.detector.fit(self._rows(images))
        return self

    def judge(self, images: NDArray) -> tuple[NDArray, None]:
        """Return scores (n,), and no maps."""
        return -self.detector.score_samples(self._rows(images)), None

    def _rows(self, images: NDArray) -> NDArray:
        return torch.cat([m.mean(dim=(2, 3)) for m in self.maps(images)]).numpy()


def _resized(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)


def make_method(row: Row, checkpoints: Path | None) -> Any:
    """Create the method of a run."""
    params = json.loads(row.params)
    if row.method in POOLED:
        return OnPooledFeatures(row.method, params["backbone"], row.seed)
    if row.method == "patches":
        return NearestPatches(params["backbone"], row.seed)
    if row.method not in RDNAS:
        return ErrorMaps(row.method, row.seed)
    params = {"random_state": row.seed, **params}
    preset = params.pop("preset", None)
    kind = RDNADetector if row.method == "RDNA" else WithoutReconstruction
    detector = kind(**params) if preset is None else kind.preset(preset, **params)
    if checkpoints is not None:
        of_params = f"{zlib.crc32(row.params.encode()):08x}"
        name = f"{row.method}-{row.category}-{row.seed}-{of_params}.safetensors"
        detector.set_callbacks(Checkpoint(checkpoints / name, every_n_epochs=5))
    return detector


def with_labelled(test: Bunch, n_labelled: int, seed: int) -> tuple[Bunch, Bunch]:
    """Return some defects with their masks, and the test images that show other parts.

    The kinds of defects are used in turn; from each kind one defect is drawn, of a part that was
    not drawn for another one.
    """
    numbers = np.arange(len(test.labels)).astype(str)
    groups = numbers if test.groups is None else np.char.add("part ", test.groups)
    groups = np.where(groups == "part ", numbers, groups)  # an unlisted image is its own part
    order = np.random.default_rng(seed).permutation(np.flatnonzero(test.labels))
    chosen: list[int] = []
    while len(chosen) < n_labelled:
        n_before = len(chosen)
        for kind in np.unique(test.defects[order]):
            is_free = (test.defects[order] == kind) & ~np.isin(groups[order], groups[chosen])
            chosen += order[is_free][:1].tolist()
        if len(chosen) == n_before:
            raise ValueError(f"There are only {n_before} parts with a defect, not {n_labelled}.")
    chosen = chosen[:n_labelled]
    rest = np.flatnonzero(~np.isin(groups, groups[chosen]))
    return (
        Bunch(images=_taken(test.images, chosen), masks=_taken(test.masks, chosen)),
        Bunch(
            images=_taken(test.images, rest),
            masks=_taken(test.masks, rest),
            labels=test.labels[rest],
        ),
    )


def _taken(images: Any, rows: Sequence[int] | NDArray) -> Any:
    """Select images of an array, or of a list if their shapes differ."""
    return [images[row] for row in rows] if isinstance(images, list) else images[rows]


def judge(method: Any, images: Any) -> tuple[NDArray, Any]:
    """Return scores and maps of images, computed together if the method and the shapes allow it."""
    if hasattr(method, "judge"):
        return method.judge(images)
    model = getattr(method, "model_", None)
    if not getattr(model, "gives_maps", False) or isinstance(images, list):
        return method.anomaly_score(images), method.anomaly_map(images)
    with torch.no_grad():
        found = [
            model(torch.from_numpy(images[start : start + N_AT_ONCE]).double())
            for start in range(0, len(images), N_AT_ONCE)
        ]
    scores, _, maps = (torch.cat(values).numpy() for values in zip(*found, strict=True))
    return scores, maps


def measure(row: Row, train: Bunch, test: Bunch, checkpoints: Path | None = None) -> None:
    """Fit and evaluate one method, and complete the row."""
    method = make_method(row, checkpoints)
    images, masks = train.images, {}
    if row.n_labelled:
        labelled, test = with_labelled(test, row.n_labelled, row.seed)
        if getattr(method, "labels", "") == "learn":
            none = [np.zeros(image.shape[:2], dtype=bool) for image in images]
            images = [*images, *labelled.images]
            masks = {"masks": [*none, *labelled.masks]}
            if not row.aspect:
                images = np.stack(images)
    row.n_train, row.n_test = len(images), len(test.images)
    start = time.perf_counter()
    method.fit(images, **masks)
    fitted = time.perf_counter()
    scores, maps = judge(method, test.images)
    row.fit_seconds = round(fitted - start, 1)
    row.score_seconds = round(time.perf_counter() - fitted, 1)
    row.epochs, row.stop_reason = (
        getattr(method, "n_iter_", None),
        getattr(method, "stop_reason_", ""),
    )
    row.image_auroc = round(float(roc_auc_score(test.labels, scores)), 4)
    if maps is None:
        return
    row.pixel_auroc = round(pixel_roc_auc(test.masks, maps), 4)
    row.pixel_ap = round(pixel_average_precision(test.masks, maps), 4)
    row.pro = round(per_region_overlap(test.masks, maps), 4)


def run(row: Row, args: argparse.Namespace) -> bool:
    """Do one run; an error is stored in the row. Return whether there was no error."""
    try:
        size: dict[str, Any] = {"image_size": (row.resolution, row.resolution)}
        if row.aspect:
            size = {"image_size": row.resolution, "lazy": True}
        train, test = (
            load_mvtec(args.data, row.category, split, **size) for split in ("train", "test")
        )
        if row.aspect:  # files would be read again in every epoch
            for bunch in (train, test):
                bunch.images, bunch.masks = list(bunch.images), list(bunch.masks)
        measure(row, train, test, args.checkpoints)
    except Exception as error:  # one failed run must not end a long benchmark
        traceback.print_exc()
        row.error = f"{type(error).__name__}: {error}"
    figures = ", ".join(f"{figure} {getattr(row, figure)}" for figure in FIGURES)
    print(f"{row.category} {row.method} seed {row.seed}: {row.error or figures}", flush=True)
    return not row.error


def planned_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Yield all requested runs."""
    params: dict[str, Any] = {"backbone": args.backbone}
    if args.backbone is None:
        params = {"preset": args.preset}
    params.update(dict(args.set))
    if args.textures is not None:
        params["anomaly_source"] = str(args.textures)
    for name in ("adversarial_weight", "max_time", "image_size"):
        if getattr(args, name) is not None:
            params[name] = getattr(args, name)
    for category in args.categories.split(","):
        for seed in args.seeds.split(","):
            for method in args.methods.split(","):
                yield Row(
                    category=category,
                    method=method,
                    params=json.dumps(_params_of(method, params), sort_keys=True),
                    resolution=args.resolution,
                    aspect="kept" if args.keep_aspect else "",
                    seed=int(seed),
                    n_labelled=args.labelled,
                    threads=args.threads,
                )


def _params_of(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method in RDNAS:
        return params
    if method in POOLED or method == "patches":
        return {"backbone": params["backbone"]}
    return {}


def report(path: Path) -> str:
    """Return a table: a line for each category and method, means over seeds, and their mean."""
    figures: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows(path, COLUMNS):
        if not row["error"]:
            name = row["method"] if row["params"] == "{}" else f"{row['method']} {row['params']}"
            if row["aspect"]:
                name += f", aspect {row['aspect']}"
            if row["n_labelled"] != "0":
                name += f", {row['n_labelled']} defects not tested"
            values = [float(row[figure] or "nan") for figure in (*FIGURES, "fit_seconds")]
            figures[name][row["category"]].append(values)
    lines = []
    for name, of_name in figures.items():
        means = {category: np.mean(runs, axis=0) for category, runs in of_name.items()}
        n_seeds = {category: str(len(runs)) for category, runs in of_name.items()}
        if len(means) > 1:
            means["mean"], n_seeds["mean"] = np.mean(list(means.values()), axis=0), ""
        for category, mean in means.items():
            # Some methods return no maps.
            of_figures = ["" if np.isnan(figure) else float(figure) for figure in mean[:-1]]
            lines.append([name, category, *of_figures, f"{mean[-1]:.0f}", n_seeds[category]])
    heads = ["method", "category", "image AUROC", "pixel AUROC", "pixel AP", "PRO", "fit s"]
    return markdown([*heads, "seeds"], lines)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the categories, or with mvtec/ in it")
    add("--categories", default="bottle,magnetic_tile", help="names, comma-separated")
    add("--methods", default=",".join(DEFAULT_METHODS), help=f"of {', '.join(METHODS)}")
    add("--seeds", default="0", help="comma-separated")
    add("--textures", type=Path, help="folder of anomaly sources; made-up ones without")
    add("--preset", default="laptop", help="of RDNADetector: laptop, gpu or paper")
    add("--backbone", help="of RDNADetector, in place of a preset: efficientnet-lite0")
    add("--adversarial-weight", type=float)
    add("--labelled", type=int, default=0, help="defects to take out of the test set")
    add("--max-time", type=float, help="seconds to train a category")
    add("--image-size", type=int, help="the longer side inside the networks")
    add_parameters(parser, "RDNADetector")
    add("--resolution", type=int, default=256, help="side of the images and masks judged")
    add(
        "--keep-aspect",
        action="store_true",
        help="the resolution is that of the longer side; for RDNA on a backbone",
    )
    add("--checkpoints", type=Path, help="folder to store trainings in, and take them up from")
    add("--out", type=Path, required=True, help="the CSV to append to")
    add("--threads", type=int, default=2, help="CPU threads of one run")
    args = parser.parse_args(argv)
    unknown = set(args.methods.split(",")) - set(METHODS)
    if unknown:
        parser.error(f"there is no method {', '.join(sorted(unknown))}; choose of {METHODS}")
    if args.backbone is None and set(args.methods.split(",")) - set(DEFAULT_METHODS):
        parser.error(f"methods other than {DEFAULT_METHODS} need a --backbone")
    others = set(args.methods.split(",")) - set(RDNAS)
    if args.keep_aspect and (others or args.backbone is None):
        parser.error("--keep-aspect is for RDNA with a --backbone")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing rows of the CSV, and print the table of all rows."""
    args = parse_arguments(argv)
    results = Results(args.out, COLUMNS, KEY)
    if args.checkpoints is not None:
        args.checkpoints.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    all_went_well = True
    with threadpool_limits(args.threads):
        for row in planned_rows(args):
            if row.key not in results.done:
                all_went_well &= run(row, args)
                results.add(asdict(row))
    print(report(args.out))
    return 0 if all_went_well else 1


if __name__ == "__main__":
    sys.exit(main())
