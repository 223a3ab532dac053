"""Layers of many members, each as it would be alone; their optimizer; their skip connections."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gandetect.networks import MLP, ConvNet, members
from gandetect.networks.members import (
    AddSkip,
    Dropout,
    MemberAdam,
    MemberBatchNorm,
    MemberLinear,
    PerMember,
    add_spectral_norm,
    check_answer,
    make_joins,
    reset_members,
    run_joining,
    run_keeping,
    to_channels,
    to_members,
    without_weights,
)


def linear(n_members, n_in, n_out, seed=0):
    return MemberLinear(n_members, n_in, n_out, torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class TestMemberLinear:
    def test_each_member_is_a_linear_layer(self):
        layer, x = linear(3, 4, 2), torch.randn(3, 5, 4)
        for k, found in enumerate(layer(x)):
            expected = F.linear(x[k], layer.weight[k].T, layer.bias[k, 0])
            torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("n_out", [1, 2, 7, 15, 16, 40])
    def test_scoring_gives_what_training_does(self, n_out):
        """In evaluation narrow outputs are filled up, and what was filled is cut away."""
        layer, x = linear(3, 4, n_out), torch.randn(3, 5, 4)
        found = layer(x)
        assert found.shape == (3, 5, n_out)
        torch.testing.assert_close(layer.eval()(x), found)

    def test_it_can_be_made_without_weights(self):
        with without_weights():
            layer = linear(2, 3, 4)
        assert layer.weight.is_meta
        assert layer.weight.shape == (2, 3, 4)

    def test_initialised_as_torchs(self):
        layer = linear(2, 100, 400)
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


class TestDropout:
    def test_a_share_is_0_and_the_mean_stays(self):
        x = torch.ones(2, 3000, 4)
        found = Dropout(0.25, torch.Generator().manual_seed(0))(x)
        torch.testing.assert_close(found.unique(), torch.tensor([0.0, 1 / 0.75]))
        assert (found == 0).float().mean() == pytest.approx(0.25, abs=0.02)

    def test_whole_channels_of_maps(self):
        layer = Dropout(0.5, torch.Generator().manual_seed(0), channels=True)
        found = layer(torch.ones(40, 6, 3, 5)).flatten(2)
        assert torch.equal(found.amin(-1), found.amax(-1))
        assert len(found.unique()) == 2

    def test_only_in_training_and_from_its_own_generator(self):
        layer, x = Dropout(0.5, torch.Generator().manual_seed(0)), torch.ones(1, 50, 4)
        state = torch.get_rng_state()
        assert not torch.equal(layer(x), x)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(layer.eval()(x), x)


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
            lambda: linear(3, 8, 5),
            lambda: nn.Conv2d(3 * 2, 3 * 4, 3, groups=3),
        ],
        ids=["linear", "convolution"],
    )
    def test_the_largest_singular_value_of_every_member_is_1(self, layer):
        layer = nn.Sequential(layer())
        with torch.no_grad():
            layer[0].weight *= torch.randn_like(layer[0].weight) * 7
        add_spectral_norm(layer, 3, torch.Generator().manual_seed(0))
        for _ in range(50):
            _ = layer.train()[0].weight
        values = singular_values(layer.eval()[0], 3)
        np.testing.assert_allclose(values[:, 0], 1, rtol=1e-3)
        assert (values[:, -1] < 0.9).all()

    def test_eval_mode_repeats(self):
        layer = nn.Sequential(linear(2, 4, 4))
        add_spectral_norm(layer, 2, torch.Generator().manual_seed(0))
        layer.eval()
        before = {n: w.clone() for n, w in layer.state_dict().items()}
        x = torch.randn(2, 3, 4)
        assert torch.equal(layer(x), layer(x))
        assert all(torch.equal(w, before[n]) for n, w in layer.state_dict().items())

    def test_the_weight_below_learns(self):
        layer = nn.Sequential(linear(2, 4, 4))
        add_spectral_norm(layer, 2, torch.Generator().manual_seed(0))
        layer(torch.randn(2, 3, 4)).square().sum().backward()
        gradients = [p.grad for p in layer.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)

    def test_two_forward_passes_before_a_step(self):
        layer = nn.Sequential(linear(2, 4, 4))
        add_spectral_norm(layer, 2, torch.Generator().manual_seed(0))
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
        seeds = torch.randint(1000, (2,)).tolist()
        layers = linear(3, 4, 6, seeds[0]), MemberBatchNorm(3, 6), linear(3, 6, 2, seeds[1])
        network = nn.Sequential(*layers)
    else:
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1, groups=3)
        )
    add_spectral_norm(network, 3, torch.Generator().manual_seed(0))
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


def test_networks_of_ones_own_that_answer_in_another_shape():
    answer = torch.zeros(2, 5, 3)
    check_answer("decoder", answer, (5, 3))
    with pytest.raises(ValueError, match=r"networks of decoder= .* shape \(3,\), but \(4,\)"):
        check_answer("decoder", answer, (5, 4))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Adam", {"fused": True, "betas": (0.5, 0.9)}),
        ("AdamW", {"fused": True, "weight_decay": 0.1}),
        ("RMSprop", {"alpha": 0.9, "foreach": True}),
        ("SGD", {"momentum": 0.9, "fused": True}),
    ],
)
class TestOptimizersWithoutTheCompiler:
    def test_they_are_torchs_to_the_bit(self, name, parameters):
        weights = [[nn.Parameter(p) for p in TestMemberAdam.weights()] for _ in range(2)]
        for kind, own in zip(
            (getattr(members, name), getattr(torch.optim, name)), weights, strict=True
        ):
            optimizer = kind(own, lr=0.01, **parameters)
            for seed in range(4):
                TestMemberAdam.step(optimizer, own, seed)
                optimizer.zero_grad()
                assert all(p.grad is None for p in own)
            state = optimizer.state_dict()
            resumed = kind(own, lr=0.01, **parameters)
            resumed.load_state_dict(state)
            TestMemberAdam.step(resumed, own, 4)
        for found, expected in zip(*weights, strict=True):
            assert torch.equal(found, expected)

    def test_hooks_run_once(self, name, parameters):
        weights = TestMemberAdam.weights()
        optimizer = getattr(members, name)(weights, lr=0.01, **parameters)
        called = []
        optimizer.register_step_pre_hook(lambda *_: called.append("before"))
        optimizer.register_step_post_hook(lambda *_: called.append("after"))
        TestMemberAdam.step(optimizer, weights, 0)
        assert called == ["before", "after"]


class TestMemberAdam:
    """Adam for each member on its own."""

    @staticmethod
    def weights(seed=0):
        """Matrices and biases of three members, and kernels one behind the other."""
        g = torch.Generator().manual_seed(seed)
        shapes = (3, 4, 2), (3, 1, 2), (6, 2, 3, 3), (6,)
        return [nn.Parameter(torch.randn(shape, generator=g)) for shape in shapes]

    @staticmethod
    def step(optimizer, parameters, seed):
        g = torch.Generator().manual_seed(100 + seed)
        for p in parameters:
            # Slopes of very different sizes, which Adam makes steps of one size of.
            p.grad = 10 ** torch.randn(p.shape, generator=g) * torch.randn(p.shape, generator=g)
        optimizer.step()

    @pytest.mark.parametrize("betas", [(0.5, 0.999), (0.0, 0.9), (0.9, 0.99)])
    def test_it_is_torchs_where_all_members_have_taken_as_many_steps(self, betas):
        own, torchs = self.weights(), self.weights()
        optimizers = MemberAdam(own, 3, 0.01, betas), torch.optim.Adam(torchs, 0.01, betas)
        for seed in range(8):
            for optimizer, parameters in zip(optimizers, (own, torchs), strict=True):
                self.step(optimizer, parameters, seed)
            for found, expected in zip(own, torchs, strict=True):
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

    def test_a_restarted_member_takes_the_first_step_of_a_new_one_and_others_their_next(self):
        restarted, kept = self.weights(), self.weights()
        optimizers = [MemberAdam(p, 3, 0.01, (0.5, 0.999)) for p in (restarted, kept)]
        for seed in range(5):
            for optimizer, parameters in zip(optimizers, (restarted, kept), strict=True):
                self.step(optimizer, parameters, seed)
        optimizers[0].restart(torch.tensor([False, True, False]))
        new = [nn.Parameter(p.detach().clone()) for p in restarted]
        for optimizer, parameters in (
            (optimizers[0], restarted),
            (optimizers[1], kept),
            (torch.optim.Adam(new, 0.01, (0.5, 0.999)), new),
        ):
            self.step(optimizer, parameters, 5)
        for found, first, next_ in zip(restarted, new, kept, strict=True):
            members, firsts, nexts = (
                p.detach().unflatten(0, (3, -1)) for p in (found, first, next_)
            )
            torch.testing.assert_close(members[1], firsts[1], rtol=0, atol=1e-6)
            torch.testing.assert_close(members[::2], nexts[::2], rtol=0, atol=1e-6)

    def test_what_has_no_gradient_stays(self):
        parameters = self.weights()
        before = [p.detach().clone() for p in parameters]
        parameters[0].grad = torch.ones_like(parameters[0])
        MemberAdam(parameters, 3, 0.01, (0.5, 0.999)).step()
        moved = [not torch.equal(p, b) for p, b in zip(parameters, before, strict=True)]
        assert moved == [True, False, False, False]

    def test_its_state_goes_on_in_another(self):
        through, stopped = self.weights(), self.weights()
        optimizers = [MemberAdam(p, 3, 0.01, (0.5, 0.999)) for p in (through, stopped)]
        for seed in range(3):
            for optimizer, parameters in zip(optimizers, (through, stopped), strict=True):
                self.step(optimizer, parameters, seed)
        resumed = MemberAdam(stopped, 3, 0.01, (0.5, 0.999))
        resumed.load_state_dict(optimizers[1].state_dict())
        self.step(optimizers[0], through, 3)
        self.step(resumed, stopped, 3)
        for expected, found in zip(through, stopped, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


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
        generator = torch.Generator().manual_seed(0)
        return architecture.bind(shape, 3, "linear", generator).refiner(4, skip).eval()

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
