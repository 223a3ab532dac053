"""Find and open data files, and raise clear errors for missing or damaged ones."""

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from gandetect.data.images import DataFileError

DATA_DIR_VARIABLE = "GANDETECT_DATA"

# The errors of gzip, zipfile and tarfile for a truncated or overwritten stream. BadGzipFile is an
# OSError.
DAMAGED_STREAM_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile)

_GZIP_MAGIC = b"\x1f\x8b"


def resolve_data_dir(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the data sets.

    Parameters
    ----------
    data_dir : path-like or None, default=None
        The folder. None takes the environment variable ``GANDETECT_DATA``, so that scripts need
        not contain a path of one machine.

    Returns
    -------
    pathlib.Path
        The folder; it need not exist yet.

    Raises
    ------
    ValueError
        If `data_dir` is None and ``GANDETECT_DATA`` is not set.

    Examples
    --------
    >>> from gandetect.datasets import resolve_data_dir
    >>> resolve_data_dir("data").name
    'data'
    """
    if data_dir is None:
        data_dir = os.environ.get(DATA_DIR_VARIABLE)
        if not data_dir:
            raise ValueError(
                "the data folder is not set: pass it as an argument, or set the environment "
                f"variable {DATA_DIR_VARIABLE} to the folder that contains the data sets"
            )
    return Path(data_dir).expanduser()


def find_file(
    folder: Path, names: Iterable[str], subfolders: Iterable[str] = (".",)
) -> Path | None:
    """Return the first of `names` found in the first of `subfolders` that has one, or None."""
    names = tuple(names)
    candidates = (folder / subfolder / name for subfolder in subfolders for name in names)
    return next((path for path in candidates if path.is_file()), None)


def check_option(name: str, value: object, options: Iterable[str]) -> None:
    """Raise a ValueError unless `value` is one of `options`."""
    options = tuple(options)
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}")


def open_maybe_gzip(path: Path) -> BinaryIO:
    """Open a file for reading bytes; a gzip file is decompressed.

    The format is detected by the first two bytes, because some browsers and mirrors decompress
    files but keep the ending ``.gz``.
    """
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path, "rb")) if is_gzip else path.open("rb")


def reason_of(error: Exception) -> str:
    """Return numpy's reason without its advice on how to read untrusted files."""
    if "pickle" in str(error):
        return "it is not a file of numpy, or contains Python objects"
    return str(error)


def read_npz(path: Path, *key_sets: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read the arrays of the first of `key_sets` that is complete; refuse pickled objects."""
    try:
        # The file is opened here because np.load does not close it when it is not an archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataFileError(f"{path} is a single array, not an .npz archive of arrays")
            keys = next((keys for keys in key_sets if set(keys) <= set(archive.files)), None)
            if keys is not None:
                return {key: archive[key] for key in keys}
    except DataFileError:
        raise
    except (ValueError, *DAMAGED_STREAM_ERRORS) as error:
        raise DataFileError(
            f"{path} cannot be read as an .npz archive of plain arrays; it may be damaged or cut "
            f"off: {reason_of(error)}"
        ) from error
    expected = " or ".join(f"({', '.join(keys)})" for keys in key_sets)
    raise DataFileError(f"{path} has the arrays {archive.files}, expected {expected}")
