"""Where the content of simulated anomalies comes from."""

import numpy as np
import pytest
import torch

from gandetect.simulation.textures import check_source, procedural_textures, texture_pool


@pytest.fixture
def g():
    """The generator that everything in a test is drawn from."""
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("n_channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 13), (32, 32)])
def test_procedural_textures_of_any_shape(g, n_channels, size):
    textures = procedural_textures(40, n_channels, size, generator=g)
    assert textures.shape == (40, n_channels, *size)
    assert textures.min() >= 0
    assert textures.max() <= 1


def test_procedural_textures_vary(g):
    textures = procedural_textures(60, 3, (32, 32), generator=g)
    assert textures.flatten(1).std(dim=1).median() > 0.05
    assert textures.flatten(1).mean(dim=1).std() > 0.1
    assert len(torch.unique(textures.flatten(1), dim=0)) == 60


def test_patches_need_no_pool():
    assert texture_pool("patches", 3, (8, 8)) is None


def test_the_pool_is_bounded():
    assert len(texture_pool("procedural", 1, (4, 4))) == 256
    assert len(texture_pool("procedural", 3, (256, 256))) == 42


class TestArrays:
    def test_eight_bit(self):
        images = np.arange(0, 256, 16, dtype=np.uint8).reshape(4, 2, 2)
        pool = texture_pool(images, 1, (2, 2))
        np.testing.assert_allclose(pool[:, 0].numpy(), images / 255, atol=1e-6)

    def test_floats_of_any_range(self):
        images = np.array([-3.0, 1.0, 0.0, 5.0]).reshape(1, 2, 2)
        pool = texture_pool(images, 1, (2, 2))
        np.testing.assert_allclose(pool[0, 0].numpy(), [[0, 0.5], [0.375, 1]], atol=1e-6)

    def test_gray_serves_colour_and_colour_gray(self):
        colour = np.random.default_rng(0).random((3, 4, 4, 3))
        low, high = colour.min(), colour.max()
        gray = texture_pool(colour, 1, (4, 4))
        expected = (colour.mean(-1) - low) / (high - low)
        np.testing.assert_allclose(gray[:, 0].numpy(), expected, atol=1e-6)
        back = texture_pool(colour[..., 0], 3, (4, 4))
        assert torch.equal(back[:, 0], back[:, 2])

    def test_more_than_the_pool_holds_are_spread_evenly(self):
        images = np.repeat(np.arange(510) // 2, 4).reshape(510, 2, 2).astype(np.uint8)
        pool = texture_pool(images, 1, (2, 2))
        assert len(pool) == 256
        assert pool[0].max() == 0
        assert pool[-1].min() == pytest.approx(254 / 255)


def test_a_folder_of_textures(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name, colour in [("red", (255, 0, 0)), ("blue", (0, 0, 255))]:
        (tmp_path / name).mkdir()
        image.new("RGB", (10, 6), colour).save(tmp_path / name / f"{name}_0001.png")
    pool = texture_pool(tmp_path, 3, (4, 5))
    assert pool.shape == (2, 3, 4, 5)
    assert pool[:, 0].amin() == 0
    assert pool[:, 0].amax() == 1
    assert pool[:, 1].max() == 0


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("no folder", FileNotFoundError, "no folder 'no folder'"),
        (None, TypeError, "array of images or a folder"),
        ([np.zeros((4, 4))], TypeError, "got list"),
        (np.zeros((4, 4)), ValueError, r"shape \(4, 4\)"),
        (np.zeros((0, 4, 4)), ValueError, "shape"),
        (np.full((1, 2, 2), np.nan), ValueError, "NaN"),
        (np.array([["a"]])[None], ValueError, "numeric"),
    ],
)
def test_what_is_no_source(source, error, message):
    with pytest.raises(error, match=message):
        check_source(source)
