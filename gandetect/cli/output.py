"""Writing results; the path of the output is checked before the computation."""

from __future__ import annotations

import csv
import io
import json
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gandetect.archive import check_writable, check_writable_folder, written_aside
from gandetect.cli.data import harmless, is_named, names_all
from gandetect.cli.options import UsageError
from gandetect.data.images import IMAGE_SUFFIXES
from gandetect.data.tables import TABLE_SUFFIXES
from gandetect.datasets.catalogue import CATALOGUE
from gandetect.datasets.files import resolve_data_dir
from gandetect.distributed import is_first
from gandetect.training.run_folder import IMAGES

_FORMATS = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".txt": "table", "": "table"}
# Endings of other kinds of files, which a saved detector must not have.
_NO_MODELS = (
    *(*TABLE_SUFFIXES, ".parquet", ".json", ".npy", ".npz", ".html", *IMAGE_SUFFIXES),
    *(".onnx", ".pt2", ".pkl", ".pickle", ".joblib", ".skops"),
)

# Options that name samples, and options that name one file.
_DATA = {"data": "--data", "threshold_data": "--threshold-data", "run_test_data": "--run-test-data"}
_FILES = {"model": "MODEL", "label_file": "--label-file", "classifier": "--classifier"}


def check_place(path: str | None) -> None:
    """Raise before the computation if no file can be written at this path."""
    if path is not None:
        _refuse_streams(path)
        check_writable(os.path.expanduser(path))  # keeps a slash at the end


def check_format(options: Namespace) -> None:
    """Raise before the computation if a table in this format cannot be written."""
    if _format(options) == "parquet":
        _pyarrow()


def check_table(options: Namespace) -> None:
    """Check ``--out`` of a command that writes a table.

    Raises
    ------
    UsageError
        If its extension is unknown, or it is an input or in an input folder.
    OSError
        If no file can be written at this path.
    ImportError
        If its format needs an extra that is not installed.
    """
    check_format(options)
    check_file(options)


def check_file(options: Namespace) -> None:
    """Check ``--out`` of a command that writes one file of any extension; see `check_table`."""
    if options.out is not None:
        _refuse_inputs("--out", options.out, options)
        check_place(options.out)


def check_folder(options: Namespace) -> None:
    """Check ``--out`` of a command that writes a folder; raise as `check_table`."""
    _check_folder("--out", options.out, options)


def check_training(options: Namespace) -> None:
    """Check all outputs of ``fit``; raise as `check_table`.

    The model of ``--go-on-from`` may be replaced.
    """
    if not is_first():  # only the first process of torchrun writes
        return
    names = ("checkpoint_dir", "log_dir", "run_folder")
    folders = {
        f"--{n.replace('_', '-')}": getattr(options, n) for n in names if getattr(options, n)
    }
    if names_all(options.data):
        check_folder(options)
    else:
        _refuse_inputs("--out", options.out, options, is_model=True)
        if options.out.lower().endswith(_NO_MODELS):
            raise UsageError(
                f"--out {options.out} has the extension of another kind of file: a detector is "
                "saved as safetensors, so use .model, .safetensors or no extension"
            )
        check_place(options.out)
        _refuse_one_place(options, folders)
    for option, folder in folders.items():
        _check_folder(option, folder, options)
    if options.run_folder:
        for option, place in _inputs(options):
            if _is_in(place, Path(options.run_folder).expanduser() / IMAGES):
                raise UsageError(
                    f"{option} {place} is in --run-folder, whose images would be replaced: choose "
                    "another folder"
                )


def check_animation(options: Namespace) -> None:
    """Check ``--out`` of ``animate``; raise as `check_table`."""
    if _is_in(Path(options.out).expanduser(), Path(options.run_folder, IMAGES)):
        raise UsageError(
            f"--out {options.out} is among the images of the animation: choose another path"
        )
    check_place(options.out)


def check_pictures(
    names: Sequence[Any], pictures: Sequence[Path], images: Sequence[Path], out: Path
) -> None:
    """Check the paths at which images are written, one for each sample.

    Parameters
    ----------
    names : sequence
        Names of the samples.
    pictures : sequence of pathlib.Path
        The path of the written image of each sample.
    images : sequence of pathlib.Path
        The files of the samples.
    out : pathlib.Path
        The folder of the written images.

    Raises
    ------
    UsageError
        If two samples have the same output path, or an input image would be replaced.
    OSError
        If an image cannot be written.
    """
    by_place: dict[str, Any] = {}
    for name, picture in zip(names, pictures, strict=True):
        other = by_place.setdefault(os.path.normcase(picture), name)
        if other is not name:
            _refuse_two(other, name, picture)
    # For each folder, the longest name is checked in place of all names.
    longest: dict[Path, Path] = {}
    for name, picture in zip(names, pictures, strict=True):
        for parent in picture.relative_to(out).parents:
            if (other := by_place.get(os.path.normcase(out / parent))) is not None:
                _refuse_two(other, name, out / parent)
        longest[picture.parent] = max(
            longest.get(picture.parent, picture), picture, key=lambda p: len(os.fsencode(p.name))
        )
    older = [picture for picture in pictures if os.path.lexists(picture)]
    if older:
        known = {_identity(image) for image in images}
        is_beside = bool(images) and _is_in(images[0], out)
        for picture in older:
            if is_beside or (picture.exists() and _identity(picture) in known):
                raise UsageError(
                    f"{picture} is an image of --data and would be replaced: give another folder "
                    "as --out"
                )
            check_writable(picture)
    for picture in longest.values():
        if not os.path.lexists(picture):
            check_writable_folder(picture)


def _refuse_one_place(options: Namespace, folders: Mapping[str, str]) -> None:
    """Raise if the path of the model is also the path of another output of the training."""
    out = _resolved(options.out)
    for option, folder in folders.items():
        if out in (_resolved(folder), *_resolved(folder).parents):
            raise UsageError(
                f"--out {options.out} is also the path of {option} {folder}: choose another path"
            )
    if options.checkpoint_dir and out == _resolved(checkpoint_file(options)):
        raise UsageError(f"--out {options.out} is the file of the checkpoint: choose another path")


def checkpoint_file(options: Namespace) -> Path:
    """Return the file in ``--checkpoint-dir`` in which ``fit`` stores the training."""
    return Path(options.checkpoint_dir).expanduser() / f"{options.detector}.safetensors"


def _refuse_two(first: Any, second: Any, place: Path) -> None:
    raise UsageError(
        f"{first} and {second} would both be written as {place}: rename one, or write all maps "
        "into one .npy"
    )


def _check_folder(option: str, folder: str, options: Namespace) -> None:
    _refuse_inputs(option, folder, options)
    check_writable_folder(Path(folder).expanduser())


def _refuse_inputs(option: str, out: str, options: Namespace, *, is_model: bool = False) -> None:
    """Raise if an output is an input, or in a folder of data.

    A new model without an extension is allowed in a folder of data, because it replaces no file and
    is not read as data.
    """
    if out == "-":
        raise UsageError(
            f"{option} does not accept -: without --out, tables are written to standard output; "
            "for a file or folder with the name - pass ./-"
        )
    place = Path(out).expanduser()
    replaces_nothing = place.parent.is_dir() and not (place.suffix or os.path.lexists(place))
    is_new = is_model and replaces_nothing
    for name, found in _inputs(options):
        if _is_same(place, found):
            raise UsageError(
                f"{option} {out} is the input of {name} and would be replaced: choose another path"
            )
        if _is_in(place, found) and not is_new:
            raise UsageError(
                f"{option} {out} is in {found}, the input of {name}: choose a path outside of the "
                "data"
            )


def _inputs(options: Namespace) -> Iterator[tuple[str, Path]]:
    """Yield the files and folders that a command reads, with their options."""
    given = vars(options)
    for name, option in _FILES.items():
        if given.get(name):
            yield option, Path(given[name]).expanduser()
    for name, option in _DATA.items():
        data = given.get(name)
        if data and is_named(data):
            yield from ((option, place) for place in _places_of(data, options.data_dir))
        elif data:
            yield option, Path(data).expanduser()


def _places_of(data: str, data_dir: str | None) -> Iterator[Path]:
    """Yield the existing files of a named data set."""
    family = data.partition(":")[0].lower().replace("_", "-")
    try:
        folder = resolve_data_dir(data_dir)
    except ValueError:  # raised when the data are read
        return
    for place in CATALOGUE[family].find(folder):
        while place.name in ("train", "good"):  # in MVTec's layout, next to test/
            place = place.parent
        yield place


def _refuse_streams(path: str) -> None:
    """Raise if a path is the file of a standard stream of this process.

    Its content would be lost: ``--data - < rows.csv --out rows.csv``, or
    ``--out /dev/stdout >> all.txt``.
    """
    place = os.path.expanduser(path)
    if not os.path.isfile(place):  # devices and pipes are checked elsewhere
        return
    for name, stream in (("input", 0), ("output", 1), ("error", 2)):
        try:
            is_stream = os.path.samestat(os.stat(place), os.fstat(stream))
        except OSError:  # the stream is closed
            continue
        if is_stream:
            raise UsageError(
                f"--out {path} is the standard {name} of this command: leave out --out to write a "
                "table to standard output, or choose another path"
            )


def _is_same(place: Path, other: Path) -> bool:
    """Return whether two paths are the same file or folder, also through links."""
    return os.path.exists(place) and os.path.exists(other) and os.path.samefile(place, other)


def _is_in(place: Path, folder: Path) -> bool:
    return any(_is_same(parent, folder) for parent in _resolved(place).parents)


def _resolved(path: str | Path) -> Path:
    return Path(os.path.realpath(os.path.expanduser(path)))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def write_columns(columns: Mapping[str, Any], options: Namespace) -> None:
    """Write a table of columns, with one line for each entry."""
    lists = {name: _plain(column) for name, column in columns.items()}
    rows = list(zip(*lists.values(), strict=True))
    kind = _format(options)
    if kind == "parquet":
        return _write(_parquet(lists), options)
    if kind == "json":
        text = json.dumps([dict(zip(lists, row, strict=True)) for row in rows], indent=1) + "\n"
    elif kind == "csv":
        text = _csv([list(lists), *rows])
    else:
        text = _table(lists)
    _write(text.encode(), options)


def write_record(record: Mapping[str, Any], options: Namespace) -> None:
    """Write one record of several values: in a table and in CSV, one line for each value."""
    names, values = list(record), _plain(list(record.values()))
    kind = _format(options)
    if kind == "parquet":  # each column of Parquet has one type
        return _write(_parquet({name: [value] for name, value in record.items()}), options)
    if kind == "json":
        text = json.dumps(dict(zip(names, values, strict=True)), indent=1) + "\n"
    elif kind == "csv":
        text = _csv([("name", "value"), *zip(names, values, strict=True)])
    else:
        width = max(map(len, names))
        shown = zip(names, values, strict=True)
        text = "".join(f"{name:{width}}  {_shown(value)}\n" for name, value in shown)
    _write(text.encode(), options)


def _format(options: Namespace) -> str:
    suffix = Path(options.out or "").suffix.lower()
    if suffix == ".parquet" and options.format:
        raise UsageError(f"--format {options.format} does not match --out {options.out}")
    if options.format:
        return str(options.format)
    if suffix not in _FORMATS:
        known = ", ".join(filter(None, _FORMATS))
        raise UsageError(
            f"the extension of --out {options.out} is not one of {known}: use one of these, no "
            "extension, or --format"
        )
    return _FORMATS[suffix]


def _write(content: bytes, options: Namespace) -> None:
    if options.out is None:
        print(content.decode(), end="")
        return
    with written_aside(os.path.expanduser(options.out)) as file:
        file.write(content)


def _plain(column: Sequence[Any]) -> list[Any]:
    """Convert numpy's numbers and strings to Python's, and make all strings encodable."""
    values = (value.item() if isinstance(value, np.generic) else value for value in column)
    return [
        # The name of a file may contain bytes that are not valid text.
        value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for value in values
    ]


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    with io.StringIO(newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(map(harmless, row) for row in rows)
        return file.getvalue()


def _parquet(lists: Mapping[str, list[Any]]) -> bytes:
    pyarrow = _pyarrow()
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(dict(lists)), content)
    return content.getvalue()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'writing .parquet needs pyarrow: pip install "gandetect[arrow]"'
        ) from error
    return pyarrow


def _table(lists: Mapping[str, list[Any]]) -> str:
    """Return the columns as text, with strings aligned left and numbers right."""
    cells = []
    for name, column in lists.items():
        texts = [name, *map(_shown, column)]
        width = max(map(len, texts))
        is_words = any(isinstance(value, str) for value in column)
        cells.append([text.ljust(width) if is_words else text.rjust(width) for text in texts])
    return "".join("  ".join(line).rstrip() + "\n" for line in zip(*cells, strict=True))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
