"""Skip connections: what is kept, in which order it is joined, and that members stay apart."""

import pytest
import torch
from torch import nn

from gandetect.networks import MLP, ConvNet
from gandetect.networks.skips import AddSkip, make_joins, run_joining, run_keeping


class Plus(nn.Module):
    def __init__(self, amount):
        super().__init__()
        self.amount = amount

    def forward(self, x):
        return x + self.amount


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_what_leaves_each_activation_is_kept(activation):
    layers = nn.Sequential(Plus(1.0), activation(), Plus(1.0), Plus(1.0), activation())
    x, kept = run_keeping(layers, torch.zeros(1, 1, 1))
    assert x.item() == 3.0
    assert [value.item() for value in kept] == [1.0, 3.0]


def test_the_last_that_was_kept_is_joined_first():
    layers = [Plus(0.0), nn.ReLU(), Doubled(), nn.ReLU()]
    kept = [torch.full((1, 1, 1), 100.0), torch.full((1, 1, 1), 1.0)]
    joined = run_joining(layers, torch.zeros(1, 1, 1), kept, [AddSkip(), AddSkip()])
    assert joined.item() == 102.0  # (0 + 1) * 2 + 100


def test_each_activation_needs_its_join():
    with pytest.raises(ValueError):
        run_joining([nn.ReLU()], torch.zeros(1, 1, 1), [torch.zeros(1, 1, 1)], [])


def test_concat_joins_the_two_of_a_member():
    (join,) = make_joins("concat", [2], 3, lambda n_in, n_out: nn.Identity())
    x, kept = torch.zeros(4, 6, 1, 1), torch.ones(4, 6, 1, 1)  # three members of two channels
    assert join(x, kept)[0, :, 0, 0].tolist() == [0, 0, 1, 1] * 3


ARCHITECTURES = {
    "rows": (MLP(hidden_dims=(7, 5)), (6,)),
    "rows, layer norm": (MLP(hidden_dims=(7, 5, 3), normalization="layer"), (1,)),
    "images": (ConvNet(n_filters=4), (3, 13, 17)),
    "images, extra layers": (ConvNet(n_filters=4, n_extra_layers=2), (1, 8, 30)),
    "images that are not halved": (ConvNet(n_filters=4, normalization="group"), (2, 5, 3)),
}


@pytest.mark.parametrize("skip", [None, "add", "concat"])
@pytest.mark.parametrize(("architecture", "shape"), ARCHITECTURES.values(), ids=ARCHITECTURES)
class TestRefiner:
    def refiner(self, architecture, shape, skip):
        torch.manual_seed(0)
        return architecture.bind(shape, 3, "linear").refiner(4, skip).eval()

    def test_it_gives_the_shape_that_it_gets(self, architecture, shape, skip):
        refiner = self.refiner(architecture, shape, skip)
        x = torch.randn(3, 5, *shape)
        assert refiner(x).shape == x.shape
        assert refiner.encoder(x).shape == (3, 5, 4)

    def test_a_skip_goes_around_the_code(self, architecture, shape, skip):
        refiner = self.refiner(architecture, shape, skip)
        head = refiner.encoder.head if len(shape) == 3 else refiner.encoder[-1]
        with torch.no_grad():
            head.weight.zero_()
        first, second = refiner(torch.randn(3, 2, *shape)).unbind(1)
        assert torch.equal(first, second) == (skip is None)

    def test_members_share_nothing(self, architecture, shape, skip):
        refiner = self.refiner(architecture, shape, skip)
        x = torch.randn(3, 2, *shape)
        other = x.clone()
        other[1] += 1.0
        changed = (refiner(x) != refiner(other)).flatten(1).any(dim=1)
        assert changed.tolist() == [False, True, False]

    def test_every_weight_is_used(self, architecture, shape, skip):
        refiner = self.refiner(architecture, shape, skip).train()
        refiner(torch.randn(3, 4, *shape)).square().sum().backward()
        assert all(p.grad is not None for p in refiner.parameters())
