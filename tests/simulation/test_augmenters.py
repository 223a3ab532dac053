"""DRAEM's augmentation: what each change does, against Pillow and by hand."""

import colorsys

import numpy as np
import pytest
import torch

from gandetect.simulation import augmenters
from gandetect.simulation.augmenters import changed_as_published, turned_as_published


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def textures():
    return torch.rand(40, 3, 12, 16, generator=generator())


def test_each_texture_is_changed_in_three_ways(textures, monkeypatch):
    def marks(number):
        # A digit of the ternary number that the first pixel becomes.
        return lambda x, g: x + torch.full_like(x, 2.0**-number / 2)

    monkeypatch.setattr(augmenters, "_CHANGES", tuple(marks(i) for i in range(10)))
    n_changes = [
        bin(round(value * 1024)).count("1")
        for value in changed_as_published(torch.zeros(40, 1, 1, 1), generator()).flatten().tolist()
    ]
    assert all(n == 3 for n in n_changes if n) and n_changes.count(3) > 20


@pytest.mark.parametrize("n_channels", [1, 3, 5])
def test_values_stay_in_their_range_and_repeat(n_channels):
    x = torch.rand(30, n_channels, 9, 12, generator=generator())
    before = x.clone()
    changed = changed_as_published(x, generator())
    assert torch.equal(x, before)
    assert changed.shape == x.shape and changed.min() >= 0 and changed.max() <= 1
    assert torch.equal(changed, changed_as_published(x, generator()))
    assert ((changed - x).abs().amax((1, 2, 3)) > 0.01).all()
    flat = changed_as_published(torch.full((30, n_channels, 8, 8), 0.5), generator())
    assert flat.isfinite().all()


def test_every_change_keeps_what_is_flat_finite():
    for change in augmenters._CHANGES:
        for value in (0.0, 0.3, 1.0):
            assert change(torch.full((2, 3, 8, 8), value), generator()).isfinite().all(), change


def test_hue_and_saturation_are_those_of_the_library(textures):
    hue, saturation, value = augmenters._hsv(textures)
    for pixel in [(0, 0, 0), (3, 5, 7), (39, 11, 15)]:
        i, row, column = pixel
        expected = colorsys.rgb_to_hsv(*textures[i, :, row, column].tolist())
        found = [part[i, 0, row, column].item() for part in (hue, saturation, value)]
        assert found == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(augmenters._rgb(hue, saturation, value), textures)


def test_equalising_is_pillows():
    operations = pytest.importorskip("PIL.ImageOps")
    from PIL import Image

    levels = np.random.default_rng(0).integers(60, 120, size=(2, 128, 128), dtype=np.uint8)
    found = augmenters._equalized(torch.from_numpy(levels)[:, None] / 255, generator())
    for image, equal in zip(levels, found, strict=True):
        expected = np.asarray(operations.equalize(Image.fromarray(image))) / 255
        # Pillow works in whole steps of the count of pixels a level.
        assert np.abs(expected - equal[0].numpy()).mean() < 0.02


def test_posterised_has_few_levels(textures):
    for image in augmenters._posterized(textures, generator()):
        n_levels = len(image.unique())
        assert n_levels <= 256
    few = [len(image.unique()) for image in augmenters._posterized(textures, generator())]
    assert min(few) == 2 and max(few) > 16


def test_stretching_reaches_both_ends(textures):
    found = augmenters._stretched(0.4 + 0.2 * textures, generator()).clamp(0, 1)
    assert (found.amin((2, 3)) < 1e-6).all() and (found.amax((2, 3)) > 1 - 1e-6).all()


def test_turning_by_a_quarter_is_exact():
    x = torch.rand(1, 2, 6, 6, generator=generator())
    for degrees, k in [(0, 0), (90, 1), (-90, -1)]:
        turned = augmenters._turned(x, torch.tensor([float(degrees)]))
        expected = [torch.rot90(x, sign * k, (2, 3)) for sign in (1, -1)]
        assert any(torch.allclose(turned, each, atol=1e-5) for each in expected)
    oblong = augmenters._turned(torch.ones(1, 1, 4, 8), torch.tensor([45.0]))
    assert 0 < oblong.mean() < 0.95 and oblong.max() <= 1 + 1e-6


def test_normal_images_are_turned_three_in_ten_times():
    x = 1 + torch.rand(400, 1, 8, 8, generator=generator())
    turned = turned_as_published(x, -1.0, generator())
    share = (turned != x).flatten(1).any(1).float().mean()
    assert 0.22 < share < 0.38
    assert turned.min() == pytest.approx(-1.0)
    assert torch.equal(turned, turned_as_published(x, -1.0, generator()))
