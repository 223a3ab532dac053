"""What is special to GANomaly: its losses, its collapsed discriminator, its published score."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score

from gandetect import MLP, ConvNet, GANomalyDetector
from gandetect.networks.members import MemberLinear

X = np.random.default_rng(0).normal(size=(60, 6))


def fitted(**parameters):
    return GANomalyDetector(epochs=2, n_estimators=2, random_state=0, **parameters).fit(X)


def in_training(detector):
    nets = detector._make_networks()
    nets.train()
    return nets, detector._build_optimizers(nets)


def batch(detector):
    return detector.scaler_(X)[:32].expand(2, 32, 6)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_paper_score_is_the_norm_of_the_difference_of_the_codes():
    for norm, degree in (("l1", 1), ("l2", 2)):
        detector = fitted(score="paper", score_norm=norm)
        nets, x = detector.networks_, detector.scaler_(X).expand(2, 60, 6)
        with torch.inference_mode():
            z = nets.encoder(x)
            z_hat = nets.re_encoder(nets.decoder(z))
        by_hand = np.linalg.norm((z - z_hat).double().numpy(), ord=degree, axis=-1).mean(0)
        np.testing.assert_allclose(detector.anomaly_score(X), by_hand, rtol=1e-5)


def test_losses_are_the_published_ones():
    detector = fitted(collapse_loss=None)
    nets, optimizers = in_training(detector)
    x = batch(detector)
    with torch.no_grad():
        z = nets.encoder(x)
        x_hat = nets.decoder(z)
        z_hat = nets.re_encoder(x_hat)
        real, fake = nets.discriminator(x), nets.discriminator(x_hat)
        truth, deceit = torch.sigmoid(real[0]), torch.sigmoid(fake[0])
        expected = {
            "adversarial": (real[1] - fake[1]).square().mean(),
            "reconstruction": (x - x_hat).abs().mean(),
            "latent": (z - z_hat).square().mean(),
            "discriminator": -(torch.log(truth) + torch.log(1 - deceit)).mean() / 2,
        }
    losses = detector._train_step(nets, optimizers, x, 0.0)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].detach().mean(), value)


def test_bce_asks_the_discriminator_to_take_reconstructions_for_real():
    detector = fitted(adversarial_loss="bce", collapse_loss=None)
    nets, optimizers = in_training(detector)
    x = batch(detector)
    with torch.no_grad():
        logits, _ = nets.discriminator(nets.decoder(nets.encoder(x)))
    losses = detector._train_step(nets, optimizers, x, 0.0)
    torch.testing.assert_close(losses["adversarial"].detach(), -torch.log(torch.sigmoid(logits)))


@pytest.mark.parametrize("alone", ["adversarial", "reconstruction", "latent"])
def test_each_loss_reaches_whom_it_should(alone):
    names = ("adversarial", "reconstruction", "latent")
    detector = fitted().set_params(**{f"{name}_weight": float(name == alone) for name in names})
    nets, optimizers = in_training(detector)
    before = {name: weights(net) for name, net in nets.items()}
    detector._train_step(nets, optimizers, batch(detector), 0.0)
    moved = {name for name, net in nets.items() if not torch.equal(weights(net), before[name])}
    expected = {"encoder", "decoder", "discriminator"}
    assert moved == (expected | {"re_encoder"} if alone == "latent" else expected)


def test_a_collapsed_discriminator_is_drawn_anew_with_its_optimizer_state():
    detector = fitted(collapse_loss=0.0)
    nets, optimizers = in_training(detector)
    x = batch(detector)
    detector._train_step(nets, optimizers, x, 0.0)
    detector.collapse_loss = 1e9
    before = weights(nets.discriminator)
    detector._train_step(nets, optimizers, x, 0.0)
    # One Adam step moves a weight by about the learning rate; new weights differ by far more.
    assert (weights(nets.discriminator) - before).abs().max() > 50 * detector.learning_rate
    states = optimizers["discriminator"].state.values()
    assert all(state["exp_avg"].count_nonzero() == 0 for state in states)
    assert any(s["exp_avg"].count_nonzero() for s in optimizers["generator"].state.values())


def test_only_the_collapsed_member_is_drawn_anew():
    detector = fitted()
    nets, optimizers = in_training(detector)
    head = nets.discriminator.head
    with torch.no_grad():  # the first member's loss is softplus(-40) / 2 + softplus(40) / 2 = 20
        head.weight[0] = 0.0
        head.bias[0] = 40.0
    before = head.weight.detach().clone()
    detector.collapse_loss = 10.0  # above the second member's loss alone
    detector._train_step(nets, optimizers, batch(detector), 0.0)
    change = (head.weight.detach() - before).abs().amax(dim=(1, 2))
    # A step of Adam for the first member, other weights altogether for the second.
    assert change[0] <= 2 * detector.learning_rate
    assert change[1] > 20 * detector.learning_rate


def test_dcgan_initialisation_reaches_every_layer():
    images = np.random.default_rng(0).random((8, 16, 16))
    architecture = ConvNet(n_filters=32, n_extra_layers=1)
    detector = GANomalyDetector(epochs=1, n_estimators=2, architecture=architecture).fit(images)
    n_checked = 0
    for module in detector._make_networks().modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d | MemberLinear):
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)
                n_checked += 1
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.05)
            assert module.bias.abs().max() == 0
    assert n_checked >= 8


def test_scaled_score_uses_the_reference_batch_alone():
    detector = fitted()
    reference, new = X[:30], X[30:]
    scores, known = detector.anomaly_score(new), detector.anomaly_score(reference)
    expected = (scores - known.min()) / (known.max() - known.min())
    scaled = detector.scaled_score(new, reference)
    np.testing.assert_array_equal(scaled, expected)
    np.testing.assert_array_equal(detector.scaled_score(new[:1], reference), scaled[:1])
    with pytest.raises(ValueError, match="no range"):
        detector.scaled_score(new, reference[:1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"adversarial_weight": -1.0}, "adversarial_weight"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight"),
        ({"latent_weight": "1"}, "latent_weight"),
        ({"adversarial_loss": "hinge"}, "adversarial_loss"),
        ({"score_norm": 1}, "score_norm"),
        ({"collapse_loss": -1.0}, "collapse_loss"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fitted(**parameters)


def test_quality_on_rows():
    rows, y = load_breast_cancer(return_X_y=True)
    benign, malignant = rows[y == 1], rows[y == 0]
    detector = GANomalyDetector(epochs=40, n_estimators=4, random_state=0).fit(benign[:180])
    test = np.r_[benign[180:], malignant]
    is_anomaly = np.r_[np.zeros(len(benign) - 180), np.ones(len(malignant))]
    assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) > 0.92
    for part in ("latent", "reconstruction"):
        detector.set_params(score=part)
        assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) > 0.85, part


def test_quality_on_images():
    digits = load_digits()
    normal, anomalous = digits.images[digits.target != 0], digits.images[digits.target == 0]
    detector = GANomalyDetector(
        epochs=8, n_estimators=1, random_state=0, architecture=ConvNet(n_filters=8)
    ).fit(normal[:800])
    test = np.r_[normal[800:1200], anomalous]
    is_anomaly = np.r_[np.zeros(400), np.ones(len(anomalous))]
    assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) > 0.85


@pytest.mark.parametrize(
    "architecture",
    [
        MLP(hidden_dims=(8,), normalization="batch"),
        MLP(hidden_dims=(8, 4), normalization="layer", dropout=0.3, spectral_norm=True),
    ],
)
def test_options_of_the_networks_train(architecture):
    assert np.isfinite(fitted(architecture=architecture).anomaly_score(X)).all()
