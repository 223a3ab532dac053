"""ADBench: tabular data sets for anomaly detection, one .npz archive each."""

import os
import re
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from gandetect.data.images import DataFileError
from gandetect.datasets.files import read_npz, resolve_data_dir

_SUBFOLDERS = ("adbench", "adbench/Classical", "Classical", ".")
# A published file name: a number, an underscore and the name.
_FILE_NAME = re.compile(r"\d+_.+\.npz")


def load_adbench(name: str, data_dir: str | os.PathLike[str] | None = None) -> Bunch:
    """Load one tabular data set of ADBench.

    Parameters
    ----------
    name : str
        The name in lower or upper case, with or without its number: ``"cardio"`` or
        ``"6_cardio"``.
    data_dir : path-like or None, default=None
        The folder to look in; None takes the environment variable ``GANDETECT_DATA``. The files
        are ``<number>_<name>.npz`` in ``adbench/``, ``adbench/Classical/``, ``Classical/`` or the
        folder itself. They are published at https://github.com/Minqi824/ADBench, in
        ``adbench/datasets/Classical``.

    Returns
    -------
    sklearn.utils.Bunch
        ``data``, float64 array of shape (n_samples, n_features); ``target``, int64 array of shape
        (n_samples,), 1 for an anomaly; ``name``, the full name.

    Raises
    ------
    FileNotFoundError
        If there is no such data set; the message lists the available ones.
    DataFileError
        If the file is damaged, holds pickled objects, or is not a table of finite numbers with
        labels 0 and 1.
    ValueError
        If no data folder is known.

    See Also
    --------
    list_adbench : Lists the available data sets.
    one_class_rows_split : Makes training and test rows.

    References
    ----------
    S. Han, X. Hu, H. Huang, M. Jiang and Y. Zhao, "ADBench: anomaly detection benchmark",
    NeurIPS 2022.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from gandetect.datasets import load_adbench
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "99_toy.npz", X=[[1, 2], [3, 4], [5, 60]], y=[0, 0, 1])
    ...     toy = load_adbench("toy", folder)
    >>> toy.data.shape, toy.target, toy.name
    ((3, 2), array([0, 0, 1]), '99_toy')
    """
    folder = resolve_data_dir(data_dir)
    paths = _adbench_paths(folder)
    wanted = name.lower()
    for path in paths:
        full_name = path.stem.lower()
        if wanted in (full_name, full_name.partition("_")[2]):
            return _read(path)
    available = ", ".join(path.stem for path in paths) or "no data set"
    raise FileNotFoundError(
        f"ADBench's {name!r} is not in {folder}, which has {available}. Put <number>_{name}.npz "
        f"from https://github.com/Minqi824/ADBench into {folder / 'adbench'}"
    )


def list_adbench(data_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of the available ADBench data sets, sorted by number.

    Parameters
    ----------
    data_dir : path-like or None, default=None
        As in `load_adbench`.

    Returns
    -------
    list of str
        Full names, such as ``"6_cardio"``; each can be given to `load_adbench`.

    Raises
    ------
    ValueError
        If no data folder is known.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from gandetect.datasets import list_adbench
    >>> with TemporaryDirectory() as folder:
    ...     list_adbench(folder)
    []
    """
    return [path.stem for path in _adbench_paths(resolve_data_dir(data_dir))]


def _adbench_paths(folder: Path) -> list[Path]:
    """Return the files of the first subfolder that contains any."""
    for subfolder in _SUBFOLDERS:
        paths = [
            path for path in (folder / subfolder).glob("*.npz") if _FILE_NAME.fullmatch(path.name)
        ]
        if paths:
            return sorted(paths, key=lambda path: (int(path.name.partition("_")[0]), path.name))
    return []


def _read(path: Path) -> Bunch:
    arrays = read_npz(path, ("X", "y"))
    X, y = arrays["X"], arrays["y"]
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise DataFileError(f"{path}: X must be a table of numbers, got {X.dtype} {X.shape}")
    if not np.isfinite(X).all():
        raise DataFileError(f"{path}: X has values that are NaN or infinite")
    if y.shape != X.shape[:1] or not np.isin(y, (0, 1)).all():
        raise DataFileError(
            f"{path}: y must hold one 0 (normal) or 1 (anomaly) for each of {len(X)} rows, got "
            f"an array of shape {y.shape}"
        )
    return Bunch(data=X.astype(np.float64), target=y.astype(np.int64), name=path.stem)
