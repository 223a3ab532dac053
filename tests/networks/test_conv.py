"""Networks for images of any size."""

import numpy as np
import pytest
import torch
from torch import nn

from gandetect import ConvNet, GANomalyDetector
from gandetect.networks.members import Dropout, MemberLinear


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def bound(shape=(3, 9, 13), n_members=2, output_activation="linear", **parameters):
    generator = torch.Generator().manual_seed(0)
    return ConvNet(**{"n_filters": 4, **parameters}).bind(
        shape, n_members, output_activation, generator
    )


def convolutions(network):
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [module for module in network.modules() if isinstance(module, kinds)]


class TestShapes:
    @pytest.mark.parametrize("n_channels", [1, 3, 5])
    @pytest.mark.parametrize(
        "size",
        [(1, 1), (1, 9), (3, 5), (7, 7), (8, 8), (9, 13), (17, 17), (28, 28), (31, 33), (64, 48)],
    )
    def test_all_networks(self, size, n_channels):
        make, x = bound((n_channels, *size)), torch.randn(2, 3, n_channels, *size)
        assert make.encoder(5)(x).shape == (2, 3, 5)
        assert make.encoder(5, n_inputs=2)(x, x).shape == (2, 3, 5)
        assert make.decoder(5)(torch.randn(2, 3, 5)).shape == x.shape
        logits, features = make.discriminator()(x)
        assert logits.shape == (2, 3)
        assert features.shape[:2] == (2, 3)

    def test_discriminators_of_pairs(self):
        make, x, z = bound(), torch.randn(2, 4, 3, 9, 13), torch.randn(2, 4, 5)
        for inputs, parameters in [
            ((x, z), {"code_dim": 5}),
            ((x, x), {"n_inputs": 2}),
            ((x, x, z), {"code_dim": 5, "n_inputs": 2}),
        ]:
            logits, features = make.discriminator(**parameters)(*inputs)
            assert logits.shape == (2, 4)
            assert features.shape[:2] == (2, 4)

    @pytest.mark.parametrize(
        ("size", "n_halvings"),
        [
            ((1, 1), 0),
            ((7, 7), 0),
            ((8, 8), 1),
            ((8, 200), 1),
            ((16, 16), 2),
            ((28, 28), 2),
            ((32, 32), 3),
            ((64, 48), 3),
            ((128, 128), 5),
            ((512, 512), 5),
        ],
    )
    def test_halvings(self, size, n_halvings):
        make = bound((1, *size))
        assert make.n_halvings == n_halvings
        assert len(convolutions(make.encoder(5))) == max(n_halvings, 1)
        for side, bottom in zip(size, make.bottom, strict=True):
            assert (bottom - 1) * 2**n_halvings < side <= bottom * 2**n_halvings

    def test_widths(self):
        encoder, decoder = bound((1, 32, 32)).encoder(5), bound((1, 32, 32)).decoder(5)
        assert [c.out_channels for c in convolutions(encoder)] == [8, 16, 32]
        assert [c.out_channels for c in convolutions(decoder)] == [16, 8, 2]
        discriminator = bound((1, 32, 32), discriminator_filters=2).discriminator()
        assert [c.out_channels for c in convolutions(discriminator)] == [4, 8, 16]

    def test_extra_layers_at_the_finest_resolution(self):
        make = bound((1, 32, 32), n_extra_layers=2)
        for network in (make.encoder(5), make.decoder(5), make.discriminator()):
            extra = [c for c in convolutions(network) if c.kernel_size == (3, 3)]
            assert len(extra) == 2
            assert all(c.in_channels == c.out_channels == 8 for c in extra)


class TestPlaces:
    def test_a_pixel_comes_back_where_it_was(self):
        """What is padded is cropped at the same place: a map that copies its input does so."""
        from gandetect.networks.conv import _Decoder, _Pad

        x = torch.randn(1, 2, 1, 9, 13)
        make = bound((1, 9, 13), n_members=1)
        padded = _Pad(make.bottom, 2**make.n_halvings)(x[0])
        assert padded.shape[-2:] == (10, 14)
        decoder = _Decoder(nn.Identity(), nn.Identity(), 1, (10, 14), (9, 13))
        assert torch.equal(decoder(padded.flatten(1)[None]), x)

    def test_borders_are_repeated(self):
        from gandetect.networks.conv import _Pad

        x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
        padded = _Pad((1, 3), 2)(x)
        np.testing.assert_array_equal(padded[0, 0], [[1, 1, 2, 3, 3, 3]] * 2)


class TestMembers:
    def test_each_sees_its_own_images(self):
        for normalization in ("batch", "group", None):
            make = bound(n_members=3, normalization=normalization)
            x = torch.randn(3, 4, 3, 9, 13)
            other = x.clone()
            other[1] += 5
            encoder, discriminator = make.encoder(5), make.discriminator()
            for before, after in [
                (encoder(x), encoder(other)),
                (discriminator(x)[0], discriminator(other)[0]),
            ]:
                assert torch.equal(before[0], after[0])
                assert not torch.equal(before[1], after[1])
                assert torch.equal(before[2], after[2])

    def test_groups_never_straddle_members(self):
        for n_filters in (1, 2, 3, 4, 6):
            encoder = bound((1, 32, 32), 3, n_filters=n_filters, normalization="group").encoder(5)
            norms = [m for m in encoder.modules() if isinstance(m, nn.GroupNorm)]
            assert norms
            assert all(norm.num_groups % 3 == 0 for norm in norms)


class TestInitialisation:
    def test_dcgans(self):
        make = bound((3, 32, 32), n_filters=16)
        for network in (make.encoder(32), make.decoder(32), make.discriminator()):
            for module in network.requires_grad_(False).modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | MemberLinear):
                    if module.weight.numel() > 1000:
                        assert module.weight.std() == pytest.approx(0.02, rel=0.1)
                        assert abs(module.weight.mean()) < 0.002
                    if isinstance(module, MemberLinear):
                        assert (module.bias == 0).all()
                if isinstance(module, nn.BatchNorm2d):
                    assert module.weight.mean() == pytest.approx(1, abs=0.02)
                    assert 0.01 < module.weight.std() < 0.03
                    assert (module.bias == 0).all()

    def test_a_discriminator_of_pairs_sees_the_code_as_well_as_the_image(self):
        discriminator = bound((1, 32, 32), n_members=1).discriminator(code_dim=8)
        with torch.no_grad():
            for layer in discriminator.joint_layers():
                x = torch.randn(1, 2000, layer.weight.shape[1])
                assert layer(x).std().item() == pytest.approx(1, rel=0.25)

    def test_spectral_norm_comes_after_it(self):
        discriminator = bound((1, 32, 32), spectral_norm=True).discriminator()
        names = [n for n, _ in discriminator.named_parameters() if n.endswith("weight.original")]
        assert len(names) == 4  # three convolutions and the head
        for name, weight in discriminator.named_parameters():
            if name in names and weight.numel() > 500:
                assert weight.std().item() == pytest.approx(0.02, rel=0.15)


class TestLayers:
    def test_dropout_in_discriminators_only(self):
        make = bound((1, 32, 32), dropout=0.5)
        sequences = make.encoder(3).trunk, make.decoder(3).layers, make.discriminator().trunk
        counts = [sum(isinstance(m, Dropout) for m in layers) for layers in sequences]
        assert counts == [0, 0, 3]

    def test_normalisations(self):
        def count(network):
            kinds = (nn.BatchNorm2d, nn.GroupNorm)
            return sum(isinstance(module, kinds) for module in network.modules())

        for kind, expected in (("batch", [2, 3, 2]), ("group", [2, 3, 2]), (None, [0, 0, 0])):
            make = bound((1, 32, 32), normalization=kind)
            networks = make.encoder(3), make.decoder(3), make.discriminator()
            assert [count(network) for network in networks] == expected

    @pytest.mark.parametrize(
        ("activation", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1), ("linear", -99, 99)]
    )
    def test_output_activations(self, activation, low, high):
        x_hat = bound(output_activation=activation).decoder(3)(torch.randn(2, 9, 3) * 100)
        assert low <= x_hat.min() < x_hat.max() <= high

    def test_rows_are_refused(self):
        with pytest.raises(ValueError, match="use MLP, or give image_shape"):
            ConvNet().bind((7,), 1, "linear", torch.Generator())


@pytest.mark.parametrize(
    "architecture",
    [
        ConvNet(n_filters=3, normalization="group"),
        ConvNet(n_filters=2, normalization=None, spectral_norm=True),
        ConvNet(n_filters=2, n_extra_layers=1, dropout=0.2),
        ConvNet(n_filters=2, discriminator_filters=3, output_activation="linear"),
    ],
    ids=str,
)
def test_a_detector_fits_with_it(images, architecture):
    detector = GANomalyDetector(epochs=1, n_estimators=2, random_state=0, architecture=architecture)
    detector.fit(images[:20])
    together = detector.anomaly_score(images[:70])
    assert np.isfinite(together).all()
    alone = [detector.anomaly_score(images[i : i + 1])[0] for i in (0, 63, 64)]
    np.testing.assert_allclose(alone, together[[0, 63, 64]], rtol=0, atol=1e-5)
