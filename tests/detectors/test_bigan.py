"""What is special to BiGAN: its objectives, ALAD's critics, its score and its samples."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from gandetect.detectors.bigan import BiGANDetector
from gandetect.networks import MLP, ConvNet
from gandetect.networks.members import Dropout

X = np.random.default_rng(0).normal(size=(60, 6))
IMAGES = np.random.default_rng(0).random((32, 16, 16))
LATENT_DIM = 3


def make(**parameters):
    settings = {"epochs": 2, "n_estimators": 2, "latent_dim": LATENT_DIM, "random_state": 0}
    return BiGANDetector(**{**settings, **parameters})


def fitted(**parameters):
    return make(**parameters).fit(X)


def step(model, run, x, progress=0.0):
    """A step whose random numbers `prior_codes` knows, if the encoder draws none."""
    run.progress = progress
    run.random.generator.manual_seed(1)
    return model.training_step(x, run)


def prior_codes():
    return torch.randn(2, 32, LATENT_DIM, generator=torch.Generator().manual_seed(1))


def cross_entropy(logits, target):
    """A discriminator's loss, worked from probabilities."""
    probability = torch.sigmoid(logits.double())
    return -(target * probability.log() + (1 - target) * (1 - probability).log())


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def standing(optimizer):
    """An optimizer of the same weights that does not move them."""
    return torch.optim.SGD(optimizer.param_groups[0]["params"], lr=0.0)


def inputs_in_a_step(name, model, run, x, progress=0.0):
    """The pairs that a discriminator is given in one step, first the real and then the fake."""
    given = []
    model.networks[name].register_forward_pre_hook(
        lambda _, inputs: given.append([values.detach() for values in inputs])
    )
    step(model, run, x, progress)
    real, fake = given
    return real, fake


class TestObjectives:
    def test_losses_are_the_published_ones(self, in_training):
        model, run, x = in_training(make(stochastic_encoder=False), X)
        with torch.no_grad():
            z, z_prior = model.encoder(x), prior_codes()
            real, _ = model.discriminator(x, z)
            fake, _ = model.discriminator(model.generator(z_prior), z_prior)
            expected = {
                "encoder": cross_entropy(real, 0.0),
                "generator": cross_entropy(fake, 1.0),
                "reconstruction": (x - model.generator(z)).abs().mean(-1).double(),
                "discriminator": cross_entropy(real, 1.0) + cross_entropy(fake, 0.0),
            }
        losses = step(model, run, x)
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(losses[name].detach().double(), value)

    def test_a_step_of_the_encoder_alone_makes_its_pair_look_generated(self, in_training):
        """It lowers CE(D(x, E(x)), 0), EGBAD's L_E, and moves no other weights."""
        model, run, x = in_training(make(reconstruction_weight=0.0, stochastic_encoder=False), X)
        run.optimizers["encoder_generator"] = torch.optim.SGD(model.encoder.parameters(), lr=0.1)
        run.optimizers["discriminator"] = standing(run.optimizers["discriminator"])
        before = {name: weights(net) for name, net in model.networks.items()}

        def loss():
            with torch.no_grad():
                return cross_entropy(model.discriminator(x, model.encoder(x))[0], 0.0).mean(1)

        loss_before = loss()
        step(model, run, x)
        assert (loss() < loss_before).all()
        moved = {
            name
            for name, net in model.networks.items()
            if not torch.equal(weights(net), before[name])
        }
        assert moved == {"encoder"}

    def test_a_step_of_the_generator_alone_makes_its_pair_look_real(self, in_training):
        model, run, x = in_training(make(reconstruction_weight=0.0, stochastic_encoder=False), X)
        run.optimizers["encoder_generator"] = torch.optim.SGD(model.generator.parameters(), lr=0.1)
        run.optimizers["discriminator"] = standing(run.optimizers["discriminator"])
        before = {name: weights(net) for name, net in model.networks.items()}
        z = prior_codes()

        def loss():
            with torch.no_grad():
                return cross_entropy(model.discriminator(model.generator(z), z)[0], 1.0).mean(1)

        loss_before = loss()
        step(model, run, x)
        assert (loss() < loss_before).all()
        moved = {
            name
            for name, net in model.networks.items()
            if not torch.equal(weights(net), before[name])
        }
        assert moved == {"generator"}

    @pytest.mark.parametrize("variant", ["bigan", "alad"])
    @pytest.mark.parametrize("data", [X, IMAGES], ids=["rows", "images"])
    def test_one_step_on_the_sum_is_a_step_of_each_network_on_its_own_loss(
        self, in_training, data, variant
    ):
        """The papers have an optimizer and a loss for each of encoder and generator.

        Images have batch normalisation, by which one loss could reach the other's network.
        """
        detector = make(variant=variant, stochastic_encoder=False, reconstruction_weight=7.0)
        if data is IMAGES:
            detector.set_params(architecture=ConvNet(n_filters=4))
        model, run, x = in_training(detector, data)
        z, z_prior = model.encoder(x), prior_codes()
        x_hat, x_fake = model.generator(z), model.generator(z_prior)
        both = 7.0 * (x - x_hat).abs().flatten(2).mean(-1)
        if variant == "alad":
            both = both + cross_entropy(model.discriminator_xx(x, x_hat)[0], 1.0)
            z_hat = model.encoder(x_fake)
            both = both + cross_entropy(model.discriminator_zz(z_prior, z_hat)[0], 1.0)
        own = {
            "encoder": cross_entropy(model.discriminator(x, z)[0], 0.0),
            "generator": cross_entropy(model.discriminator(x_fake, z_prior)[0], 1.0),
        }
        expected = {}
        for name, loss in own.items():
            total = (loss + both).mean(1).sum()
            gradients = torch.autograd.grad(
                total, list(model.networks[name].parameters()), retain_graph=True
            )
            expected[name] = torch.cat([g.flatten() for g in gradients])

        parameters = run.optimizers["encoder_generator"].param_groups[0]["params"]
        run.optimizers["encoder_generator"] = torch.optim.SGD(parameters, lr=1.0)
        before = {name: weights(model.networks[name]) for name in own}
        step(model, run, x)
        for name in own:
            moved = before[name] - weights(model.networks[name])
            torch.testing.assert_close(moved, expected[name].float(), rtol=1e-3, atol=1e-5)

    def test_alads_critics_add_their_losses_to_the_discriminators(self, in_training):
        model, run, x = in_training(make(variant="alad", stochastic_encoder=False), X)
        with torch.no_grad():
            z, z_prior = model.encoder(x), prior_codes()
            x_hat, x_fake = model.generator(z), model.generator(z_prior)
            pairs = {
                "discriminator": ((x, z), (x_fake, z_prior)),
                "discriminator_xx": ((x, x), (x, x_hat)),
                "discriminator_zz": ((z_prior, z_prior), (z_prior, model.encoder(x_fake))),
            }
            expected = sum(
                cross_entropy(model.networks[name](*real)[0], 1.0)
                + cross_entropy(model.networks[name](*fake)[0], 0.0)
                for name, (real, fake) in pairs.items()
            )
        losses = step(model, run, x)
        torch.testing.assert_close(losses["discriminator"].detach().double(), expected)


class TestALADsCritics:
    def test_the_one_of_samples_sees_the_true_reconstruction(self, in_training):
        model, run, x = in_training(make(variant="alad", stochastic_encoder=False), X)
        with torch.no_grad():
            x_hat = model.reconstruct(x)
        real, fake = inputs_in_a_step("discriminator_xx", model, run, x)
        torch.testing.assert_close(real, [x, x])
        torch.testing.assert_close(fake, [x, x_hat])

    def test_the_one_of_codes_sees_the_code_of_what_was_generated(self, in_training):
        model, run, x = in_training(make(variant="alad", stochastic_encoder=False), X)
        z = prior_codes()
        with torch.no_grad():
            z_hat = model.encoder(model.generator(z))
        real, fake = inputs_in_a_step("discriminator_zz", model, run, x)
        torch.testing.assert_close(real, [z, z])
        torch.testing.assert_close(fake, [z, z_hat])

    def test_they_take_the_options_of_the_architecture(self):
        architecture = MLP(hidden_dims=(8,), dropout=0.3, spectral_norm=True)
        nets = fitted(variant="alad", architecture=architecture).networks_
        for name in ("discriminator", "discriminator_xx", "discriminator_zz"):
            modules = list(nets[name].modules())
            assert any(isinstance(m, Dropout) and m.share == 0.3 for m in modules), name
            assert any("parametrizations" in key for key in nets[name].state_dict()), name

    def test_on_images(self):
        images = np.random.default_rng(0).random((20, 9, 7, 3))
        detector = BiGANDetector(
            variant="alad",
            epochs=1,
            latent_dim=4,
            architecture=ConvNet(n_filters=4, discriminator_filters=8),
        )
        assert np.isfinite(detector.fit(images).anomaly_score(images)).all()


class TestStochasticEncoder:
    def test_codes_are_drawn_around_the_mean_in_training(self, in_training):
        model, run, _ = in_training(make(stochastic_encoder=True), X)
        head = list(model.encoder.children())[-1]
        with torch.no_grad():
            head.weight.zero_()
            head.bias[..., :LATENT_DIM] = 5.0
            head.bias[..., LATENT_DIM:] = np.log(4.0)  # a standard deviation of 2
        codes = model.drawn_code(torch.zeros(2, 4000, 6), run).detach()
        assert codes.shape == (2, 4000, LATENT_DIM)
        torch.testing.assert_close(codes.mean((0, 1)), torch.full((3,), 5.0), atol=0.1, rtol=0)
        torch.testing.assert_close(codes.std((0, 1)), torch.full((3,), 2.0), atol=0.1, rtol=0)

    def test_scores_and_codes_are_those_of_the_mean(self):
        detector = fitted(stochastic_encoder=True)
        with torch.no_grad():
            means = detector.networks_.encoder(detector.scaler_(X).expand(2, 60, 6))
        assert means.shape[-1] == 2 * LATENT_DIM
        codes = detector.transform(X)
        assert codes.shape == (60, 2 * LATENT_DIM)
        by_hand = means[..., :LATENT_DIM].transpose(0, 1).flatten(1).numpy()
        np.testing.assert_allclose(codes, by_hand, rtol=1e-4, atol=1e-6)
        scores = detector.anomaly_score(X)
        np.testing.assert_array_equal(detector.anomaly_score(X), scores)

    @pytest.mark.parametrize(
        ("choice", "of_rows", "of_images"), [("auto", 8, 4), (True, 8, 8), (False, 4, 4)]
    )
    def test_auto_is_stochastic_for_rows_alone(self, choice, of_rows, of_images):
        for data, width in ((X, of_rows), (X.reshape(60, 2, 3), of_images)):
            detector = BiGANDetector(
                stochastic_encoder=choice, epochs=1, n_estimators=1, latent_dim=4
            ).fit(data)
            with torch.no_grad():
                x = detector.scaler_(data.reshape(60, *detector.sample_shape_))
                assert detector.networks_.encoder(x[None]).shape == (1, 60, width)
            assert detector.transform(data).shape == (60, 4)


class TestOnlyInTraining:
    def test_label_smoothing_lowers_the_label_of_the_real_pairs_alone(self, in_training):
        model, run, x = in_training(make(label_smoothing=0.1, stochastic_encoder=False), X)
        with torch.no_grad():
            z_prior = prior_codes()
            real, _ = model.discriminator(x, model.encoder(x))
            fake, _ = model.discriminator(model.generator(z_prior), z_prior)
        losses = step(model, run, x)
        expected = {
            "encoder": cross_entropy(real, 0.0),
            "generator": cross_entropy(fake, 1.0),
            "discriminator": cross_entropy(real, 0.9) + cross_entropy(fake, 0.0),
        }
        for name, value in expected.items():
            torch.testing.assert_close(losses[name].detach().double(), value)

    @pytest.mark.parametrize(("progress", "std"), [(0.0, 0.5), (0.75, 0.125), (1.0, 0.0)])
    def test_instance_noise_fades(self, in_training, progress, std):
        model, run, x = in_training(make(instance_noise=0.5, stochastic_encoder=False), X)
        with torch.no_grad():
            x_fake, z = model.generator(prior_codes()), model.encoder(x)
        real, fake = inputs_in_a_step("discriminator", model, run, x, progress)
        torch.testing.assert_close(real[1], z)  # of the encoder, which sees no noise
        for noise in (real[0] - x, fake[0] - x_fake):
            assert noise.std().item() == pytest.approx(std, rel=0.15, abs=1e-6)

    def test_neither_is_in_the_score(self):
        detector = fitted()
        scores = detector.anomaly_score(X)
        detector.set_params(label_smoothing=0.3, instance_noise=9.0)
        np.testing.assert_array_equal(detector.anomaly_score(X), scores)


def parts_by_hand(detector, degree):
    """Both parts of the published score, from the networks: (n_members, n_samples) each."""
    nets, x = detector.networks_, detector.scaler_(X).expand(2, 60, 6)
    with torch.no_grad():
        z = nets.encoder(x)[..., :LATENT_DIM]
        x_hat = nets.generator(z)
        logits, features = nets.discriminator(x, z)
        features_hat = nets.discriminator(x_hat, z)[1]
        if detector.variant == "alad":
            features = nets.discriminator_xx(x, x)[1]
            features_hat = nets.discriminator_xx(x, x_hat)[1]

    def norm(difference):
        return np.linalg.norm(difference.double().numpy(), ord=degree, axis=-1)

    return {
        "reconstruction": norm(x - x_hat),
        "feature": norm(features - features_hat),
        "cross_entropy": -np.log(torch.sigmoid(logits.double()).numpy()),
    }


class TestScore:
    @pytest.mark.parametrize("degree", [1, 2])
    @pytest.mark.parametrize("discriminator_score", ["feature", "cross_entropy"])
    def test_paper_score_is_egbads(self, degree, discriminator_score):
        detector = fitted(
            score="paper", degree=degree, discriminator_score=discriminator_score, alpha=0.7
        )
        parts = parts_by_hand(detector, degree)
        by_hand = (0.7 * parts["reconstruction"] + 0.3 * parts[discriminator_score]).mean(0)
        np.testing.assert_allclose(detector.anomaly_score(X), by_hand, rtol=1e-4)

    def test_paper_score_of_alad_is_the_distance_of_its_critics_features(self):
        detector = fitted(score="paper", variant="alad")
        by_hand = parts_by_hand(detector, 1)["feature"].mean(0)
        np.testing.assert_allclose(detector.anomaly_score(X), by_hand, rtol=1e-4)

    def test_the_cross_entropy_part_is_larger_where_the_pair_looks_generated(self):
        detector = fitted(score="discriminator_cross_entropy")
        scores = detector.anomaly_score(X)
        with torch.no_grad():
            x = detector.scaler_(X).expand(2, 60, 6)
            logits = detector.networks_.discriminator(x, detector.model_.encode(x))[0]
        assert np.corrcoef(scores, logits.mean(0).numpy())[0, 1] < -0.8

    @pytest.mark.parametrize(
        ("shape", "share", "others"),
        [
            ((6,), 1.0, {"neighbours": 1.0, "sample_neighbours": 2.0}),
            ((2, 3), 0.2, {"latent": 1.0, "neighbours": 2.5}),
        ],
    )
    def test_default_mixes_the_published_parts_by_alpha_with_others(self, shape, share, others):
        data = X.reshape(60, *shape)
        detector = BiGANDetector(
            epochs=2, n_estimators=2, latent_dim=3, random_state=0, alpha=0.6
        ).fit(data)
        default = detector.anomaly_score(data)
        parts = {}
        for name in ("reconstruction", "discriminator_feature", *others):
            parts[name] = detector.set_params(score=name).anomaly_score(data)
        published = 0.6 * parts["reconstruction"] + 0.4 * parts["discriminator_feature"]
        mixed = share * published + sum(weight * parts[name] for name, weight in others.items())
        expected = mixed / (share + sum(others.values()))
        np.testing.assert_allclose(default, expected, rtol=1e-9, atol=1e-12)

    def test_default_takes_the_discriminators_part_that_was_asked_for(self):
        detector = fitted(alpha=0.25, discriminator_score="cross_entropy")
        same = detector.anomaly_score(X)
        detector.set_params(
            score={
                "reconstruction": 1,
                "discriminator_cross_entropy": 3,
                "neighbours": 4,
                "sample_neighbours": 8,
            }
        )
        np.testing.assert_allclose(detector.anomaly_score(X), same, rtol=1e-9, atol=1e-12)


class TestSample:
    @pytest.mark.parametrize(
        ("shape", "parameters"),
        [
            ((40, 6), {}),
            ((20, 7, 9), {}),
            ((20, 7, 9, 3), {}),
            ((20, 3, 7, 9), {"channel_axis": 0}),
        ],
    )
    def test_has_the_shape_of_x(self, shape, parameters):
        data = np.random.default_rng(0).random(shape)
        detector = BiGANDetector(epochs=1, n_estimators=3, latent_dim=4, **parameters).fit(data)
        for n_samples in (1, 5):
            samples = detector.sample(n_samples, random_state=0)
            assert samples.shape == (n_samples, *shape[1:])
            assert np.isfinite(samples).all()

    def test_of_images_that_came_as_rows_come_rows(self):
        data = np.random.default_rng(0).random((20, 63))
        detector = BiGANDetector(epochs=1, latent_dim=4, image_shape=(7, 9)).fit(data)
        assert detector.sample(3).shape == (3, 63)
        detector.fit(data.reshape(20, 7, 9))
        assert detector.sample(3).shape == (3, 7, 9)

    def test_is_in_the_units_of_x(self):
        rows = 1000 + 50 * np.random.default_rng(0).normal(size=(300, 4))
        detector = BiGANDetector(epochs=40, random_state=0).fit(rows)
        samples = detector.sample(500, random_state=0)
        np.testing.assert_allclose(samples.mean(0), 1000, atol=40)
        assert ((samples.std(0) > 10) & (samples.std(0) < 100)).all()

    def test_members_take_turns(self):
        detector = fitted(n_estimators=3, scaling="none")
        z = torch.randn(2, 3, LATENT_DIM, generator=torch.Generator().manual_seed(7))
        with torch.no_grad():
            x_fake = detector.networks_.generator(z.transpose(0, 1))
        by_hand = [x_fake[i % 3, i // 3].numpy() for i in range(5)]
        np.testing.assert_allclose(detector.sample(5, random_state=7), by_hand, rtol=1e-4)

    def test_blocks_are_joined(self):
        detector = fitted()
        many = detector.sample(1100, random_state=0)
        assert many.shape == (1100, 6)
        assert len(np.unique(many, axis=0)) == 1100

    def test_repeats_with_its_seed_and_leaves_the_global_generator(self):
        detector = fitted()
        state = torch.get_rng_state()
        first, again, other = (detector.sample(4, random_state=seed) for seed in (0, 0, 1))
        assert torch.equal(torch.get_rng_state(), state)
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    @pytest.mark.parametrize("n_samples", [0, -1, 1.5, "3"])
    def test_bad_numbers(self, n_samples):
        with pytest.raises((ValueError, TypeError), match="n_samples"):
            fitted().sample(n_samples)

    def test_not_fitted(self):
        with pytest.raises(NotFittedError):
            BiGANDetector().sample(1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"variant": "ALAD"}, "variant"),
        ({"discriminator_score": "ch"}, "discriminator_score"),
        ({"degree": 3}, "degree"),
        ({"degree": "1"}, "degree"),
        ({"alpha": 1.1}, "alpha"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": None}, "alpha"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight"),
        ({"instance_noise": -0.1}, "instance_noise"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"stochastic_encoder": "no"}, "stochastic_encoder"),
    ],
)
def test_bad_parameters(parameters, message):
    detector = BiGANDetector(**parameters)
    with pytest.raises((ValueError, TypeError), match=message):
        detector.fit(X)
    assert not hasattr(detector, "networks_")


@pytest.mark.parametrize("variant", ["bigan", "alad"])
def test_quality_on_rows(variant):
    rows, y = load_breast_cancer(return_X_y=True)
    benign, malignant = rows[y == 1], rows[y == 0]
    detector = BiGANDetector(variant=variant, epochs=60, n_estimators=4, random_state=0)
    detector.fit(benign[:180])
    test = np.r_[benign[180:], malignant]
    is_anomaly = np.r_[np.zeros(len(benign) - 180), np.ones(len(malignant))]
    for score, floor in ((None, 0.9), ("reconstruction", 0.9), ("discriminator_feature", 0.7)):
        detector.set_params(score=score)
        assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) > floor, score


def test_quality_on_images():
    digits = load_digits()
    normal, anomalous = digits.images[digits.target == 0], digits.images[digits.target != 0]
    detector = BiGANDetector(
        epochs=40, n_estimators=1, random_state=0, architecture=ConvNet(n_filters=8)
    ).fit(normal[:120])
    test = np.r_[normal[120:], anomalous]
    is_anomaly = np.r_[np.zeros(len(normal) - 120), np.ones(len(anomalous))]
    assert roc_auc_score(is_anomaly, detector.anomaly_score(test)) > 0.9
