"""Layers of many members: each as it would be alone."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gandetect.networks.members import (
    MemberBatchNorm,
    MemberLinear,
    PerMember,
    add_spectral_norm,
    reset_members,
    reset_optimizer_members,
    to_channels,
    to_members,
)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class TestMemberLinear:
    def test_each_member_is_a_linear_layer(self):
        layer, x = MemberLinear(3, 4, 2), torch.randn(3, 5, 4)
        for k, found in enumerate(layer(x)):
            expected = F.linear(x[k], layer.weight[k].T, layer.bias[k, 0])
            torch.testing.assert_close(found, expected)

    def test_initialised_as_torchs(self):
        layer = MemberLinear(2, 100, 400)
        for parameter in layer.parameters():
            assert 0.09 < parameter.abs().max() <= 1 / math.sqrt(100)
            assert abs(parameter.mean()) < 0.01
        assert not torch.equal(*layer.weight.detach())


class TestMemberBatchNorm:
    def test_each_member_over_its_own_batch(self):
        layer, x = (
            MemberBatchNorm(2, 3),
            torch.randn(2, 8, 3) * 5 + torch.tensor([[[1.0]], [[90.0]]]),
        )
        for k, found in enumerate(layer(x)):
            torch.testing.assert_close(found, F.batch_norm(x[k], None, None, training=True))
        np.testing.assert_allclose(layer.running_mean[3:], 0.1 * x[1].mean(0), rtol=1e-5)

    def test_scoring_uses_running_statistics(self):
        layer, x = MemberBatchNorm(2, 3).eval(), torch.randn(2, 8, 3)
        torch.testing.assert_close(layer(x)[:, :1], layer(x[:, :1]))


def singular_values(layer, n_members):
    weight = layer.weight.detach()
    matrices = (
        weight if weight.ndim == 3 else weight.reshape(n_members, len(weight) // n_members, -1)
    )
    return torch.linalg.svdvals(matrices)


class TestSpectralNorm:
    @pytest.mark.parametrize(
        "layer",
        [
            lambda: MemberLinear(3, 8, 5),
            lambda: nn.Conv2d(3 * 2, 3 * 4, 3, groups=3),
        ],
        ids=["linear", "convolution"],
    )
    def test_the_largest_singular_value_of_every_member_is_1(self, layer):
        layer = nn.Sequential(layer())
        with torch.no_grad():
            layer[0].weight *= torch.randn_like(layer[0].weight) * 7
        add_spectral_norm(layer, 3)
        for _ in range(50):
            _ = layer.train()[0].weight
        values = singular_values(layer.eval()[0], 3)
        np.testing.assert_allclose(values[:, 0], 1, rtol=1e-3)
        assert (values[:, -1] < 0.9).all()

    def test_eval_mode_repeats(self):
        layer = nn.Sequential(MemberLinear(2, 4, 4))
        add_spectral_norm(layer, 2)
        layer.eval()
        before = {n: w.clone() for n, w in layer.state_dict().items()}
        x = torch.randn(2, 3, 4)
        assert torch.equal(layer(x), layer(x))
        assert all(torch.equal(w, before[n]) for n, w in layer.state_dict().items())

    def test_the_weight_below_learns(self):
        layer = nn.Sequential(MemberLinear(2, 4, 4))
        add_spectral_norm(layer, 2)
        layer(torch.randn(2, 3, 4)).square().sum().backward()
        gradients = [p.grad for p in layer.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)

    def test_two_forward_passes_before_a_step(self):
        layer = nn.Sequential(MemberLinear(2, 4, 4))
        add_spectral_norm(layer, 2)
        x = torch.randn(2, 3, 4)
        (layer(x).sum() + layer(2 * x).square().sum()).backward()
        gradients = [p.grad for p in layer.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)


class TestLayouts:
    def test_there_and_back(self):
        x = torch.randn(3, 5, 2, 4, 6)
        channels = to_channels(x)
        assert channels.shape == (5, 6, 4, 6)
        assert channels.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(to_members(channels, 3), x)
        assert torch.equal(channels[1, 2 * 2 + 1], x[2, 1, 1])

    def test_groups_are_members(self):
        convolution, x = nn.Conv2d(3 * 2, 3 * 4, 3, groups=3), torch.randn(3, 5, 2, 4, 6)
        found = to_members(convolution(to_channels(x)), 3)
        weight, bias = (
            convolution.weight.unflatten(0, (3, 4)),
            convolution.bias.unflatten(0, (3, 4)),
        )
        for k in range(3):
            torch.testing.assert_close(found[k], F.conv2d(x[k], weight[k], bias[k]))


def stack(kind):
    if kind == "rows":
        network = nn.Sequential(MemberLinear(3, 4, 6), MemberBatchNorm(3, 6), MemberLinear(3, 6, 2))
    else:
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1, groups=3)
        )
    add_spectral_norm(network, 3)
    return network


@pytest.mark.parametrize("kind", ["rows", "images"])
class TestReset:
    collapsed = torch.tensor([False, True, False])

    def test_only_the_collapsed_member_is_new(self, kind):
        old, fresh = stack(kind), stack(kind)
        before = {n: w.clone() for n, w in old.state_dict().items()}
        reset_members(old, self.collapsed, fresh)
        for name, weight in old.state_dict().items():
            if weight.ndim == 0:
                continue
            members = weight.unflatten(0, (3, -1))
            kept, new = (
                before[name].unflatten(0, (3, -1)),
                fresh.state_dict()[name].unflatten(0, (3, -1)),
            )
            assert torch.equal(members[0], kept[0])
            assert torch.equal(members[1], new[1])
            assert torch.equal(members[2], kept[2])

    def test_parameters_stay_the_optimizers(self, kind):
        old = stack(kind)
        parameters = list(old.parameters())
        reset_members(old, self.collapsed, stack(kind))
        assert all(a is b for a, b in zip(parameters, old.parameters(), strict=True))

    def test_the_optimizer_forgets_the_collapsed_member(self, kind):
        network = stack(kind)
        optimizer = torch.optim.Adam(network.parameters())
        x = torch.randn(3, 5, 4) if kind == "rows" else torch.randn(5, 3, 4, 4)
        network(x).square().sum().backward()
        optimizer.step()
        before = {p: state["exp_avg_sq"].clone() for p, state in optimizer.state.items()}
        reset_optimizer_members(optimizer, self.collapsed)
        for parameter, state in optimizer.state.items():
            members = state["exp_avg_sq"].unflatten(0, (3, -1))
            kept = before[parameter].unflatten(0, (3, -1))
            assert torch.equal(members[::2], kept[::2])
            assert (members[1] == 0).all()
            assert state["step"] == 1

    def test_no_member_collapsed(self, kind):
        old = stack(kind)
        before = {n: w.clone() for n, w in old.state_dict().items()}
        reset_members(old, torch.zeros(3, dtype=torch.bool), stack(kind))
        assert all(torch.equal(w, before[n]) for n, w in old.state_dict().items())


def test_networks_of_ones_own_get_their_members_batch():
    networks = [nn.Linear(3, 2), nn.Linear(3, 2)]
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    out = PerMember(networks)(x)
    assert torch.equal(out[0], networks[0](x[0]))
    assert torch.equal(out[1], networks[1](x[1]))
