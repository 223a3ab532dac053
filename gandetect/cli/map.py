"""``gandetect map``: where in each sample the anomaly is."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandetect.archive import written_aside
from gandetect.cli.data import Samples
from gandetect.cli.model import model_and_samples
from gandetect.cli.options import UsageError, add_data, add_model, add_protocol
from gandetect.cli.output import check_place, write_columns
from gandetect.cli.score import names_of
from gandetect.data.images import pillow_image


def add_map(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "map",
        help="write where in each sample the anomaly is",
        description=(
            "Write the anomaly map of each sample, larger for worse: of the pixels of images, of "
            "the columns of rows."
        ),
    )
    add_model(parser)
    add_data(parser)
    add_protocol(parser)
    parser.add_argument_group("output").add_argument(
        "--out",
        required=True,
        metavar="PLACE",
        help="a file .npy of all maps; a file .csv, of rows; or else a folder, for a grey .png an "
        "image, in which white is the largest value of all maps and black the smallest",
    )
    parser.set_defaults(run=run_map)


def run_map(options: Namespace) -> None:
    """Make the maps, and write them as the ending of the place says."""
    out = Path(options.out).expanduser()
    suffix = out.suffix.lower()
    if suffix in (".npy", ".csv"):
        check_place(options.out)
    elif suffix:
        raise UsageError(f"--out takes .npy, .csv or a folder, got {options.out}")
    detector, samples = model_and_samples(options)
    if not suffix:
        pillow_image()  # what is missing is told before the work
    maps = detector.anomaly_map(samples.X)
    is_rows = maps.ndim == 2
    if is_rows and not suffix:
        raise UsageError("maps of rows are no pictures: --out takes .npy or .csv")
    if not is_rows and suffix == ".csv":
        raise UsageError("maps of images do not fit into a .csv: --out takes .npy or a folder")
    if suffix == ".npy":
        with written_aside(out) as file:
            np.save(file, maps)
    elif suffix == ".csv":
        _write_rows(maps, samples, out)
    else:
        _write_pictures(maps, samples, out)


def _write_rows(maps: NDArray[np.float64], samples: Samples, out: Path) -> None:
    columns = samples.feature_names or [f"feature_{i}" for i in range(maps.shape[1])]
    table = dict(zip(columns, maps.T, strict=True))
    write_columns({"sample": names_of(samples), **table}, Namespace(format="csv", out=str(out)))


def _write_pictures(maps: NDArray[np.float64], samples: Samples, folder: Path) -> None:
    # One scale for all, so that pictures can be compared.
    lowest, highest = float(maps.min()), float(maps.max())
    spread = (highest - lowest) or 1.0
    for name, values in zip(names_of(samples), maps, strict=True):
        stem = f"{name:06d}" if isinstance(name, int) else str(Path(name).with_suffix(""))
        path = folder / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.round(255 * (values - lowest) / spread).astype(np.uint8)
        with written_aside(path) as file:
            pillow_image().fromarray(grey).save(file, format="PNG")
