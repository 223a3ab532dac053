"""What is special to ALOCC: its noise, its losses, their order, its stop, its second phase."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score
from torch import nn

from gandetect import MLP, ConvNet
from gandetect.detectors.alocc import ALOCCDetector
from gandetect.losses import gradient_penalty

X = np.random.default_rng(0).normal(size=(60, 6))
IMAGES = np.random.default_rng(0).random((20, 9, 7))


def make(**parameters):
    return ALOCCDetector(**{"epochs": 2, "n_estimators": 2, "random_state": 0, **parameters})


def weights(module):
    return torch.cat([value.detach().flatten().clone() for value in module.state_dict().values()])


def seen_by(module):
    """The list that each later input of a module is appended to."""
    inputs = []
    module.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    return inputs


class Constant(nn.Module):
    """Gives every sample the same refined version, the weight, whatever it is."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return self.weight.expand(x.shape)


class ConstantLogit(Constant):
    def forward(self, x):
        return self.weight.expand(x.shape[:2]) + 0 * x.sum(-1), x


def given_networks(in_training, detector, **networks):
    """A model of one member and its run, with these in the place of its networks."""
    model, run, _ = in_training(detector.set_params(n_estimators=1), X)
    for name, network in networks.items():
        setattr(model, name, network)
    run.optimizers = model.optimizers()
    return model, run


def losses_of(in_training, x, *, x_hat, logit, **parameters):
    """The losses of one step, of networks whose answers are known."""
    model, run = given_networks(
        in_training,
        make(tuning_fraction=0.0, **parameters),
        refiner=Constant(x_hat),
        discriminator=ConstantLogit(logit),
    )
    return {name: loss.detach() for name, loss in model.training_step(x, run).items()}


class TestNoise:
    def test_each_refiner_step_has_its_own(self, in_training):
        model, run, x = in_training(make(noise_std=0.5, n_refiner_steps=3), X)
        inputs = seen_by(model.refiner)
        model.training_step(x, run)
        noises = torch.stack([noisy - x for noisy in inputs])
        assert len(noises) == 3
        assert noises.std(dim=(1, 2, 3)).tolist() == pytest.approx([0.5] * 3, rel=0.2)
        assert noises.flatten(1).corrcoef().triu(1).abs().max() < 0.2

    def test_none_in_scoring_and_validation(self):
        detector = make(noise_std=0.5, validation_fraction=0.5).fit(X)
        inputs = seen_by(detector.networks_["refiner"])
        detector.anomaly_score(X)
        torch.testing.assert_close(inputs[0][0, :60], detector.scaler_(X))
        x = detector.scaler_(X).expand(2, 60, 6)
        repeated = [detector.model_.validation_losses(x)["reconstruction"] for _ in "12"]
        assert torch.equal(*repeated)

    def test_it_can_be_turned_off(self, in_training):
        model, run, x = in_training(make(noise_std=0.0), X)
        inputs = seen_by(model.refiner)
        model.training_step(x, run)
        torch.testing.assert_close(inputs[0], x)


class TestLosses:
    X = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])

    def test_the_target_is_the_clean_sample(self, in_training):
        # Noise of 100 would show in a target that had it.
        losses = losses_of(in_training, self.X, x_hat=1.0, logit=0.0, noise_std=100.0)
        torch.testing.assert_close(losses["reconstruction"], torch.tensor([[5 / 3, 1.0]]))

    @pytest.mark.parametrize(
        ("kind", "adversarial", "discriminator"),
        [
            ("gan", math.log1p(math.exp(-2)), math.log1p(math.exp(-2)) + math.log1p(math.exp(2))),
            ("lsgan", 1.0, 1.0 + 4.0),
            # The values of real and refined cancel; the slope of 0 is penalised with 7 * (0 - 1)².
            ("wasserstein", -2.0, 7.0),
        ],
    )
    def test_of_a_discriminator_that_says_two(self, in_training, kind, adversarial, discriminator):
        parameters = {"adversarial_loss": kind, "gradient_penalty_weight": 7.0}
        losses = losses_of(in_training, self.X, x_hat=1.0, logit=2.0, **parameters)
        torch.testing.assert_close(losses["adversarial"], torch.full((1, 2), adversarial))
        torch.testing.assert_close(losses["discriminator"], torch.full((1, 2), discriminator))

    @pytest.mark.parametrize("reconstruction_weight", [0.0, 0.5])
    def test_the_weight_multiplies_the_squared_norm(self, in_training, reconstruction_weight):
        model, run = given_networks(
            in_training,
            make(reconstruction_weight=reconstruction_weight, tuning_fraction=0.0),
            refiner=Constant(1.0),
            discriminator=ConstantLogit(0.0),
        )
        run.optimizers["refiner"] = torch.optim.SGD(model.refiner.parameters(), lr=1.0)
        model.training_step(self.X, run)
        # The slope of the mean over samples of the sum over columns of (x - weight)²:
        # 2 * ((0 - 1 - 2) + (1 + 1 + 1)) / 2 = 0 here, so that the weight stays at its best, 1;
        assert model.refiner.weight.item() == pytest.approx(1.0)
        model.training_step(self.X + 1, run)
        # one lower than every best, it is moved by 0.5 * 2 * 3 columns.
        assert model.refiner.weight.item() == pytest.approx(1.0 + 6 * reconstruction_weight)


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class TestGradientPenalty:
    def test_of_a_linear_critic(self):
        # Slopes (3, 4) and (0, 1) of the two members: (5 - 1)² and (1 - 1)², wherever it is taken.
        slopes = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])
        x_real, x_fake = drawn(2, 2, 5, 2).unbind(0)
        share = torch.linspace(0, 1, 10).reshape(2, 5)
        penalty = gradient_penalty(lambda x: (x * slopes).sum(-1), x_real, x_fake, share)
        torch.testing.assert_close(penalty, torch.tensor([[16.0] * 5, [0.0] * 5]))

    def test_of_images(self):
        x = drawn(2, 3, 1, 4, 4)
        penalty = gradient_penalty(lambda x: 2 * x.flatten(2).sum(-1), x, x, torch.ones(2, 3))
        torch.testing.assert_close(penalty, torch.full((2, 3), (2 * 4 - 1) ** 2.0))

    def test_is_taken_between_the_two(self):
        x_real, x_fake = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
        share = torch.tensor([[0.0, 0.25, 1.0]])
        points = []

        def critic(x):
            points.append(x.detach())
            return x.sum(-1)

        gradient_penalty(critic, x_real, x_fake, share)
        torch.testing.assert_close(points, [share[..., None].expand(1, 3, 2)])

    def test_is_stepped_on_by_the_critic_alone(self):
        weight = torch.tensor([3.0, 4.0], requires_grad=True)
        x_fake = torch.zeros(1, 1, 2, requires_grad=True)
        penalty = gradient_penalty(
            lambda x: (x * weight).sum(-1), torch.ones(1, 1, 2), x_fake, torch.full((1, 1), 0.5)
        )
        penalty.sum().backward()
        torch.testing.assert_close(weight.grad, 2 * 4 * torch.tensor([0.6, 0.8]))
        assert x_fake.grad is None

    def test_a_flat_critic_has_a_finite_gradient(self):
        weight = torch.zeros(2, requires_grad=True)
        x = torch.ones(1, 1, 2)
        share = torch.full((1, 1), 0.5)
        gradient_penalty(lambda x: (x * weight).sum(-1), x, x, share).sum().backward()
        assert torch.isfinite(weight.grad).all()

    def test_it_holds_the_slope_near_one(self):
        parameters = {"adversarial_loss": "wasserstein", "gradient_penalty_weight": 100.0}
        detector = make(**parameters, epochs=60, learning_rate=3e-3).fit(X)
        x = detector.scaler_(X).expand(2, 60, 6).clone().requires_grad_()
        values, _ = detector.networks_["discriminator"](x)
        (slope,) = torch.autograd.grad(values.sum(), x)
        assert slope.norm(dim=-1).mean().item() == pytest.approx(1.0, abs=0.1)


class TestUpdates:
    @pytest.mark.parametrize("n_refiner_steps", [1, 2])
    def test_the_refiner_steps_first_and_as_often_as_asked(self, in_training, n_refiner_steps):
        model, run, x = in_training(make(n_refiner_steps=n_refiner_steps), X)
        steps = []
        for name, optimizer in run.optimizers.items():
            optimizer.register_step_post_hook(lambda *_, name=name: steps.append(name))
        model.training_step(x, run)
        assert steps == ["refiner"] * n_refiner_steps + ["discriminator"]

    @pytest.mark.parametrize(
        ("optimizer", "cls"), [("adam", torch.optim.Adam), ("rmsprop", torch.optim.RMSprop)]
    )
    def test_optimizers(self, in_training, optimizer, cls):
        detector = make(optimizer=optimizer, weight_decay=0.25, learning_rate=0.5)
        _, run, _ = in_training(detector, X)
        for built in run.optimizers.values():
            assert isinstance(built, cls)
            assert built.param_groups[0]["weight_decay"] == 0.25
            assert built.param_groups[0]["lr"] == 0.5


class TestSecondPhase:
    def step(self, in_training, progress):
        """Names of networks that one step at this progress changes."""
        model, run, x = in_training(make(tuning_fraction=0.25), X)
        with torch.no_grad():
            for parameter in model.early_refiner.parameters():
                parameter.add_(1.0)
        before = {name: weights(net) for name, net in model.networks.items()}
        run.progress = progress
        losses = model.training_step(x, run)
        assert list(losses) == ["adversarial", "reconstruction", "discriminator"]
        after = {name: weights(net) for name, net in model.networks.items()}
        changed = {name for name in before if not torch.equal(after[name], before[name])}
        return changed, model.early_refiner, before["refiner"]

    def test_the_early_copy_follows_the_refiner_at_first(self, in_training):
        changed, early_refiner, refiner_before = self.step(in_training, 0.05)
        assert changed == {"refiner", "discriminator", "early_refiner"}
        assert torch.equal(weights(early_refiner), refiner_before)

    def test_then_it_stands_still(self, in_training):
        changed, *_ = self.step(in_training, 0.5)
        assert changed == {"refiner", "discriminator"}

    def test_at_last_the_discriminator_alone_learns(self, in_training):
        changed, *_ = self.step(in_training, 0.75)
        assert changed == {"discriminator"}

    def test_it_learns_good_from_bad(self, in_training):
        x = torch.tensor([[[1.0], [2.0], [4.0]]])
        model, run = given_networks(
            in_training,
            make(tuning_fraction=0.25),
            refiner=Plus(10.0),
            discriminator=Identity(0.0),
            early_refiner=Plus(100.0),
        )
        inputs = seen_by(model.discriminator)
        run.progress = 0.75
        losses = model.training_step(x, run)
        # The samples; what R makes of them; what the early R made of them; and what R makes of
        # the means of two of these: ((1 + 4) / 2, (2 + 1) / 2, (4 + 2) / 2) + 100 + 10.
        expected = [[1, 2, 4], [11, 12, 14], [101, 102, 104], [112.5, 111.5, 113]]
        torch.testing.assert_close(torch.cat(inputs[:4]).reshape(4, 3), torch.tensor(expected))
        good, bad = torch.tensor(expected).flatten().split(6)
        by_hand = torch.log1p(torch.exp(-good)) + bad  # log(1 + exp(bad)), which is bad itself
        torch.testing.assert_close(losses["discriminator"].detach(), by_hand[None])

    def test_by_default_images_have_it_and_rows_have_not(self):
        images = make(architecture=ConvNet(n_filters=4)).fit(IMAGES)
        assert set(images.networks_) == {"refiner", "discriminator", "early_refiner"}
        assert set(make().fit(X).networks_) == {"refiner", "discriminator"}

    def test_it_is_saved(self, tmp_path):
        detector = make(tuning_fraction=0.5, epochs=4).fit(X)
        detector.save(tmp_path / "detector.safetensors")
        loaded = ALOCCDetector.load(tmp_path / "detector.safetensors")
        assert torch.equal(
            weights(loaded.networks_["early_refiner"]), weights(detector.networks_["early_refiner"])
        )
        np.testing.assert_array_equal(loaded.anomaly_score(X), detector.anomaly_score(X))


class Plus(Constant):
    def forward(self, x):
        return x + self.weight


class Identity(Constant):
    def forward(self, x):
        return x.squeeze(-1) + 0 * self.weight, x


class TestStop:
    def test_below_the_bound(self):
        detector = make(rec_bound=1e6, epochs=5).fit(X)
        assert detector.n_iter_ == 1
        assert "rec_bound" in detector.stop_reason_

    def test_above_the_bound(self):
        detector = make(rec_bound=1e-9, epochs=5).fit(X)
        assert detector.n_iter_ == 5
        assert "rec_bound" not in detector.stop_reason_

    def test_when_the_error_has_fallen_far_enough(self):
        parameters = {"epochs": 60, "learning_rate": 3e-3, "latent_dim": 6}
        detector = make(rec_bound=0.5, **parameters).fit(X)
        errors = [record["clean_reconstruction"] for record in detector.history_]
        assert 1 < detector.n_iter_ < 60
        assert errors[-1] < 0.5 <= min(errors[:-1])

    @pytest.mark.parametrize(
        ("training", "validation", "stops"),
        [(0.09, 0.09, True), (0.09, 0.1, False), (0.1, 0.09, False), (0.09, None, True)],
    )
    def test_both_errors_count(self, in_training, training, validation, stops):
        record = {"epoch": 3, "clean_reconstruction": training}
        if validation is not None:
            record["validation_reconstruction"] = validation
        model, run, _ = in_training(make(rec_bound=0.1), X)
        run.history.append(record)
        assert (model.should_stop(run) is not None) == stops

    def test_the_error_is_of_clean_samples_by_networks_that_are_not_training(self, in_training):
        architecture = MLP(normalization="batch")
        detector = make(rec_bound=0.1, noise_std=100.0, architecture=architecture)
        model, _, x = in_training(detector, X)
        error = model.clean_error(x)["clean_reconstruction"]
        assert model.refiner.training
        with torch.no_grad():
            x_hat = model.eval().refiner(x)
        torch.testing.assert_close(error, (x - x_hat).square().mean(-1))

    def test_without_a_bound_it_is_not_computed(self):
        assert "clean_reconstruction" not in make().fit(X).history_[0]


class TestSkips:
    @pytest.mark.parametrize("skip", ["add", "concat"])
    def test_rows_and_images(self, skip):
        rows = make(skip=skip).fit(X)
        images = make(skip=skip, architecture=ConvNet(n_filters=4)).fit(IMAGES)
        assert rows.reconstruct(X).shape == X.shape
        assert images.reconstruct(IMAGES).shape == IMAGES.shape

    def test_they_reconstruct_what_the_code_cannot_hold(self):
        errors = []
        for skip in (None, "add", "concat"):
            parameters = {"epochs": 100, "learning_rate": 3e-3, "latent_dim": 1}
            detector = make(skip=skip, score="reconstruction", **parameters).fit(X)
            errors.append(np.square(X - detector.reconstruct(X)).mean())
        assert errors[0] > 3 * max(errors[1:])


class TestRealData:
    def test_parts_that_the_default_score_of_rows_has(self):
        rows, target = load_breast_cancer(return_X_y=True)
        is_normal = target == 1
        train, test = rows[is_normal][:200], rows[is_normal][200:]
        detector = make(epochs=40).fit(train)
        for part in ("reconstruction", "neighbours"):
            detector.set_params(score=part)
            assert auroc(detector, test, rows[~is_normal]) > 0.85, part

    def test_every_part_of_images_after_the_second_phase(self):
        digits, labels = load_digits(return_X_y=True)
        zeros, others = (digits[kept].reshape(-1, 8, 8) for kept in (labels == 0, labels != 0))
        with_it, without = (
            make(epochs=40, tuning_fraction=share).fit(zeros[:120]) for share in (0.3, 0.0)
        )
        for part in ("paper", "refined", "raw", "reconstruction", "neighbours"):
            with_it.set_params(score=part)
            assert auroc(with_it, zeros[120:], others) > 0.9, part
        # Before it D rather takes the others for real: the reason why there is a second phase.
        without.set_params(score="paper")
        assert auroc(without, zeros[120:], others) < 0.7

    def test_the_discriminator_ranks_images_with_batch_norm_after_the_second_phase(self):
        # Larger images have layers with batch norm. Trained with the statistics of each kind of
        # sample, D separates the kinds by these statistics, and ranks single samples worse.
        digits, labels = load_digits(return_X_y=True)
        images = np.kron(digits.reshape(-1, 8, 8) / 16, np.ones((3, 3)))
        zeros, others = images[labels == 0], images[labels != 0][:300]
        detector = make(epochs=60, batch_size=32, score="paper").fit(zeros[:120])
        assert auroc(detector, zeros[120:], others) > 0.87

    def test_the_discriminator_calls_the_real_more_real_than_the_refined(self):
        rows, target = load_breast_cancer(return_X_y=True)
        detector = make(epochs=40, validation_fraction=0.2).fit(rows[target == 1])
        record = detector.history_[-1]
        assert record["validation_raw"] < record["validation_refined"]


def auroc(detector, normal, anomalous):
    scores = detector.anomaly_score(np.concatenate([normal, anomalous]))
    return roc_auc_score(np.arange(len(scores)) >= len(normal), scores)


def test_paper_score_is_minus_the_logit_of_what_was_refined():
    detector = make(score="paper").fit(X)
    nets, x = detector.networks_, detector.scaler_(X).expand(2, 60, 6)
    with torch.no_grad():
        by_hand = -nets.discriminator(nets.refiner(x))[0].double().mean(0)
    np.testing.assert_allclose(detector.anomaly_score(X), by_hand, rtol=1e-5)


def test_codes_are_the_refiner_s():
    detector = make(latent_dim=3).fit(X)
    with torch.no_grad():
        codes = detector.networks_["refiner"].encoder(detector.scaler_(X).expand(2, 60, 6))
    by_hand = torch.cat(codes.unbind(0), dim=1)
    np.testing.assert_allclose(detector.transform(X), by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, -0.1) for name in ("noise_std", "reconstruction_weight", "weight_decay")],
        *[(name, math.inf) for name in ("noise_std", "reconstruction_weight")],
        ("gradient_penalty_weight", -1.0),
        ("rec_bound", -0.1),
        ("n_refiner_steps", 0),
        ("optimizer", "sgd"),
        ("skip", "residual"),
        ("adversarial_loss", "wgan"),
        ("tuning_fraction", -0.1),
        ("tuning_fraction", 0.7),
    ],
)
def test_values_that_cannot_be_used(name, value):
    with pytest.raises(ValueError, match=name):
        make(**{name: value}).fit(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise_std", "0.1"),
        ("n_refiner_steps", 1.5),
        ("rec_bound", "low"),
        ("tuning_fraction", "late"),
    ],
)
def test_types_that_cannot_be_used(name, value):
    with pytest.raises(TypeError, match=name):
        make(**{name: value}).fit(X)
