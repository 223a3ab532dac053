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
    return make(epochs=2, **parameters).fit(X)


def make(**parameters):
    return GANomalyDetector(**{"n_estimators": 2, "random_state": 0, **parameters})


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_paper_score_is_the_norm_of_the_difference_of_the_codes():
    for norm, degree in (("l1", 1), ("l2", 2)):
        detector = fitted(score="paper", score_norm=norm)
        model, x = detector.model_, detector.scaler_(X).expand(2, 60, 6)
        with torch.no_grad():
            z = model.encoder(x)
            z_hat = model.re_encoder(model.decoder(z))
        by_hand = np.linalg.norm((z - z_hat).double().numpy(), ord=degree, axis=-1).mean(0)
        np.testing.assert_allclose(detector.anomaly_score(X), by_hand, rtol=1e-5)


def test_losses_are_the_published_ones(in_training):
    model, run, x = in_training(make(collapse_loss=None), X)
    with torch.no_grad():
        z = model.encoder(x)
        x_hat = model.decoder(z)
        z_hat = model.re_encoder(x_hat)
        real, fake = model.discriminator(x), model.discriminator(x_hat)
        truth, deceit = torch.sigmoid(real[0]), torch.sigmoid(fake[0])
        expected = {
            "adversarial": (real[1] - fake[1]).square().mean(),
            "reconstruction": (x - x_hat).abs().mean(),
            "latent": (z - z_hat).square().mean(),
            "discriminator": -(torch.log(truth) + torch.log(1 - deceit)).mean() / 2,
        }
    losses = model.training_step(x, run)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].detach().mean(), value)


def test_bce_asks_the_discriminator_to_take_reconstructions_for_real(in_training):
    model, run, x = in_training(make(adversarial_loss="bce", collapse_loss=None), X)
    with torch.no_grad():
        logits, _ = model.discriminator(model.reconstruct(x))
    losses = model.training_step(x, run)
    torch.testing.assert_close(losses["adversarial"].detach(), -torch.log(torch.sigmoid(logits)))


@pytest.mark.parametrize("alone", ["adversarial", "reconstruction", "latent"])
def test_each_loss_moves_the_networks_that_it_should(in_training, alone):
    names = ("adversarial", "reconstruction", "latent")
    detector = make(**{f"{name}_weight": float(name == alone) for name in names})
    model, run, x = in_training(detector, X)
    before = {name: weights(net) for name, net in model.networks.items()}
    model.training_step(x, run)
    after = {name: weights(net) for name, net in model.networks.items()}
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    expected = {"encoder", "decoder", "discriminator"}
    assert moved == (expected | {"re_encoder"} if alone == "latent" else expected)


def test_a_collapsed_discriminator_is_drawn_anew_with_its_optimizer_state(in_training):
    model, run, x = in_training(make(collapse_loss=None), X)
    for _ in range(3):
        model.training_step(x, run)
    model.settings.collapse_loss = 1e9
    before = weights(model.discriminator)
    model.training_step(x, run)
    rate = model.settings.learning_rate
    # One Adam step moves a weight by about the learning rate; new weights differ by far more.
    assert (weights(model.discriminator) - before).abs().max() > 50 * rate
    for state in run.optimizers["discriminator"].state.values():
        assert all(not value.any() for value in state.values())
    assert any(s["exp_avg"].any() for s in run.optimizers["generator"].state.values())

    # Its next step is the first of a new Adam: no weight moves further than the learning rate.
    model.settings.collapse_loss = None
    before = weights(model.discriminator)
    model.training_step(x, run)
    assert (weights(model.discriminator) - before).abs().max() == pytest.approx(rate, rel=1e-3)


def test_only_the_collapsed_member_is_drawn_anew(in_training):
    model, run, x = in_training(make(), X)
    head = model.discriminator.head
    with torch.no_grad():  # the first member's loss is softplus(-40) / 2 + softplus(40) / 2 = 20
        head.weight[0] = 0.0
        head.bias[0] = 40.0
    before = head.weight.detach().clone()
    model.settings.collapse_loss = 10.0  # above the second member's loss alone
    model.training_step(x, run)
    change = (head.weight.detach() - before).abs().amax(dim=(1, 2))
    # A step of Adam for the first member, other weights altogether for the second.
    assert change[0] <= 2 * model.settings.learning_rate
    assert change[1] > 20 * model.settings.learning_rate


def test_dcgan_initialisation_reaches_every_layer(in_training):
    images = np.random.default_rng(0).random((8, 16, 16))
    model, _, _ = in_training(make(architecture=ConvNet(n_filters=32, n_extra_layers=1)), images)
    n_checked = 0
    for module in model.modules():
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
    alone = detector.scaled_score(new[:1], reference)
    np.testing.assert_allclose(alone, scaled[:1], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="at least two different scores"):
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
    assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) > 0.95
    for part in ("latent", "reconstruction"):
        detector.set_params(score=part)
        assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) > 0.85, part


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_that_the_networks_reconstruct_stand_out_by_their_distances(seed):
    rng = np.random.default_rng(0)
    direction = rng.normal(size=6)

    def along(places):
        return places[:, None] * direction + 0.1 * rng.normal(size=(len(places), 6))

    normal = along(rng.choice([-3.0, 3.0], 300) + 0.3 * rng.normal(size=300))
    between = along(0.3 * rng.normal(size=50))
    detector = GANomalyDetector(epochs=40, n_estimators=4, random_state=seed).fit(normal[:200])
    test, is_anomaly = np.r_[normal[200:], between], np.r_[np.zeros(100), np.ones(50)]
    assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) > 0.99
    detector.set_params(score="reconstruction")
    assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) < 0.7


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
