import numpy as np
import pytest
from PIL import Image

from gandetect.cli.resizing import is_resizable, resized
from gandetect.datasets import ImageFolder

GREY = np.random.default_rng(0).integers(0, 256, size=(3, 9, 7), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, size=(3, 9, 7, 3), dtype=np.uint8)
SIZES = [(None, None), (5, None), ((12, 20), None), (None, 1), (None, 3), (5, 1), ((4, 8), 3)]


@pytest.mark.parametrize(("size", "channels"), SIZES)
@pytest.mark.parametrize("X", [GREY, COLOUR], ids=["grey", "colour"])
def test_bytes_are_what_files_would_be(X, size, channels, tmp_path):
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    expected = ImageFolder(tmp_path, size, channels=channels).stack()
    found = resized(X, size, channels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    # Other numbers in the same way, but for the rounding: of weights, and of each of two passes.
    of_floats = resized(X.astype(float), size, channels)
    assert of_floats.shape == expected.shape
    np.testing.assert_allclose(of_floats, expected, atol=2)


def test_other_integers_are_what_files_would_be(tmp_path):
    X = np.random.default_rng(0).integers(0, 65536, size=(2, 9, 7), dtype=np.uint16)
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    found = resized(X, 5)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, ImageFolder(tmp_path, 5).stack())


@pytest.mark.parametrize("X", [GREY, COLOUR, np.moveaxis(COLOUR, -1, 1)])
def test_the_aspect_is_kept(X):
    found = resized(X, 18, keep_aspect=True)
    assert found.shape == tuple({9: 18, 7: 14}.get(side, side) for side in X.shape)


def test_channels_stay_where_they_are():
    first = np.moveaxis(COLOUR, -1, 1)
    np.testing.assert_array_equal(resized(first, 5), np.moveaxis(resized(COLOUR, 5), -1, 1))
    np.testing.assert_array_equal(resized(first, 5, 1), resized(COLOUR, 5, 1))


def test_one_channel_is_grey():
    for with_axis in (GREY[..., None], GREY[:, None]):
        np.testing.assert_array_equal(resized(with_axis, 5), resized(GREY, 5))
        assert resized(with_axis, 5, 3).shape in ((3, 5, 5, 3), (3, 3, 5, 5))


def test_values_are_kept():
    half = np.full((2, 4, 4, 3), 0.5)
    np.testing.assert_allclose(resized(half, 7), 0.5)
    np.testing.assert_allclose(resized(half, 7, 1), 0.5)
    assert resized(half[:0], 7).shape[0] == 0


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((2, 5, 5), float, True),
        ((2, 5, 5, 3), np.uint8, True),
        ((2, 3, 5, 5), np.int16, True),
        ((2, 1, 5, 5), bool, True),
        ((2, 5), float, False),
        ((2, 5, 5, 2), float, False),
        ((2, 5, 5), "U1", False),
        ((2, 5, 5, 3, 1), float, False),
    ],
)
def test_what_images_are(shape, dtype, expected):
    assert is_resizable(np.zeros(shape, dtype=dtype)) is expected
