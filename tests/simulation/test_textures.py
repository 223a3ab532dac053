"""Where the content of simulated anomalies comes from."""

import numpy as np
import pytest
import torch

from gandetect.simulation import ImageAnomalies
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


def test_the_pool_of_made_up_textures_is_bounded():
    assert len(texture_pool("procedural", 1, (4, 4))) == 256
    assert len(texture_pool("procedural", 3, (256, 256))) == 42


class TestArrays:
    def test_eight_bit(self):
        images = np.arange(0, 256, 16, dtype=np.uint8).reshape(4, 2, 2)
        np.testing.assert_allclose(_all(texture_pool(images, 1, (2, 2)))[:, 0], images / 255)

    def test_floats_of_any_range(self):
        images = np.array([[-3.0, 1.0, 0.0, -3.0], [-3.0, -3.0, -3.0, 5.0]]).reshape(2, 2, 2)
        expected = np.array([[0, 0.5, 0.375, 0], [0, 0, 0, 1]]).reshape(2, 2, 2)
        textures = _all(texture_pool(images, 1, (2, 2)))[:, 0]
        np.testing.assert_allclose(textures, expected, atol=0.5 / 255)

    def test_gray_serves_colour_and_colour_gray(self):
        colour = np.random.default_rng(0).random((3, 4, 4, 3))
        low, high = colour.min(), colour.max()
        gray = _all(texture_pool(colour, 1, (4, 4)))
        expected = (colour.mean(-1) - low) / (high - low)
        np.testing.assert_allclose(gray[:, 0], expected, atol=0.51 / 255)
        back = _all(texture_pool(colour[..., 0], 3, (4, 4)))
        np.testing.assert_array_equal(back[:, 0], back[:, 2])


def _all(pool):
    return pool[torch.arange(len(pool))].numpy()


@pytest.mark.parametrize("kind", ["folder", "array"])
def test_all_images_of_a_source_are_drawn(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("gandetect.simulation.anomalies._N_MASKS", 1)
    levels = np.linspace(0, 255, 45).astype(np.uint8)
    source = np.broadcast_to(levels[:, None, None], (45, 4, 4))
    if kind == "folder":
        image = pytest.importorskip("PIL.Image")
        for i, level in enumerate(levels):
            image.new("L", (4, 4), int(level)).save(tmp_path / f"{i:03}.png")
        source = tmp_path
    # More than the made-up textures that there are at this size.
    options = {"probability": 1, "opacity": (1, 1), "augment": False}
    generator = torch.Generator().manual_seed(0)
    anomalies = ImageAnomalies(source, 3, (256, 256), **options, generator=generator)
    anomalies.masks = torch.ones(1, 256, 256)
    x = torch.zeros(20, 3, 256, 256)
    seen = {float(value) for _ in range(20) for value in anomalies(x)[0][:, 0, 0, 0]}
    np.testing.assert_allclose(sorted(seen), np.unique(levels) / 255, atol=1e-6)


def test_what_is_kept_in_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("gandetect.simulation.textures._KEPT_BYTES", 10 * 3 * 8 * 8)
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    pool = texture_pool(images, 3, (8, 8))
    first, second = _all(pool), _all(pool)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, np.moveaxis(images, -1, 1) / 255, atol=1e-6)
    assert len(pool._kept) == 10


def test_a_folder_of_textures(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name, colour in [("red", (255, 0, 0)), ("blue", (0, 0, 255))]:
        (tmp_path / name).mkdir()
        image.new("RGB", (10, 6), colour).save(tmp_path / name / f"{name}_0001.png")
    pool = _all(texture_pool(tmp_path, 3, (4, 5)))
    assert pool.shape == (2, 3, 4, 5)
    assert pool[:, 0].min() == 0
    assert pool[:, 0].max() == 1
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
