import gzip
import struct

import numpy as np
import pytest

from gandetect.datasets import DataFileError, read_idx


def _idx(code, shape, content):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


@pytest.mark.parametrize(
    ("code", "content", "expected"),
    [
        (0x08, b"\x00\xff", np.array([0, 255], dtype=np.uint8)),
        (0x09, b"\x00\xff", np.array([0, -1], dtype=np.int8)),
        (0x0B, b"\x01\x02\xff\xff", np.array([258, -1], dtype=np.int16)),
        (0x0C, b"\x00\x00\x01\x00\xff\xff\xff\xfe", np.array([256, -2], dtype=np.int32)),
        (0x0D, struct.pack(">2f", 1.5, -2), np.array([1.5, -2], dtype=np.float32)),
        (0x0E, struct.pack(">2d", 1.5, -2), np.array([1.5, -2], dtype=np.float64)),
    ],
)
def test_every_type(tmp_path, code, content, expected):
    path = tmp_path / "x"
    path.write_bytes(_idx(code, (2,), content))
    array = read_idx(path)
    assert array.dtype == expected.dtype
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, expected)


def test_shape_is_in_rows_and_the_array_can_be_written(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(_idx(0x08, (2, 1, 3), bytes(range(6))))
    array = read_idx(path)
    assert array.tolist() == [[[0, 1, 2]], [[3, 4, 5]]]
    array[0] = 9


def test_packed_and_plain_are_equal(tmp_path):
    content = _idx(0x08, (3,), b"abc")
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(read_idx(tmp_path / "plain"), read_idx(tmp_path / "packed.gz"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file"),
        (b"\x89PNG\r\n", "not an idx file"),
        (bytes([0, 0, 0x0A, 1, 0, 0, 0, 0]), "not an idx file"),
        (bytes([0, 0, 8, 0]), "without a complete header"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 1]), "without a complete header"),
        (
            _idx(0x08, (3,), b"ab"),
            r"3 bytes for an array of shape \(3,\) by its header, but contains 2",
        ),
        (
            _idx(0x08, (3,), b"abcd"),
            r"3 bytes for an array of shape \(3,\) by its header, but contains 4",
        ),
        (_idx(0x0D, (2**31, 2**31, 2**31), b"abcd"), "but contains 4"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=message):
        read_idx(path)


@pytest.mark.parametrize("n_bytes", [3, 12, 200, -4])
def test_cut_off_gzip(tmp_path, n_bytes):
    values = np.random.default_rng(0).integers(0, 256, 1000).astype(np.uint8)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(_idx(0x08, (1000,), values.tobytes()))[:n_bytes])
    with pytest.raises(DataFileError, match=r"x\.gz"):
        read_idx(path)


def test_altered_gzip(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, 1000).astype(np.uint8)
    content = bytearray(gzip.compress(_idx(0x08, (1000,), values.tobytes())))
    content[500] ^= 0xFF
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataFileError, match="damaged"):
        read_idx(tmp_path / "x.gz")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "x")
