"""The idx format, in which MNIST and similar data sets are published."""

import os
import struct
from math import prod
from pathlib import Path

import numpy as np

from gandetect.data.images import DataFileError
from gandetect.datasets.files import DAMAGED_STREAM_ERRORS, open_maybe_gzip

# The third byte of an idx file (LeCun, Cortes and Burges, "The MNIST database"); big-endian.
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one idx file, the format of MNIST and similar data sets, compressed by gzip or not.

    Parameters
    ----------
    path : path-like
        The file. Its content, not its name, determines whether it is decompressed.

    Returns
    -------
    ndarray
        The array, with the shape and the type in the header of the file, in native byte order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataFileError
        If the file is not an idx file, is damaged, or its number of bytes differs from its header.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from gandetect.datasets import read_idx
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels-idx1-ubyte"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3]) + bytes([7, 2, 1]))
    ...     read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    try:
        with open_maybe_gzip(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise
    except DAMAGED_STREAM_ERRORS as error:
        raise DataFileError(f"{path} is damaged or cut off: {error}") from error
    dtype, shape, start = _idx_header(path, content)
    n_expected = prod(shape) * dtype.itemsize
    if len(content) - start != n_expected:
        raise DataFileError(
            f"{path} must contain {n_expected} bytes for an array of shape {shape} by its header, "
            f"but contains {len(content) - start}; it may be cut off"
        )
    array = np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)
    # A copy, because the result of np.frombuffer is read-only.
    return array.astype(dtype.newbyteorder("="))


def _idx_header(path: Path, content: bytes) -> tuple[np.dtype, tuple[int, ...], int]:
    """Return the type, the shape and the byte offset of the first value."""
    is_idx = len(content) >= 4 and content[:2] == b"\0\0" and content[2] in _IDX_DTYPES
    if not is_idx:
        raise DataFileError(f"{path} is not an idx file: it begins with {content[:4]!r}")
    n_dims = content[3]
    start = 4 + 4 * n_dims
    if n_dims == 0 or len(content) < start:
        raise DataFileError(f"{path} is an idx file without a complete header")
    return np.dtype(_IDX_DTYPES[content[2]]), struct.unpack(f">{n_dims}I", content[4:start]), start
