"""Anomalies on images: only inside the mask, as strong as asked, repeatable."""

import numpy as np
import pytest
import torch

from gandetect.simulation import ImageAnomalies
from gandetect.simulation.anomalies import _changed, _taken


@pytest.fixture
def g():
    """The generator that everything in a test is drawn from."""
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("source", ["procedural", "patches"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9), (1, 8, 8), (5, 16, 12)])
def test_nothing_changes_outside_the_mask(g, source, shape):
    x = torch.rand(30, *shape, generator=g)
    x_corrupted, mask = ImageAnomalies(source, shape[0], shape[1:], generator=g)(x)
    assert x_corrupted.shape == x.shape
    assert mask.shape == (30, *shape[1:])
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    outside = mask[:, None].expand_as(x) == 0
    assert torch.equal(x_corrupted[outside], x[outside])
    assert x_corrupted.min() >= 0
    assert x_corrupted.max() <= 1


def test_a_share_of_the_images_is_left_alone(g):
    anomalies = ImageAnomalies("procedural", 1, (8, 8), probability=0.3, generator=g)
    _, mask = anomalies(torch.rand(2000, 1, 8, 8, generator=g))
    assert mask.flatten(1).any(dim=1).float().mean() == pytest.approx(0.3, abs=0.04)
    anomalies.probability = 1.0
    assert anomalies(torch.rand(200, 1, 8, 8, generator=g))[1].flatten(1).any(dim=1).all()


def test_opacity_is_the_share_of_the_texture(g):
    white = np.full((1, 8, 8), 255, np.uint8)
    anomalies = ImageAnomalies(
        white, 1, (8, 8), probability=1, opacity=(0.2, 0.6), augment=False, generator=g
    )
    x_corrupted, mask = anomalies(torch.zeros(400, 1, 8, 8))
    values = x_corrupted[:, 0][mask > 0]
    assert 0.2 <= values.min() < 0.22
    assert 0.58 < values.max() <= 0.6


def test_textures_take_the_range_that_is_told(g):
    white = np.full((1, 8, 8), 255, np.uint8)
    anomalies = ImageAnomalies(
        white, 1, (8, 8), probability=1, opacity=(1, 1), augment=False, generator=g
    )
    x_corrupted, mask = anomalies(torch.full((5, 1, 8, 8), -4.0), low=-4.0, high=6.0)
    assert x_corrupted[:, 0][mask > 0].eq(6.0).all()


def test_the_same_seed_gives_the_same_anomalies(g):
    x, drawn = torch.rand(10, 3, 8, 8, generator=g), []
    for seed in (1, 1, 2):
        own = torch.Generator().manual_seed(seed)
        drawn.append(ImageAnomalies("procedural", 3, (8, 8), generator=own)(x)[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_what_is_taken_from_a_pool_is_rolled_mirrored_and_turned(g):
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    taken = _taken(image, 200, g)
    assert taken.sort().values.shape == (200, 1, 2, 3)
    assert torch.equal(taken.flatten(1).sort().values, torch.arange(6.0).expand(200, 6))
    # Two axes, each with its shifts and with each reversed.
    assert len(torch.unique(taken.flatten(1), dim=0)) == 2 * 6
    square = _taken(torch.arange(9.0).reshape(1, 1, 3, 3), 2000, g)
    assert len(torch.unique(square.flatten(1), dim=0)) == 6 * 6 * 2


def test_channels_stay_together(g):
    image = torch.stack([torch.arange(16.0), 100 + torch.arange(16.0)]).reshape(1, 2, 4, 4)
    taken = _taken(image, 20, g)
    assert torch.equal(taken[:, 1], taken[:, 0] + 100)


def test_changes_of_textures_stay_in_range(g):
    texture = torch.rand(300, 3, 4, 4, generator=g)
    changed = _changed(texture, g)
    assert changed.min() >= 0
    assert changed.max() <= 1
    n_changed = (changed != texture).flatten(1).any(dim=1).float().mean()
    assert n_changed == pytest.approx(1 - 0.7**4, abs=0.1)
