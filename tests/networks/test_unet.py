"""Networks that keep an image's layout, made by ConvNet."""

import pytest
import torch
from torch import nn

from gandetect import ConvNet
from gandetect.networks.unet import level_widths


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def bound(shape=(3, 9, 13), n_members=2, **parameters):
    generator = torch.Generator().manual_seed(0)
    return ConvNet(**{"n_filters": 4, **parameters}).bind(shape, n_members, "sigmoid", generator)


@pytest.mark.parametrize("patch_size", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 5), (8, 8), (9, 13), (31, 33), (64, 48)])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_shapes(size, n_channels, patch_size):
    make = bound((n_channels, *size), patch_size=patch_size)
    x = torch.randn(2, 3, n_channels, *size)
    restorer = make.restorer(5)
    assert restorer(x).shape == x.shape
    assert restorer.encoder(x).shape == (2, 3, 5)
    assert make.segmenter()(x).shape == (2, 3, *size)
    assert make.segmenter(n_inputs=2)(x, x).shape == (2, 3, *size)
    logits, features = make.patch_discriminator(n_inputs=2)(x, x)
    assert logits.shape[:2] == features.shape[:2] == (2, 3)
    assert logits.shape[2:] == features.shape[3:]


def test_widths_are_draems():
    assert level_widths(128, 4) == [128, 256, 512, 1024, 1024]
    assert level_widths(64, 5) == [64, 128, 256, 512, 512, 512]


def test_patches_of_the_discriminator_see_little():
    network = bound((1, 64, 64), n_members=1).patch_discriminator()
    x = torch.randn(1, 1, 1, 64, 64)
    changed = x.clone()
    changed[..., :4, :4] += 1
    difference = (network(x)[0] - network(changed)[0])[0, 0].abs()
    assert difference.shape == (8, 8)
    assert difference[0, 0] > 0
    assert difference[4:, 4:].max() == 0


def test_the_restorer_has_no_skips():
    # What its bottom forgets cannot come back: with its maps silenced the input leaves no trace.
    restorer = bound((1, 16, 16), n_members=1).restorer(3).eval()
    for parameter in restorer.encoder.descent.levels[-1].parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 2, 1, 16, 16)
    x_hat = restorer(x)
    assert torch.equal(x_hat[0, 0], x_hat[0, 1])


def test_the_segmenter_has_skips():
    segmenter = bound((1, 16, 16), n_members=1).segmenter().eval()
    for parameter in segmenter.descent.levels[-1].parameters():
        nn.init.zeros_(parameter)
    logits = segmenter(torch.randn(1, 2, 1, 16, 16))
    assert not torch.equal(logits[0, 0], logits[0, 1])


@pytest.mark.parametrize("maker", ["restorer", "segmenter", "patch_discriminator"])
def test_members_share_nothing(maker):
    make = bound((3, 16, 16), n_members=2)
    network = make.restorer(4) if maker == "restorer" else getattr(make, maker)()

    def outputs(x):
        out = network(x)
        return out[0] if isinstance(out, tuple) else out

    x = torch.randn(2, 2, 3, 16, 16)
    changed = x.clone()
    changed[1] = torch.randn_like(x[1])
    before, after = outputs(x), outputs(changed)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_the_output_of_the_restorer_covers_the_scaled_range():
    x_hat = bound().restorer(3)(100 * torch.randn(2, 4, 3, 9, 13))
    assert x_hat.min() >= 0
    assert x_hat.max() <= 1


def test_a_pixel_comes_back_where_it_was():
    make = bound((1, 9, 13), n_members=1, patch_size=4)
    frame = make.segmenter().frame
    x = torch.randn(1, 2, 1, 9, 13)
    assert torch.equal(frame.undone(frame(x)), x)


def test_spectral_norm_bounds_the_patch_discriminator():
    network = bound((1, 16, 16), n_members=1, spectral_norm=True).patch_discriminator()
    weight = network.head.weight.detach().flatten(1)
    assert torch.linalg.svdvals(weight)[0] == pytest.approx(1, abs=0.05)


def test_patch_size_is_checked():
    with pytest.raises(ValueError, match="patch_size must be 1, 2 or 4"):
        ConvNet(patch_size=3)
    with pytest.raises(ValueError, match="segmenter_filters"):
        ConvNet(segmenter_filters=0)
