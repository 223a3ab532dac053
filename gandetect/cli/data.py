"""Reading ``--data``, the labels of anomalies, and the selection of samples for a command."""

from __future__ import annotations

import csv
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandetect.cli.options import UsageError, data_folder
from gandetect.data.images import (
    IMAGE_SUFFIXES,
    ImageFiles,
    ImageFolder,
    ImageSize,
    check_image_size,
    image_paths,
    keeps_aspect,
    resize_image,
)
from gandetect.data.plausibility import is_mask_folder, is_normal_name
from gandetect.data.tables import (
    MISSING_VALUES,
    TABLE_SUFFIXES,
    ColumnNotFoundError,
    Table,
    is_table,
    read_table,
    whole_if_possible,
)
from gandetect.datasets import list_adbench, load_labelled_images, load_mvtec
from gandetect.datasets.catalogue import CATALOGUE
from gandetect.datasets.files import resolve_data_dir
from gandetect.datasets.labelled import (
    MasksMissingError,
    apart_from_masks,
    class_folders,
    normal_by_name,
)
from gandetect.datasets.mvtec import (
    category_folder,
    is_category,
    is_visa,
    part_folder,
    part_of,
)

_ARRAY_NAMES = ("X", "x", "data")
_LABEL_NAMES = ("y", "target", "labels")
_STANDARD_INPUT = "-"

# The columns of a file with labels of some samples, by their names, as exported from a report.
_MARKS = ["sample", "label"]
_WORDS_OF_MARKS = {"0": "normal", "1": "anomaly"}
# Spreadsheet programs run a cell that begins with one of these characters as a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# Names of labels that identify the normal and the anomalous class if there are two classes.
_NORMAL_WORDS = {"normal", "inlier", "benign", "legitimate", "legit", "genuine"}
_ANOMALOUS_WORDS = {
    *("anomaly", "anomalous", "abnormal", "outlier", "attack", "intrusion", "fraud", "fraudulent"),
    *("defect", "defective", "fault", "faulty", "malicious", "malignant"),
}
_TELLING_PAIRS = (("0", "1"), ("1", "-1"), ("false", "true"))


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """The samples of ``--data``.

    Parameters
    ----------
    X : ndarray, Table or ImageFiles
        A Table has strings, dates or missing values.
    labels : ndarray of shape (n_samples,) or None, default=None
        The labels in the data, unchanged.
    class_names : sequence of str, default=()
        Names of the labels 0, 1, ...
    feature_names : list of str or None, default=None
        Names of the columns of a table; empty for a table without names, None for other data.
    names : list of str or None, default=None
        Names of the samples: the paths of images, or the column of ``--id-column``.
    masks : sequence of ndarray or None, default=None
        The mask of the anomaly in each image.
    is_split : bool, default=False
        Whether the samples are the requested part of a published split.
    has_classes : bool, default=False
        Whether the labels are classes, none of which is an anomaly by definition.
    image_settings : dict or None, default=None
        The settings with which images in an array were resized, if any.
    """

    X: Any
    labels: NDArray[Any] | None = None
    class_names: Sequence[str] = ()
    feature_names: list[str] | None = None
    names: list[str] | None = None
    masks: Any = None
    is_split: bool = False
    has_classes: bool = False
    image_settings: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def named(self) -> Any:
        """X, with the names of its columns if it is a table with names."""
        if not self.feature_names or isinstance(self.X, Table):
            return self.X
        from gandetect.data.sources import NamedRows

        return NamedRows(self.X, self.feature_names)

    def take(self, rows: NDArray[np.intp]) -> Samples:
        """Return a selection of the samples, with their labels, names and masks."""
        if isinstance(self.X, np.ndarray):
            X: Any = self.X[rows]
        else:
            from gandetect.datasets.splits import take

            X = take(self.X, rows)
        return replace(
            self,
            X=X,
            labels=None if self.labels is None else self.labels[rows],
            names=None if self.names is None else [self.names[row] for row in rows],
            masks=None if self.masks is None else [self.masks[row] for row in rows],
        )


def read_samples(
    options: Namespace,
    default_part: str,
    data: str | None = None,
    image_settings: Mapping[str, Any] = MappingProxyType({}),
    words: Sequence[str] = (),
) -> Samples:
    """Read the samples of ``--data``.

    Parameters
    ----------
    options : Namespace
        The options of `options.add_data`.
    default_part : {"train", "test"}
        The published part that is read without ``--part``, if the data set has parts.
    data : str or None, default=None
        The data to read instead of ``options.data``.
    image_settings : mapping of str to object, default: empty
        The image settings of a fitted model, for options that are not given.
    words : sequence of str, default=()
        Columns of a table that are strings in a fitted model.

    Raises
    ------
    UsageError
        If an option is not applicable to the data.
    OSError, ValueError
        If the data are missing or damaged.
    """
    data = data or options.data
    settings = _image_settings(options, image_settings)
    family, member = _family_and_member(data)
    if family in _READERS:
        return _read_named(family, member, options, default_part, data, settings)
    path = Path(data).expanduser()
    if data != _STANDARD_INPUT and not path.exists():
        raise FileNotFoundError(
            f"there is no file or folder {path}; --data takes a path, - for standard input, or one "
            f"of {', '.join(CATALOGUE[name].written for name in _READERS)}"
        )
    if options.download:
        raise UsageError("--download is for data sets with a name")
    try:
        return _read_path(path, options, default_part, settings, words)
    except ColumnNotFoundError as error:  # the column of an option
        raise UsageError(str(error)) from error


def is_named(data: str) -> bool:
    """Return whether ``--data`` is the name of a data set, not a path."""
    return _family_and_member(data)[0] in _READERS


def names_all(data: str) -> bool:
    """Return whether ``--data`` means all categories of a data set."""
    family, member = _family_and_member(data)
    return family == "mvtec" and member in ("all", "-1")


def _family_and_member(data: str) -> tuple[str, str | None]:
    family, _, member = data.partition(":")
    return family.lower().replace("_", "-"), member or None


def _image_settings(options: Namespace, fitted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for reading images: those of the options, else of the fitted model."""
    names = ("image_size", "channels", "bit_depth")
    settings = {name: getattr(options, name) or fitted.get(name) for name in names}
    size = settings["image_size"]
    if options.keep_aspect and size is None:
        raise UsageError("--keep-aspect needs --image-size, the size of the longer side")
    keep_aspect = False
    if size is not None:
        is_fitted = check_image_size(size) == check_image_size(fitted.get("image_size"))
        aspect = options.keep_aspect or (fitted.get("keep_aspect") if is_fitted else None)
        keep_aspect = keeps_aspect(size, aspect)
    bit_depth = settings["bit_depth"] or "auto"
    return {**settings, "bit_depth": bit_depth, "keep_aspect": keep_aspect}


def _on_error(options: Namespace) -> Any:
    return "skip" if options.on_error == "skip" else "raise"


def _read_path(
    path: Path,
    options: Namespace,
    default_part: str,
    settings: dict[str, Any],
    words: Sequence[str],
) -> Samples:
    """Read a file or a folder, and the labels of the options."""
    suffix = path.suffix.lower()
    is_folder = path.is_dir()
    if str(path) == _STANDARD_INPUT or (is_table(path) and not is_folder):
        samples = _of_table(_read_text(path, options, words), options)
    elif suffix in (".parquet", ".pq") or (is_folder and _holds_parquet(path)):
        samples = _of_table(_read_parquet(path, options, words), options)
    elif suffix == ".npy":
        samples = Samples(X=_load_npy(path))
    elif suffix == ".npz":
        samples = _read_npz(path, options)
    else:
        samples = _read_images(path, options, default_part, settings)
    _refuse_options_of_others(path, samples, options)
    if not len(samples):
        raise ValueError(f"{path} contains no samples")
    samples = _resized(samples, settings)
    if options.label_file:
        samples = replace(samples, labels=_read_labels(Path(options.label_file), samples))
    return samples


def _refuse_options_of_others(path: Path, samples: Samples, options: Namespace) -> None:
    """Raise UsageError for an option that would have no effect."""
    is_rows = samples.feature_names is not None
    is_text = str(path) == _STANDARD_INPUT or is_table(path)
    effects = {
        "label_column": is_rows or path.suffix.lower() == ".npz",
        "drop_columns": is_rows,
        "id_column": is_rows,
        "missing": is_rows,
        "date_columns": is_rows,
        **dict.fromkeys(("delimiter", "decimal", "thousands", "encoding", "header"), is_text),
    }
    is_files = not isinstance(samples.X, np.ndarray | Table)
    is_images = is_files or (isinstance(samples.X, np.ndarray) and is_resizable(samples.X))
    effects |= dict.fromkeys(("image_size", "channels", "keep_aspect"), is_images)
    effects |= dict.fromkeys(("bit_depth", "on_error"), is_files)
    for name, has_effect in effects.items():
        if vars(options).get(name) and not has_effect:
            raise UsageError(f"--{name.replace('_', '-')} does not apply to {path}")


def _resized(samples: Samples, settings: dict[str, Any]) -> Samples:
    """Convert images in an array to the size and the channels of the settings."""
    size, channels, keep_aspect = (settings[n] for n in ("image_size", "channels", "keep_aspect"))
    is_kept = size is None and channels is None
    if is_kept or not isinstance(samples.X, np.ndarray) or not is_resizable(samples.X):
        return samples
    X = resized(samples.X, size, channels, keep_aspect=keep_aspect)
    return replace(samples, X=X, image_settings=settings)


def is_resizable(X: NDArray[Any]) -> bool:
    """Return whether this is an array of images: (n, H, W), or with 1 or 3 channels."""
    n_channels = {X.shape[1], X.shape[-1]} if X.ndim == 4 else {1}
    return X.ndim in (3, 4) and bool(n_channels & {1, 3}) and X.dtype.kind in "biuf"


def resized(
    X: NDArray[Any],
    image_size: ImageSize = None,
    channels: int | None = None,
    *,
    keep_aspect: bool | None = None,
) -> NDArray[Any]:
    """Resize images, and convert them to grey or colour.

    For integers of 8 and 16 bits the result is that of `gandetect.datasets.ImageFolder` for files;
    other numbers become float32, interpolated in the same way and not rounded.

    Parameters
    ----------
    X : ndarray of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
        Images for which `is_resizable` holds.
    image_size : int, (height, width) or None, default=None
        The new size, as for `gandetect.datasets.ImageFolder`; None keeps it.
    channels : {1, 3} or None, default=None
        1 converts the images to grey, 3 to colour; None does not change them.
    keep_aspect : bool or None, default=None
        Whether the aspect ratio is kept; None keeps it if `image_size` is an integer.

    Returns
    -------
    ndarray of shape (n, H, W), or with channels on the same axis as in X
    """
    if image_size is None and channels is None:
        return X
    is_first = X.ndim == 4 and X.shape[-1] not in (1, 3)
    size, keep = check_image_size(image_size), keeps_aspect(image_size, keep_aspect)
    if is_first:
        X = np.moveaxis(X, 1, -1)
    if X.ndim == 4 and X.shape[-1] == 1:
        X = X[..., 0]
    images = [resize_image(x, size, channels, keep_aspect=keep) for x in X]
    stacked = np.stack(images) if images else X
    return np.moveaxis(stacked, -1, 1) if is_first and stacked.ndim == 4 else stacked


def _read_text(path: Path, options: Namespace, words: Sequence[str]) -> Table:
    return read_table(
        path if str(path) != _STANDARD_INPUT else _STANDARD_INPUT,
        delimiter=options.delimiter,
        decimal=options.decimal,
        thousands=options.thousands,
        encoding=options.encoding,
        header="auto" if options.header is None else options.header == "yes",
        missing_values=(*MISSING_VALUES, *options.missing),
        words=[*_columns_of_words(options), *words],
    )


def _read_parquet(path: Path, options: Namespace, words: Sequence[str]) -> Table:
    from gandetect.data.parquet import read_parquet

    words = [*_columns_of_words(options), *words]
    return read_parquet(path, missing_values=options.missing, words=words)


def _holds_parquet(folder: Path) -> bool:
    from gandetect.data.parquet import is_parquet

    return is_parquet(folder)


def _columns_of_words(options: Namespace) -> list[str]:
    """Return the columns that may contain strings."""
    return [*options.drop_columns, *([options.id_column] if options.id_column else [])]


def _of_table(table: Table, options: Namespace) -> Samples:
    table.check_rows()
    label, identifier = (
        None if name is None else table.position(name)
        for name in (options.label_column, options.id_column)
    )
    left_out = {label, identifier, *map(table.position, options.drop_columns)}
    features = [i for i in range(len(table.names)) if i not in left_out]
    if not features:
        raise ValueError(f"{table.source} has no feature columns")
    rows = table.select(features)
    return Samples(
        X=rows if rows.obstacles() else rows.matrix(),
        labels=None if label is None else whole_if_possible(table.columns[label]),
        feature_names=rows.names if table.has_names else [],
        names=_names_of_rows(table, identifier),
    )


def _names_of_rows(table: Table, identifier: int | None) -> list[str] | None:
    names = table.row_names if identifier is None else table.columns[identifier]
    if names is None or (identifier is None and all(map(str.isdecimal, names))):
        return None  # consecutive numbers have no more information than the position
    return ["" if name is None else name for name in names]


def _load_npy(path: Path) -> NDArray[Any]:
    from gandetect.data.images import DataFileError
    from gandetect.datasets.files import reason_of

    try:
        # A memory map: a large array is read batch by batch.
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise DataFileError(
            f"{path} cannot be read as an array of numbers: {reason_of(error)}"
        ) from error
    if not isinstance(array, np.memmap) or array.ndim == 0:
        raise DataFileError(f"{path} is not an array of samples")
    return array


def _read_npz(path: Path, options: Namespace) -> Samples:
    from gandetect.data.images import DataFileError
    from gandetect.datasets.files import read_npz

    labels = _LABEL_NAMES if options.label_column is None else (options.label_column,)
    key_sets: list[tuple[str, ...]] = [(array, label) for array in _ARRAY_NAMES for label in labels]
    if options.label_column is None:
        key_sets += [(array,) for array in _ARRAY_NAMES]
    X, *rest = read_npz(path, *key_sets).values()
    if rest and rest[0].shape != X.shape[:1]:
        raise DataFileError(f"{path} has labels of shape {rest[0].shape} for {X.shape[:1]} samples")
    return Samples(X=X, labels=rest[0] if rest else None)


def _read_images(
    path: Path, options: Namespace, default_part: str, settings: dict[str, Any]
) -> Samples:
    if not path.is_dir():
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            known = ", ".join((".npy", ".npz", *TABLE_SUFFIXES, ".parquet", *IMAGE_SUFFIXES))
            raise UsageError(f"the extension of {path} is not one of {known}")
        image = ImageFiles([path], **settings, on_error=_on_error(options))
        return _of_images(image, path.parent, options)
    is_sure = is_visa(path) or any(is_mask_folder(place.name) for place in path.glob("*/"))
    places = part_folder(path, "train").glob("*/")
    if is_category(path) and (is_sure or any(is_normal_name(place.name) for place in places)):
        if options.part == "all":
            raise UsageError(f"{path} has a training and a test part: --part train or --part test")
        part = options.part or default_part
        return _of_category(path.parent, path.resolve().name, part, options, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is left out is reported when the images are read
        paths, masks = apart_from_masks(image_paths(path), path)
    if not masks or not paths:
        images = ImageFolder(path, **settings, on_error=_on_error(options))
        return _of_images(images, path, options)
    if _are_labelled(paths, path, options.normal_class or ()):
        return _of_masked_images(path, options, settings)
    warnings.warn(
        f"{len(masks)} images in {path} are left out, because by their paths they are masks of "
        f"others, such as {min(masks.values())}",
        stacklevel=2,
    )
    return _of_images(ImageFiles(paths, **settings, on_error=_on_error(options)), path, options)


def _are_labelled(paths: list[Path], root: Path, normal_class: Sequence[str]) -> bool:
    """Return whether the folders of images determine which of them are normal."""
    with suppress(ValueError):
        classes = class_folders(paths, root, normal_class)
        return classes is not None and bool(normal_by_name(classes, normal_class).any())
    return False


def _without_incomplete_masks(load: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """Load images with their masks; without any, and with a warning, if some are missing."""
    try:
        return load(*args, **settings, lazy=True)
    except MasksMissingError as error:
        warnings.warn(f"no masks are read, and no pixel metrics computed: {error}", stacklevel=2)
        return load(*args, **settings, lazy=True, masks=False)


def _of_category(
    root: Path | None, category: str, part: str, options: Namespace, settings: dict[str, Any]
) -> Samples:
    """Read a part of a category in MVTec's layout, with labels and masks from its folders."""
    bunch = _without_incomplete_masks(
        load_mvtec, root, category, part, **settings, on_error=_on_error(options)
    )
    folder = part_folder(category_folder(resolve_data_dir(root), category), part)
    names = [path.relative_to(folder) for path in bunch.paths]
    has_classes = _has_class_options(options)
    return Samples(
        X=bunch.images,
        labels=np.array(
            [
                (folder / name.parent).name if len(name.parts) < 2 else name.parts[0]
                for name in names
            ]
        )
        if has_classes
        else bunch.labels,
        names=[name.as_posix() for name in names],
        masks=bunch.masks if part == "test" else None,
        is_split=True,
    )


def _of_masked_images(path: Path, options: Namespace, settings: dict[str, Any]) -> Samples:
    """Read a folder of good and bad images with masks."""
    bunch = _without_incomplete_masks(
        load_labelled_images, path, options.normal_class, **settings, on_error=_on_error(options)
    )
    samples = replace(_of_images(bunch.images, path, options), masks=bunch.masks)
    return samples if _has_class_options(options) else replace(samples, labels=bunch.labels)


def _of_images(images: ImageFiles, root: Path, options: Namespace) -> Samples:
    """Return images, labelled by the names of their folders."""
    chosen = options.anomalous_class or options.normal_class or ()
    labels = class_folders(images.paths, root.parent if root.name in chosen else root, chosen)
    if labels is None and chosen:
        labels = class_folders(images.paths, root.parent, chosen)
    names = [path.relative_to(root).as_posix() for path in images.paths]
    return Samples(X=images, names=names, labels=labels)


def _read_labels(path: Path, samples: Samples) -> NDArray[Any]:
    """Read a separate file of labels: one for each line, an array, or marks from a report."""
    if path.expanduser().is_dir() or not path.expanduser().exists():
        raise FileNotFoundError(f"there is no file {path}, given by --label-file")
    n_samples = len(samples)
    if path.suffix.lower() == ".npy":
        labels = np.array(_load_npy(path))
    elif (marks := _marks_in(path)) is not None:
        labels = _marked(marks, path, samples)
    else:
        table = read_table(path, header=False, missing_values=())
        if len(table) == n_samples + 1:
            table = read_table(path, header=True, missing_values=())
        if len(table.names) > 1:
            raise ValueError(
                f"{path} has {len(table.names)} columns: a file of labels has one, or the columns "
                f"{' and '.join(_MARKS)}"
            )
        labels = whole_if_possible(table.columns[0])
    if labels.shape != (n_samples,):
        raise ValueError(f"{path} contains labels of shape {labels.shape} for {n_samples} samples")
    return labels


def _marks_in(path: Path) -> list[list[str]] | None:
    """Return the names and labels in a file exported from a report; None for other files."""
    with path.expanduser().open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if file.readline(100).strip() != ",".join(_MARKS):
            return None
        lines = [line for line in csv.reader(file) if line]
    if any(len(line) != len(_MARKS) for line in lines):
        raise ValueError(f"{path} must have a sample and a label in each line")
    return lines


def _marked(marks: Sequence[Sequence[str]], path: Path, samples: Samples) -> NDArray[Any]:
    """Return labels for the marked samples, and missing labels for the others."""
    places: dict[str, list[int]] = {}
    names = samples.names if samples.names is not None else map(str, range(len(samples)))
    for place, name in enumerate(names):
        places.setdefault(harmless(name), []).append(place)
    labels = np.full(len(samples), None, dtype=object)
    for name, label in marks:
        found = places.get(harmless(name), [])
        if len(found) != 1:
            raise ValueError(
                f"{path} marks {name!r}, and {len(found) or 'no'} samples have this name: it must "
                "be from a report on the same data, read with the same options"
            )
        labels[found[0]] = _WORDS_OF_MARKS.get(label, label)
    return labels


def harmless(cell: Any) -> Any:
    """Return a cell changed so that no spreadsheet program runs it as a formula."""
    is_formula = isinstance(cell, str) and cell.startswith(_FORMULA_STARTS)
    return f"'{cell}" if is_formula else cell


def _read_named(
    family: str,
    member: str | None,
    options: Namespace,
    default_part: str,
    data: str,
    settings: dict[str, Any],
) -> Samples:
    """Read a data set by its name."""
    for name in _OF_FILES:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} is for files: {data} has its own labels")
    if family in ("kddcup99", "adbench") and (options.image_size or options.channels):
        raise UsageError(f"--image-size and --channels do not apply to {data}")
    if family != "mvtec":
        for name in ("bit_depth", "on_error"):
            if getattr(options, name):
                raise UsageError(f"--{name.replace('_', '-')} is for image files, not for {data}")
    is_offered = bool(CATALOGUE[family].remote)
    if options.download and not is_offered:
        raise UsageError(
            f"--download is not available for {family}: put "
            f"{CATALOGUE[family].instructions} into --data-dir"
        )
    data_folder(options)
    try:
        return _READERS[family](family, member, options, default_part, settings)
    except FileNotFoundError as error:
        if not is_offered or options.download:
            raise
        raise FileNotFoundError(f"{error} (on the command line: add --download)") from error


def _check_member(family: str, member: str | None, members: tuple[str, ...]) -> None:
    if member is not None and member not in members:
        forms = ", ".join(f"{family}:{known}" for known in members)
        raise UsageError(f"there is no {family}:{member}, only {forms}")


def _read_classes(
    family: str, member: str | None, options: Namespace, _: str, settings: dict[str, Any]
) -> Samples:
    """Read labelled images with a published training and test part."""
    _check_member(family, member, ("train", "test", "all"))
    load = CATALOGUE[family].load
    bunch = load(options.data_dir, split=member or "all", download=options.download)
    names = bunch.get("target_names", ())
    samples = Samples(X=bunch.data, labels=bunch.target, class_names=names, has_classes=True)
    return _resized(samples, settings)


def _read_kddcup99(
    family: str, member: str | None, options: Namespace, _: str, __: dict[str, Any]
) -> Samples:
    _check_member(family, member, ("normal", "attack"))
    bunch = CATALOGUE[family].load(
        options.data_dir, anomalous_class=member or "normal", download=options.download
    )
    return Samples(X=bunch.data, labels=bunch.target, feature_names=bunch.feature_names)


def _read_adbench(
    family: str, member: str | None, options: Namespace, _: str, __: dict[str, Any]
) -> Samples:
    if member is None:
        there = ", ".join(list_adbench(options.data_dir)) or "none"
        raise UsageError(
            f"adbench needs the name of a set, as in adbench:cardio; available: {there}"
        )
    bunch = CATALOGUE[family].load(member, options.data_dir)
    return Samples(X=bunch.data, labels=bunch.target)


def _read_mvtec(
    _: str,
    member: str | None,
    options: Namespace,
    default_part: str,
    settings: dict[str, Any],
) -> Samples:
    from gandetect.cli.categories import category_of

    part = options.part or default_part
    if member is None or part == "all":
        raise UsageError(
            "mvtec needs the name of a category, as in mvtec:bottle"
            if member is None
            else "mvtec has a training and a test part: --part train or --part test"
        )
    category = category_of(member, data_folder(options))
    return _of_category(options.data_dir, category, part, options, settings)


_READERS: dict[str, Callable[..., Samples]] = {
    "mnist": _read_classes,
    "fashion-mnist": _read_classes,
    "cifar10": _read_classes,
    "kddcup99": _read_kddcup99,
    "mvtec": _read_mvtec,
    "adbench": _read_adbench,
}
_OF_FILES = (
    *("label_column", "label_file", "id_column", "drop_columns", "missing"),
    *("delimiter", "decimal", "thousands", "encoding", "header"),
)


def training_samples(samples: Samples, options: Namespace, labels: str | None = None) -> Samples:
    """Return the training samples: those that labels or options define as normal, or all.

    Parameters
    ----------
    samples : Samples
    options : Namespace
    labels : {"ignore", "exclude", "learn"} or None, default=None
        "ignore" and "learn" keep labelled anomalies.

    Raises
    ------
    UsageError
        If there are labels or classes, and neither they nor the options define the normal class.
    """
    if samples.is_split:
        return samples
    is_all = _part(options, "train") == "all"
    if labels == "learn" and not is_all:
        raise UsageError(
            "--labels learn needs anomalies, and the training part contains none: add --part all"
        )
    if is_all:
        return samples if labels in ("ignore", "learn") else _normal_ones(samples, options)
    if samples.has_classes and not _has_class_options(options):
        raise UsageError(
            f"{options.data} has classes: define the anomalies by --anomalous-class or "
            "--normal-class, or fit to all samples with --part all"
        )
    train, test = _split(samples, options)
    return samples.take(train if _part(options, "train") == "train" else test)


def known_anomalies(samples: Samples, options: Namespace) -> NDArray[np.bool_]:
    """Return which samples are known anomalies; samples without a label are not.

    Raises
    ------
    UsageError
        If there are no labels, they do not define the anomalies, or none is an anomaly.
    """
    labels = [] if samples.labels is None else samples.labels.tolist()
    # Labels may be missing: most rows have none if a few anomalies are known.
    there = np.flatnonzero([bool(_plain(label)) for label in labels])
    found = np.zeros(len(samples), dtype=bool)
    words = {str(labels[i]).lower() for i in there}
    if not _has_class_options(options) and len(words) == 1 and words <= _ANOMALOUS_WORDS:
        found[there] = True  # no normal sample has a label
    else:
        found[there] = anomalies(samples.take(there), options)
    if not found.any():
        raise UsageError(f"--labels learn: no sample of {options.data} is labelled as an anomaly")
    return found


def _normal_ones(samples: Samples, options: Namespace) -> Samples:
    """Return the samples without anomalies of labels or options; warn about unclear cases."""
    has_options = _has_class_options(options)
    if not has_options and (options.part or samples.labels is None):
        return samples
    if samples.labels is None:
        raise _without_labels(options)
    counts = _counts(samples)
    if (
        not has_options
        and options.label_file
        and "" in counts
        and set(counts) <= {"", *_WORDS_OF_MARKS.values()}
    ):
        # Only some samples are marked; the others are used as normal samples.
        is_anomaly = np.array([_plain(label) == "anomaly" for label in samples.labels.tolist()])
        return samples.take(np.flatnonzero(~is_anomaly))
    is_of_folders = _is_labelled_by_folders(samples)
    if not has_options and is_of_folders and len(counts) == 1:
        return samples
    if not has_options and len(counts) == 1 and _is_normal_alone(*counts):
        warnings.warn(f"all labels of {options.data} are {_told(counts)}", stacklevel=2)
        return samples
    if not has_options and is_of_folders and _anomalies_by_name(samples, counts) is None:
        warnings.warn(
            f"the images of all folders are trained on as normal: {_told(counts)}; --normal-class "
            "sets the normal folders",
            stacklevel=2,
        )
        return samples
    is_anomaly = anomalies(samples, options, " (--part all fits to all samples)")
    if is_anomaly.all():
        raise UsageError(f"{options.data} has no normal samples for training: {_told(counts)}")
    if has_options and not is_anomaly.any() and options.anomalous_class:
        warnings.warn(
            f"no sample of {options.data} is {' or '.join(options.anomalous_class)}: "
            f"{_told(counts)}",
            stacklevel=2,
        )
    normal = samples.take(np.flatnonzero(~is_anomaly))
    _warn_of_a_test_part(normal, options)
    return normal


def _warn_of_a_test_part(samples: Samples, options: Namespace) -> None:
    """Warn about training images in a test part that has a training part next to it.

    A folder of categories is read as a folder of classes, whose parts are not checked.
    """
    if not isinstance(samples.X, ImageFiles) or samples.names is None:
        return
    parts = [set(map(part_of, Path(name).parts[:-1])) for name in samples.names]
    n_test = sum("test" in names for names in parts)
    if n_test and any("train" in names for names in parts):
        warnings.warn(
            f"{n_test} of the {len(parts)} training images are in a folder test of "
            f"{options.data}: name a category, or its folder train",
            stacklevel=2,
        )


def samples_to_score(samples: Samples, options: Namespace) -> Samples:
    """Return the samples to score: all of a file, or the test part of a named data set.

    If options set both the normal and the anomalous classes, samples of other classes are left out
    after the split, so that the split is that of a fit to the normal classes.
    """
    part = _part(options, "test")
    if samples.is_split or part == "all":
        return _of_named_classes(samples, options)
    if samples.has_classes and not _has_class_options(options) and options.part is None:
        return samples
    train, test = _split(samples, options)
    return _of_named_classes(samples.take(train if part == "train" else test), options)


def _of_named_classes(samples: Samples, options: Namespace) -> Samples:
    """Return the samples of the classes of two options, or all samples."""
    if not (options.anomalous_class and options.normal_class) or samples.labels is None:
        return samples
    both = sorted(set(options.anomalous_class) & set(options.normal_class))
    if both:
        raise UsageError(f"--anomalous-class and --normal-class both name {both[0]}")
    named = [*options.anomalous_class, *options.normal_class]
    is_named = np.isin(samples.labels, _labels_of(named, samples))
    return samples if is_named.all() else samples.take(np.flatnonzero(is_named))


def is_split_here(samples: Samples, options: Namespace) -> bool:
    """Return whether a fit leaves a test part of these samples."""
    return not samples.is_split and _part(options, "train") == "train"


def anomalies(samples: Samples, options: Namespace, way_out: str = "") -> NDArray[np.bool_]:
    """Return which samples are anomalies.

    Parameters
    ----------
    samples : Samples
    options : Namespace
    way_out : str, default=""
        An alternative for the error message.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    UsageError
        If there are no labels, or they do not define the anomalies.
    """
    if samples.labels is None:
        raise _without_labels(options)
    counts = _counts(samples)
    n_missing = counts.get("", 0)
    if n_missing:
        raise UsageError(
            f"{n_missing} of {len(samples)} labels of {options.data} are missing: label those "
            "samples, or leave them out"
        )
    if _has_class_options(options):
        if options.normal_class:
            return ~np.isin(samples.labels, _labels_of(options.normal_class, samples))
        return np.isin(samples.labels, _labels_of(options.anomalous_class, samples))
    is_anomaly = _anomalies_by_name(samples, counts)
    if is_anomaly is None:
        must = ""
        if len(counts) == 1:
            must = ", and there must be normal samples as well as anomalies"
        raise UsageError(
            f"the labels of {options.data} are {_told(counts)}{must}; define the anomalies by "
            f"--anomalous-class, or the normal classes by --normal-class{way_out}"
        )
    return is_anomaly


def _without_labels(options: Namespace) -> UsageError:
    return UsageError(
        f"{options.data} has no labels: name them with --label-column or --label-file, or put "
        "images into one folder for each class"
    )


def _anomalies_by_name(samples: Samples, counts: Counter[str]) -> NDArray[np.bool_] | None:
    """Return which samples have a label that names an anomaly, or None if no label does."""
    labels: NDArray[Any] = samples.labels  # type: ignore[assignment]
    label = _anomalous_label(counts)
    if label is not None:
        return np.array([_plain(value) == label for value in labels.tolist()], dtype=bool)
    if _is_labelled_by_folders(samples):
        with suppress(ValueError):
            return ~normal_by_name(labels)
    return None


def _plain(label: Any) -> str:
    """Return a label as text, independent of its type; "" for a missing label."""
    if label is None or label != label:
        return ""
    return str(int(label) if isinstance(label, float) and label.is_integer() else label).strip()


def _counts(samples: Samples) -> Counter[str]:
    return Counter(map(_plain, samples.labels.tolist()))  # type: ignore[union-attr]


def _told(counts: Counter[str], n_shown: int = 10) -> str:
    """Return labels with their numbers of samples as text, the most frequent first."""
    told = [f"{label or 'missing'} ({n})" for label, n in counts.most_common(n_shown)]
    return ", ".join(told) + (", ..." if len(counts) > n_shown else "")


def _anomalous_label(labels: Counter[str]) -> str | None:
    """Return the label of the anomalies among two labels, if their names define it."""
    by_word = {label.lower(): label for label in labels}
    if len(labels) != 2 or len(by_word) != 2:
        return None
    for normal, anomalous in _TELLING_PAIRS:
        if set(by_word) == {normal, anomalous}:
            return by_word[anomalous]
    anomalous_words = set(by_word) & _ANOMALOUS_WORDS
    if len(anomalous_words) == 1 and set(by_word) & _NORMAL_WORDS:
        return by_word[anomalous_words.pop()]
    return None


def _is_normal_alone(label: str) -> bool:
    return label.lower() in {"0", "false", *_NORMAL_WORDS}


def _is_labelled_by_folders(samples: Samples) -> bool:
    return samples.names is not None and not isinstance(samples.X, np.ndarray | Table)


def _split(samples: Samples, options: Namespace) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the positions of the training and of the test samples."""
    from gandetect.datasets import one_class_rows_split, one_class_split

    is_anomaly = anomalies(samples, options).astype(np.int64)
    rows = np.arange(len(samples))
    if options.outlier_fraction and options.anomalous_class and options.normal_class:
        raise UsageError(
            "--outlier-fraction is a share of all anomalies, but --normal-class together with "
            "--anomalous-class leaves out samples of other classes: use it with only one of these "
            "options"
        )
    if _has_class_options(options):
        train, test, _ = one_class_split(
            rows,
            is_anomaly,
            anomalous_class=1,
            n_train=options.n_train,
            outlier_fraction=options.outlier_fraction,
            random_state=options.seed,
        )
    else:
        train, test, _ = one_class_rows_split(
            rows,
            is_anomaly,
            random_state=options.seed,
            max_train=options.n_train,
            max_test=None,
            outlier_fraction=options.outlier_fraction,
        )
    return train, test


def _part(options: Namespace, default: str) -> str:
    part = options.part or (default if is_named(options.data) else "all")
    for option in ("outlier_fraction", "n_train"):
        if part == "all" and getattr(options, option) is not None:
            raise UsageError(
                f"--{option.replace('_', '-')} needs a split: add --part train or --part test"
            )
    return part


def _has_class_options(options: Namespace) -> bool:
    return bool(options.anomalous_class or options.normal_class)


def _labels_of(chosen: Sequence[str], samples: Samples) -> list[Any]:
    """Find the labels of the classes of an option, by label or by the name of the class."""
    labels = sorted(set(samples.labels.tolist()), key=str)  # type: ignore[union-attr]
    by_text = {str(label): label for label in labels}
    by_text |= {_plain(label): label for label in labels}
    by_text |= {name: i for i, name in enumerate(samples.class_names) if i in labels}
    unknown = [name for name in chosen if name not in by_text]
    # If one class is found, the other classes of the option may be in another file.
    if unknown and len(labels) > 1:
        there = ", ".join(str(label) for label in labels[:20])
        raise UsageError(f"class {unknown[0]!r} is not in the labels, which are {there}")
    return [by_text[name] for name in chosen if name in by_text]
