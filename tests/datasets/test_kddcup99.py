import gzip
import hashlib

import numpy as np
import pytest

from gandetect.datasets import DataFileError, kddcup99, load_kddcup99
from gandetect.datasets.download import RemoteFile


def _line(protocol="tcp", service="http", flag="SF", label="normal.", **numbers):
    """A line whose numbers count up from 100, but for those given by place."""
    values = [str(100 + place) for place in range(41)]
    values[1:4] = protocol, service, flag
    for place in (6, 11, 20, 21):
        values[place] = "0"
    for place, value in numbers.items():
        values[int(place.removeprefix("at_"))] = value
    return ",".join([*values, label])


LINES = [
    _line(),
    _line("udp", "domain_u", at_0="0.25", label="teardrop."),
    _line("tcp", "ftp", "S0", at_11="1", label="neptune."),
]


def _write(folder, lines, name="kddcup.data_10_percent", packed=False):
    folder.mkdir(exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode()
    (folder / name).write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize(
    ("subfolder", "name", "packed"),
    [
        (".", "kddcup.data_10_percent", False),
        (".", "kddcup.data_10_percent.gz", True),
        (".", "kddcup.data_10_percent.gz", False),
        (".", "kddcup.data_10_percent_corrected", False),
        ("kddcup99", "kddcup.data_10_percent_corrected.gz", True),
    ],
)
def test_every_known_name(tmp_path, subfolder, name, packed):
    _write(tmp_path / subfolder, LINES, name, packed)
    kdd = load_kddcup99(tmp_path)
    assert kdd.data.dtype == np.float64
    assert kdd.labels.tolist() == ["normal", "teardrop", "neptune"]


def test_numbers_come_first_and_categories_are_one_hot(tmp_path):
    _write(tmp_path, LINES)
    kdd = load_kddcup99(tmp_path)
    categories = [
        "protocol_type=tcp",
        "protocol_type=udp",
        "service=domain_u",
        "service=ftp",
        "service=http",
        "flag=S0",
        "flag=SF",
        "land=0",
        "logged_in=0",
        "logged_in=1",
        "is_host_login=0",
        "is_guest_login=0",
    ]
    assert len(kdd.feature_names) == 34 + 12
    assert kdd.feature_names[:3] == ["duration", "src_bytes", "dst_bytes"]
    assert kdd.feature_names[33] == "dst_host_srv_rerror_rate"
    assert kdd.feature_names[34:] == categories
    assert kdd.data[0, :3].tolist() == [100, 104, 105]
    assert kdd.data[1, 0] == 0.25
    assert kdd.data[2, 33] == 140
    assert kdd.data[:, 34:].tolist() == [
        [1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1],
        [0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1],
        [1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1],
    ]


def test_the_published_values_make_121_columns(tmp_path):
    # The counts of values in the published file: 3, 66, 11, 2, 2, 1 and 2.
    lines = [
        _line(
            f"p{i % 3}",
            f"s{i}",
            f"f{i % 11}",
            at_6=str(i % 2),
            at_11=str(i % 2),
            at_21=str(i % 2),
        )
        for i in range(66)
    ]
    _write(tmp_path, lines)
    assert load_kddcup99(tmp_path).data.shape == (66, 121)


@pytest.mark.parametrize(
    ("anomalous_class", "expected"), [("normal", [1, 0, 0]), ("attack", [0, 1, 1])]
)
def test_which_class_is_the_anomaly(tmp_path, anomalous_class, expected):
    _write(tmp_path, LINES)
    assert load_kddcup99(tmp_path, anomalous_class=anomalous_class).target.tolist() == expected


def test_normal_traffic_is_the_anomaly_by_default(tmp_path):
    _write(tmp_path, LINES)
    assert load_kddcup99(tmp_path).target.tolist() == [1, 0, 0]


def test_unknown_anomalous_class(tmp_path):
    with pytest.raises(ValueError, match="normal, attack, got 'smurf'"):
        load_kddcup99(tmp_path, anomalous_class="smurf")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "the first line has 1 values"),
        ([f"{LINES[0]},21"], "the first line has 43 values"),
        ([LINES[0], LINES[1][:60]], "15 were found at row 2"),
        ([LINES[0], _line(at_4="many")], "could not convert"),
        ([_line(label="normal")], "full stop"),
    ],
)
def test_damaged_lines(tmp_path, lines, message):
    _write(tmp_path, lines)
    with pytest.raises(DataFileError, match=message):
        load_kddcup99(tmp_path)


@pytest.mark.parametrize("n_bytes", [5, 60, -6])
def test_cut_off_gzip(tmp_path, n_bytes):
    _write(tmp_path, LINES * 50, "kddcup.data_10_percent.gz", packed=True)
    path = tmp_path / "kddcup.data_10_percent.gz"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(DataFileError, match=r"10_percent\.gz is not a valid"):
        load_kddcup99(tmp_path)


def test_missing_file_says_what_to_put_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Put kddcup\.data_10_percent\.gz there"):
        load_kddcup99(tmp_path)


def test_download(tmp_path, monkeypatch):
    _write(tmp_path, LINES, "published.gz", packed=True)
    path = tmp_path / "published.gz"
    checksum = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    remote = RemoteFile("kddcup.data_10_percent.gz", path.as_uri(), checksum)
    monkeypatch.setattr(kddcup99, "KDDCUP99_ARCHIVE", remote)
    assert load_kddcup99(tmp_path / "data", download=True).target.tolist() == [1, 0, 0]
    assert (tmp_path / "data" / "kddcup.data_10_percent.gz").is_file()
