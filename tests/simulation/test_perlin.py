"""Perlin noise and masks of any size."""

import pytest
import torch

from gandetect.simulation.perlin import perlin_masks, perlin_noise, random_cells


@pytest.fixture
def g():
    """The generator that everything in a test is drawn from."""
    return torch.Generator().manual_seed(0)


def test_noise_is_zero_on_the_lattice_and_smooth(g):
    noise = perlin_noise(torch.tensor([[4, 2]]), (400, 200), generator=g)[0]
    assert noise.abs().max() <= 1
    assert noise[::100, ::100].abs().max() < 0.02  # half a pixel from the lattice's points
    assert noise[50::100, 50::100].abs().min() > 1e-4
    assert noise.diff(dim=0).abs().max() < 0.05


def test_noise_repeats_at_its_borders(g):
    noise = perlin_noise(torch.tensor([[4, 8], [1, 2]]), (64, 128), generator=g)
    for axis in (1, 2):
        inside = noise.diff(dim=axis).abs().amax()
        across = (noise.select(axis, 0) - noise.select(axis, -1)).abs().amax()
        assert across <= 1.1 * inside


def test_cells_are_powers_of_two_of_at_least_four_pixels(g):
    cells = random_cells(500, (64, 20), (0, 5), generator=g)
    assert set(cells[:, 0].tolist()) == {1, 2, 4, 8, 16}
    assert set(cells[:, 1].tolist()) == {1, 2, 4}
    assert random_cells(50, (64, 64), (3, 3), generator=g).eq(8).all()
    assert random_cells(50, (3, 1), (2, 5), generator=g).eq(1).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (5, 5), (8, 8), (9, 13), (64, 48)])
def test_masks_of_any_size_are_never_empty(g, size):
    masks = perlin_masks(200, size, generator=g)
    assert masks.shape == (200, *size)
    assert masks.dtype == torch.bool
    assert masks.flatten(1).any(dim=1).all()
    if max(size) > 1:
        assert not masks.flatten(1).all(dim=1).any()


def test_masks_cover_what_draems_do(g):
    # Measured on DRAEM's recipe: 5.6 % of the pixels, at 64 pixels as at 256.
    assert 0.04 < perlin_masks(512, (64, 64), generator=g).float().mean() < 0.08


def test_finer_noise_gives_smaller_blobs(g):
    # The longer the borders of equal areas, the smaller the blobs.
    coarse, fine = (perlin_masks(100, (64, 64), (k, k), generator=g).float() for k in (1, 4))
    borders = [m.diff(dim=1).abs().mean() / m.mean() for m in (coarse, fine)]
    assert borders[1] > 3 * borders[0]
