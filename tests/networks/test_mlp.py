"""Networks for rows."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from gandetect import GANomalyDetector
from gandetect.networks import MLP, ConvNet
from gandetect.networks.members import Dropout, MemberBatchNorm, MemberLinear


def bound(n_members=2, n_features=5, output_activation="linear", **parameters):
    generator = torch.Generator().manual_seed(0)
    return MLP(**parameters).bind((n_features,), n_members, output_activation, generator)


def widths(network):
    return [m.weight.shape[1:] for m in network.modules() if isinstance(m, MemberLinear)]


class TestArchitecture:
    def test_it_is_the_default_for_rows_and_no_other(self, rows, images):
        for X, default in ((rows[:20], MLP()), (images[:4], ConvNet())):
            detector = GANomalyDetector(epochs=1, n_estimators=1).fit(X)
            assert detector.architecture_ == default

    def test_it_compares_prints_and_cannot_change(self):
        same = MLP(dropout=0.1)
        assert same == MLP(dropout=0.1)
        assert same != MLP()
        assert hash(MLP()) == hash(MLP())
        assert repr(MLP(dropout=0.1)).startswith("MLP(hidden_dims=None")
        assert pickle.loads(pickle.dumps(MLP(dropout=0.1))) == MLP(dropout=0.1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            MLP().dropout = 0.5

    def test_images_are_refused(self):
        with pytest.raises(ValueError, match="ConvNet, or flatten"):
            MLP().bind((1, 8, 8), 1, "linear", torch.Generator())

    def test_at_least_one_hidden_layer(self):
        with pytest.raises(ValueError, match="hidden_dims must contain at least one width"):
            MLP(hidden_dims=())


class TestShapes:
    @pytest.mark.parametrize("n_members", [1, 3])
    @pytest.mark.parametrize("n_features", [1, 2, 300])
    def test_all_networks(self, n_members, n_features):
        make, x = bound(n_members, n_features), torch.randn(n_members, 4, n_features)
        assert make.encoder(3)(x).shape == (n_members, 4, 3)
        assert make.encoder(3, n_inputs=2)(x, x).shape == (n_members, 4, 3)
        assert make.decoder(3)(torch.randn(n_members, 4, 3)).shape == x.shape
        assert make.segmenter(n_inputs=2)(x, x).shape == x.shape
        logits, features = make.discriminator()(x)
        assert logits.shape == (n_members, 4)
        assert features.shape == (n_members, 4, 32)

    def test_discriminators_of_pairs(self):
        make, x, z = bound(), torch.randn(2, 4, 5), torch.randn(2, 4, 3)
        assert make.discriminator(code_dim=3)(x, z)[0].shape == (2, 4)
        assert make.discriminator(n_inputs=2)(x, x)[0].shape == (2, 4)
        assert make.discriminator(code_dim=3, n_inputs=2)(x, x, z)[0].shape == (2, 4)

    def test_every_input_is_looked_at(self):
        x, z = torch.randn(2, 4, 5, requires_grad=True), torch.randn(2, 4, 3, requires_grad=True)
        bound().discriminator(code_dim=3)(x, z)[0].sum().backward()
        assert (x.grad != 0).any()
        assert (z.grad != 0).any()

    def test_widths_are_mirrored(self):
        make = bound(hidden_dims=(9, 8, 7))
        assert widths(make.encoder(3)) == [(5, 9), (9, 8), (8, 7), (7, 3)]
        assert widths(make.decoder(3)) == [(3, 7), (7, 8), (8, 9), (9, 5)]
        assert widths(make.discriminator()) == [(5, 9), (9, 8), (8, 7), (7, 1)]
        assert widths(bound().encoder(3)) == [(5, 64), (64, 32), (32, 3)]


class TestLayers:
    def test_batch_normalisation_after_each_hidden_layer_but_the_first(self):
        encoder = bound(normalization="batch", hidden_dims=(9, 8, 7)).encoder(3)
        assert sum(isinstance(m, MemberBatchNorm) for m in encoder.modules()) == 2
        encoder = bound(normalization="layer", hidden_dims=(9, 8, 7)).encoder(3)
        assert sum(isinstance(m, nn.LayerNorm) for m in encoder.modules()) == 2
        assert not [m for m in bound().encoder(3).modules() if isinstance(m, MemberBatchNorm)]

    def test_dropout_in_discriminators_only(self):
        make = bound(dropout=0.5)
        counts = [
            sum(isinstance(m, Dropout) for m in network.modules())
            for network in (make.encoder(3), make.decoder(3), make.discriminator())
        ]
        assert counts == [0, 0, 2]
        discriminator, x = make.discriminator(), torch.randn(2, 4, 5)
        assert torch.equal(discriminator.eval()(x)[0], discriminator(x)[0])

    def test_spectral_norm_in_discriminators_only(self):
        make = bound(spectral_norm=True)
        names = [
            any("parametrizations" in name for name in network.state_dict())
            for network in (make.encoder(3), make.decoder(3), make.discriminator())
        ]
        assert names == [False, False, True]

    @pytest.mark.parametrize(
        ("activation", "low", "high"),
        [("linear", -1e5, 1e5), ("sigmoid", 0, 1), ("tanh", -1, 1)],
    )
    def test_output_activations(self, activation, low, high):
        x_hat = bound(output_activation=activation).decoder(3)(torch.randn(2, 50, 3) * 1e4)
        assert low <= x_hat.min() < x_hat.max() <= high
        assert x_hat.abs().max() > 0.9


@pytest.mark.parametrize(
    "architecture",
    [
        MLP(hidden_dims=(3,)),
        MLP(hidden_dims=[4, 3]),
        MLP(normalization="batch"),
        MLP(normalization="layer", dropout=0.2),
        MLP(spectral_norm=True),
        MLP(output_activation="tanh"),
    ],
    ids=str,
)
def test_a_detector_fits_with_it(rows, architecture):
    detector = GANomalyDetector(epochs=2, n_estimators=2, random_state=0, architecture=architecture)
    detector.fit(rows[:60])
    assert set(detector.predict(rows)) == {-1, 1}
    alone = [detector.anomaly_score(rows[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(alone, detector.anomaly_score(rows[:5]), rtol=0, atol=1e-5)


def test_the_output_activation_follows_the_scaling(rows):
    for scaling, activation in [
        ("unit", nn.Sigmoid),
        ("symmetric", nn.Tanh),
        ("auto", nn.Identity),
    ]:
        detector = GANomalyDetector(epochs=1, n_estimators=1, scaling=scaling).fit(rows[:20])
        assert isinstance(detector.networks_["decoder"][-1], activation)
