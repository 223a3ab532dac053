"""KDD Cup 1999: network connections, the 10 percent file of half a million rows."""

import os
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from gandetect.data.images import DataFileError
from gandetect.datasets.download import RemoteFile
from gandetect.datasets.download import download as download_file
from gandetect.datasets.files import (
    DAMAGED_STREAM_ERRORS,
    check_option,
    find_file,
    open_maybe_gzip,
    resolve_data_dir,
)

# The archive of https://kdd.ics.uci.edu/databases/kddcup99, at the address and with the checksum
# that scikit-learn's fetch_kddcup99 uses.
KDDCUP99_ARCHIVE = RemoteFile(
    "kddcup.data_10_percent.gz",
    "https://ndownloader.figshare.com/files/5976042",
    "sha256:8045aca0d84e70e622d1148d7df782496f6333bf6eb979a1b0837c42a9fd9561",
)

_COLUMNS = (
    "duration",
    "protocol_type",
    "service",
    "flag",
    "src_bytes",
    "dst_bytes",
    "land",
    "wrong_fragment",
    "urgent",
    "hot",
    "num_failed_logins",
    "logged_in",
    "num_compromised",
    "root_shell",
    "su_attempted",
    "num_root",
    "num_file_creations",
    "num_shells",
    "num_access_files",
    "num_outbound_cmds",
    "is_host_login",
    "is_guest_login",
    "count",
    "srv_count",
    "serror_rate",
    "srv_serror_rate",
    "rerror_rate",
    "srv_rerror_rate",
    "same_srv_rate",
    "diff_srv_rate",
    "srv_diff_host_rate",
    "dst_host_count",
    "dst_host_srv_count",
    "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate",
    "dst_host_same_src_port_rate",
    "dst_host_srv_diff_host_rate",
    "dst_host_serror_rate",
    "dst_host_srv_serror_rate",
    "dst_host_rerror_rate",
    "dst_host_srv_rerror_rate",
    "label",
)
# The seven columns that EGBAD encodes: all columns of type "symbolic" in kddcup.names.
_CATEGORICAL = (
    "protocol_type",
    "service",
    "flag",
    "land",
    "logged_in",
    "is_host_login",
    "is_guest_login",
)
_NUMERIC = [name for name in _COLUMNS if name not in (*_CATEGORICAL, "label")]
# Bytes need a quarter of the memory of str. The longest label has 16 characters.
_ROW = np.dtype([(name, "f8" if name in _NUMERIC else "S24") for name in _COLUMNS])
_NORMAL_LABEL = b"normal."


def load_kddcup99(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    anomalous_class: str = "normal",
    download: bool = False,
) -> Bunch:
    """Load the 10 percent file of KDD Cup 1999 as EGBAD and ALAD use it.

    Parameters
    ----------
    data_dir : path-like or None, default=None
        The folder to look in; None takes the environment variable ``GANDETECT_DATA``. The file
        is ``kddcup.data_10_percent`` or ``kddcup.data_10_percent_corrected``, compressed
        (``.gz``) or not, in the folder itself or in ``kddcup99/``.
    anomalous_class : {"normal", "attack"}, default="normal"
        Which connections are the anomalies. Attacks are 80 % of the rows, so the published
        protocol exchanges the classes: it models the attacks and detects normal traffic.
    download : bool, default=False
        Download the file, 2 MB, if it is missing.

    Returns
    -------
    sklearn.utils.Bunch
        ``data``, float64 array of shape (494021, 121), half a gigabyte: 34 numerical columns in
        the units of the file, then seven one-hot encoded columns; ``target``, int64 array of
        shape (494021,), 1 for an anomaly; ``labels``, str array of shape (494021,), "normal" or
        the kind of attack; ``feature_names``, list of 121 str, such as "src_bytes" and
        "service=http".

    Raises
    ------
    FileNotFoundError
        If the file is missing; the message names it and its folder.
    DataFileError
        If the file is damaged, cut off, or not rows of 41 values and a label.
    ConnectionError
        If `download` is set and the network does not answer.
    ValueError
        If no data folder is known, or `anomalous_class` is unknown.

    See Also
    --------
    one_class_rows_split : Makes training and test rows; ``outlier_fraction=0.2`` is EGBAD's test.

    Notes
    -----
    The categorical columns are protocol_type, service, flag, land, logged_in, is_host_login and
    is_guest_login, with 3 + 66 + 11 + 2 + 2 + 1 + 2 values in the published file. The values are
    taken from the file that is read, so an extract of the file may give fewer columns.

    References
    ----------
    H. Zenati, C. S. Foo, B. Lecouat, G. Manek and V. R. Chandrasekhar, "Efficient GAN-based
    anomaly detection", arXiv:1802.06222, 2018.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from gandetect.datasets import load_kddcup99
    >>> numbers = ",0" * 37
    >>> row = f"0,tcp,http,SF{numbers}"
    >>> with TemporaryDirectory() as folder:
    ...     with open(Path(folder) / "kddcup.data_10_percent", "w") as file:
    ...         print(f"{row},normal.", f"{row},smurf.", sep=chr(10), file=file)
    ...     kdd = load_kddcup99(folder)
    >>> kdd.data.shape, kdd.target, kdd.feature_names[34:36]
    ((2, 41), array([1, 0]), ['protocol_type=tcp', 'service=http'])
    """
    check_option("anomalous_class", anomalous_class, ("normal", "attack"))
    rows = _read_rows(_find_archive(resolve_data_dir(data_dir), download))
    data, feature_names = _one_hot(rows)
    is_normal = rows["label"] == _NORMAL_LABEL
    is_anomaly = is_normal if anomalous_class == "normal" else ~is_normal
    return Bunch(
        data=data,
        target=is_anomaly.astype(np.int64),
        labels=np.char.rstrip(rows["label"].astype("U24"), "."),
        feature_names=feature_names,
    )


def _find_archive(folder: Path, download: bool) -> Path:
    names = ["kddcup.data_10_percent", "kddcup.data_10_percent_corrected"]
    path = find_file(
        folder, [f"{name}{end}" for name in names for end in ("", ".gz")], (".", "kddcup99")
    )
    if path is not None:
        return path
    if download:
        return download_file(KDDCUP99_ARCHIVE, folder)
    raise FileNotFoundError(
        f"KDD Cup 1999 is not in {folder}. Put {KDDCUP99_ARCHIVE.name} there, from "
        f"https://kdd.ics.uci.edu/databases/kddcup99 or {KDDCUP99_ARCHIVE.url}, or pass "
        "download=True to download it"
    )


def _read_rows(path: Path) -> np.ndarray:
    try:
        with open_maybe_gzip(path) as file:
            n_values = file.readline().count(b",") + 1
            if n_values != len(_COLUMNS):
                raise ValueError(f"the first line has {n_values} values")
            file.seek(0)
            rows = np.loadtxt(
                file, dtype=_ROW, delimiter=",", comments=None, ndmin=1, encoding="latin1"
            )
        if not np.char.endswith(rows["label"], b".").all():
            raise ValueError("a label does not end in a full stop")
    except FileNotFoundError:
        raise
    except (ValueError, *DAMAGED_STREAM_ERRORS) as error:
        raise DataFileError(
            f"{path} is not a valid KDD Cup 1999 file with 41 values and a label in each line: "
            f"{error}"
        ) from error
    return rows


def _one_hot(rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the numerical columns, then one column of 0 and 1 for each value of each category."""
    encoded = {name: np.unique(rows[name], return_inverse=True) for name in _CATEGORICAL}
    n_columns = len(_NUMERIC) + sum(len(values) for values, _ in encoded.values())
    data = np.zeros((len(rows), n_columns))
    for column, name in enumerate(_NUMERIC):
        data[:, column] = rows[name]
    feature_names = list(_NUMERIC)
    for name, (values, codes) in encoded.items():
        data[np.arange(len(rows)), len(feature_names) + codes] = 1
        feature_names += [f"{name}={value.decode('latin1')}" for value in values]
    return data, feature_names
