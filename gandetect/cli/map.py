"""``gandetect map``: the anomaly maps of samples."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gandetect.cli.options import UsageError, add_data, add_model, add_protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gandetect.cli.data import Samples


def add_map(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "map",
        help="write the anomaly map of each sample",
        description=(
            "Write the anomaly map of each sample, larger for more anomalous pixels of images or "
            "columns of rows."
        ),
    )
    add_model(parser)
    add_data(parser)
    add_protocol(parser)
    parser.add_argument_group("output").add_argument(
        "--out",
        required=True,
        metavar="PLACE",
        help="a .npy file of all maps; a .csv file for rows; or a folder, other than that of the "
        "data, with one .png for each image: the map over the photograph, from dark purple to "
        "yellow with a common scale, and an outline of the pixels above the largest map value of "
        "all images that are not flagged",
    )
    parser.set_defaults(run=run_map)


def run_map(options: Namespace) -> None:
    """Compute the maps, and write them in the format of the extension."""
    import numpy as np

    from gandetect.archive import written_aside
    from gandetect.cli.output import check_file, check_folder
    from gandetect.cli.score import model_and_samples
    from gandetect.data.images import pillow_image

    suffix = _ending(options.out)
    if suffix:
        check_file(options)
    else:
        pillow_image()  # raises before the computation if pillow is missing
        check_folder(options)
    detector, samples = model_and_samples(options)
    is_rows = len(detector.sample_shape_) == 1
    if is_rows and not suffix:
        raise UsageError("maps of rows cannot be drawn as images: --out takes .npy or .csv")
    if not is_rows and suffix == ".csv":
        raise UsageError("maps of images cannot be written as .csv: --out takes .npy or a folder")
    out = Path(options.out).expanduser()
    pictures = [] if suffix else _picture_paths(samples, out)
    maps = detector.anomaly_map(samples.named)
    if suffix == ".npy":
        if isinstance(maps, list):
            raise UsageError("maps of images that differ in shape need a folder as --out")
        with written_aside(out) as file:
            np.save(file, maps)
    elif suffix == ".csv":
        _write_rows(maps, samples, getattr(detector, "feature_names_in_", None), out)
    else:
        is_flagged = detector.predict(samples.named) < 0
        _write_pictures(maps, is_flagged, samples, pictures)


def _ending(out: str) -> str:
    """Return the extension of a file, or "" for a folder, whose name may contain a dot."""
    place = Path(out).expanduser()
    suffix = place.suffix.lower()
    if place.is_dir() or out.endswith("/"):
        return ""
    if suffix not in ("", ".npy", ".csv"):
        raise UsageError(
            f"--out takes .npy, .csv or a folder, got {out} (end the name of a new folder that "
            "has a dot in it with a /)"
        )
    return suffix


def _picture_paths(samples: Samples, folder: Path) -> list[Path]:
    """Return the path of the image for each sample; raise if one cannot be written."""
    from gandetect.cli.output import check_pictures
    from gandetect.cli.score import names_of
    from gandetect.data.images import ImageFiles

    names = names_of(samples)
    stems = (f"{n:06d}" if isinstance(n, int) else str(Path(n).with_suffix("")) for n in names)
    pictures = [folder / f"{stem}.png" for stem in stems]
    images = samples.X.paths if isinstance(samples.X, ImageFiles) else []
    check_pictures(names, pictures, images, folder)
    return pictures


def _write_rows(
    maps: NDArray[np.float64], samples: Samples, names: Sequence[str] | None, out: Path
) -> None:
    """Write the columns with the names and in the order of the fit."""
    from gandetect.cli.output import write_columns
    from gandetect.cli.score import names_of

    columns = [f"feature_{i}" for i in range(maps.shape[1])] if names is None else names
    table = dict(zip(columns, maps.T, strict=True))
    write_columns({"sample": names_of(samples), **table}, Namespace(format="csv", out=str(out)))


def _write_pictures(
    maps: Any, is_flagged: NDArray[np.bool_], samples: Samples, pictures: list[Path]
) -> None:
    """Write each map over its photograph, with a common colour scale."""
    from gandetect.archive import written_aside
    from gandetect.data.images import ImageFiles, pillow_image
    from gandetect.plotting.reconstruction import outline_level
    from gandetect.reporting.pictures import Photographs

    usual = [of_one for of_one, flagged in zip(maps, is_flagged, strict=True) if not flagged]
    images = samples.X.paths if isinstance(samples.X, ImageFiles) else samples.X
    photographs = Photographs(_channels_last(images), maps, outline_level(usual or maps), None)
    for i, path in enumerate(pictures):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as file:
            pillow_image().fromarray(photographs.overlay(i)).save(file, format="PNG")


def _channels_last(images: Any) -> Any:
    """Return images of an array with 1 or 3 channels, with the channels last."""
    import numpy as np

    is_first = getattr(images, "ndim", 0) == 4 and images.shape[-1] not in (1, 3)
    return np.moveaxis(images, 1, -1) if is_first and images.shape[1] in (1, 3) else images
