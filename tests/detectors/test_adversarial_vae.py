"""What is special to AdversarialVAE: losses, draws, score, and networks of the user's own."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from torch import nn

from gandetect.attacks import projected_gradient
from gandetect.classifiers import DenseClassifier, ModuleClassifier
from gandetect.detectors.adversarial_vae import AdversarialVAEDetector
from gandetect.networks import ConvNet
from gandetect.training.callbacks import Callback
from tests.helpers import needs_callbacks

X = np.random.default_rng(0).normal(size=(60, 6))


def linear_classifier():
    """The second of two classes has the logit x_0 - x_1 / 2."""
    weight = torch.tensor([[1.0], [-0.5], [0.0], [0.0], [0.0], [0.0]], dtype=torch.float64)
    return DenseClassifier((weight,), (torch.zeros(1, dtype=torch.float64),))


CLASSIFIER = linear_classifier()
PERCEPTRON = DenseClassifier(
    (torch.eye(6).double(), torch.ones(6, 2).double()),
    (torch.zeros(6).double(), torch.zeros(2).double()),
    "tanh",
)


def make(**parameters):
    settings = {"epochs": 2, "n_estimators": 2, "latent_dim": 3, "n_samples": 4, "random_state": 0}
    settings |= {"noise_std": 0.0}
    return AdversarialVAEDetector(**{**settings, **parameters})


def fitted(**parameters):
    return make(**parameters).fit(X)


@pytest.fixture
def step(in_training):
    """Take one step of a new model: the losses, and the model and what they were made from."""

    def take(**parameters):
        model, run, x = in_training(make(**parameters), X)
        with torch.no_grad():
            mean, log_variance = model.posterior(x)
            draw = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
            spread = 0 if log_variance is None else (log_variance / 2).exp()
            x_hat = model.decoder(mean + spread * draw)
        run.random.generator.manual_seed(1)
        losses = {name: loss.detach() for name, loss in model.training_step(x, run).items()}
        return losses, model, x, x_hat, mean, log_variance

    return take


def divergence(p, q):
    return (p * (p.log() - q.log())).sum(-1)


def answers(model, x):
    """The classifier's probabilities, from the samples in the units of X."""
    samples = model.scaler.inverse(x.double())
    logit = samples[..., 0] - samples[..., 1] / 2
    return torch.stack([torch.sigmoid(-logit), torch.sigmoid(logit)], dim=-1)


def close(a, b):
    torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=1e-5)


class TestLosses:
    def test_the_default(self, step):
        losses, model, x, x_hat, mean, log_variance = step(
            classifier=CLASSIFIER, w_model=2.0, w_recon=0.5, beta=0.3
        )
        model = divergence(answers(model, x), answers(model, x_hat))
        squared = (x - x_hat).square().mean(-1)
        prior = ((mean**2 + log_variance.exp() - log_variance - 1) / 2).mean(-1)
        scale = (squared.std(1) / model.std(1))[:, None]
        close(losses["model"], model)
        close(losses["reconstruction"], squared)
        close(losses["prior"], prior)
        close(losses["loss"], 2 * scale * model + 0.5 * squared + 0.3 * prior)

    def test_the_published_one_is_the_divergence_alone(self, step):
        losses, model, x, x_hat, *_ = step(
            classifier=CLASSIFIER, w_model=1, w_recon=0, beta=0, log_variance="softplus"
        )
        close(losses["loss"], divergence(answers(model, x), answers(model, x_hat)))

    @pytest.mark.parametrize(
        ("noise_std", "classifier", "std"),
        [("auto", CLASSIFIER, 0.4), ("auto", None, 0.0), (0.3, None, 0.3)],
    )
    def test_noise_is_seen_by_the_encoder_alone(self, in_training, noise_std, classifier, std):
        detector = make(classifier=classifier, noise_std=noise_std)
        model, run, x = in_training(detector, X, 60)
        seen = {}
        model.encoder.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
        model.decoder.register_forward_hook(lambda _, inputs, x_hat: seen.update(x_hat=x_hat))
        losses = model.training_step(x, run)
        # Of a share of `std` between 0 and 1, drawn for each sample.
        assert (seen["x"] - x).square().mean().sqrt().item() == pytest.approx(
            std / 3**0.5, rel=0.2, abs=0
        )
        close(losses["reconstruction"], (x - seen["x_hat"]).square().mean(-1))

    def test_temperature_sharpens_the_answer_to_the_sample(self, step):
        losses, model, x, x_hat, *_ = step(classifier=CLASSIFIER, temperature=0.5)
        p = answers(model, x) ** 2
        close(losses["model"], divergence(p / p.sum(-1, True), answers(model, x_hat)))

    def test_without_a_classifier_it_is_a_plain_vae(self, step):
        losses, *_ = step(beta=0.1)
        assert losses.keys() == {"reconstruction", "prior", "loss"}
        close(losses["loss"], losses["reconstruction"] + 0.1 * losses["prior"])

    def test_hidden_layers(self, step):
        losses, model, x, x_hat, *_ = step(
            classifier=PERCEPTRON, hidden_layers={"0": 5}, hidden_weights={"0": 0.5}, w_recon=0
        )
        head = model.heads["0"].double()
        assert head.shape == (6, 5)

        def of(samples):
            h = model.scaler.inverse(samples.double()).tanh()
            return (h @ head).softmax(-1), (h @ torch.ones(6, 2).double()).softmax(-1)

        (h, p), (h_hat, p_hat) = of(x), of(x_hat)
        close(losses["model"], divergence(p, p_hat) + 0.5 * divergence(h, h_hat))

    def test_softplus_holds_the_variance_at_one_or_more(self, step):
        *_, log_variance = step(log_variance="softplus")
        assert (log_variance > 0).all()
        *_, log_variance = step()
        assert (log_variance < 0).any()

    def test_an_auto_encoder_draws_nothing(self, step):
        losses, model, *_ = step(log_variance=None)
        assert losses.keys() == {"reconstruction", "loss"}
        assert model.draws.shape == (1, 1, 1, 3)
        assert not model.draws.any()

    @pytest.mark.parametrize("cov_elbo", [0.5, "diag", "full"])
    def test_gaussian_errors(self, step, cov_elbo):
        """Against torch's own densities."""
        losses, model, x, x_hat, *_ = step(
            cov_elbo=cov_elbo, w_model=1, w_recon=0.1, classifier=CLASSIFIER, beta=0
        )
        scaled = model.scaler(X).double()
        if cov_elbo == "full":
            covariance = scaled.T.cov()
            covariance += 1e-3 * covariance.diagonal().mean() * torch.eye(6)
            normal = torch.distributions.MultivariateNormal(x_hat.double(), covariance)
            expected = -normal.log_prob(x.double())
        else:
            std = 0.5 if cov_elbo == 0.5 else scaled.std(0, correction=0)
            normal = torch.distributions.Normal(x_hat.double(), std)
            expected = -normal.log_prob(x.double()).sum(-1)
        close(losses["reconstruction"], expected)
        close(losses["loss"], losses["model"] + 0.1 * losses["reconstruction"])

    def test_a_loss_of_ones_own(self, step):
        def loss_fn(x, x_hat, log_p, log_p_hat):
            return (x - x_hat).abs().sum(-1) + (log_p - log_p_hat).abs().sum(-1)

        losses, model, x, x_hat, *_ = step(loss_fn=loss_fn, classifier=CLASSIFIER, beta=0)
        p, p_hat = answers(model, x), answers(model, x_hat)
        expected = (x - x_hat).abs().sum(-1) + (p.log() - p_hat.log()).abs().sum(-1)
        close(losses["loss"], expected)

    def test_a_loss_of_another_shape(self):
        with pytest.raises(ValueError, match=r"one value for each member and sample.*\(2, 60\)"):
            fitted(loss_fn=lambda x, *_: x.mean(), batch_size=60)

    def test_metrics_are_kept(self):
        metrics = {"worst": lambda x, x_hat: (x - x_hat).abs().amax(-1)}
        assert all(record["worst"] > 0 for record in fitted(metrics=metrics).history_)


class TestScore:
    def test_the_mean_over_the_draws(self):
        detector = fitted(classifier=CLASSIFIER, score="paper")
        model, x = detector.model_, detector.scaler_(X).expand(2, 60, 6)
        with torch.no_grad():
            mean, log_variance = model.posterior(x)
            values = [
                divergence(
                    answers(model, x),
                    answers(model, model.decoder(mean + (log_variance / 2).exp() * draw)),
                )
                for draw in model.draws
            ]
        expected = torch.stack(values).mean(0).mean(0)
        close(torch.from_numpy(detector.anomaly_score(X)), expected)

    def test_draws_come_with_their_mirror_images(self):
        draws = fitted(n_samples=4).model_.draws
        assert draws.shape == (4, 1, 1, 3)
        assert torch.equal(draws[:2], -draws[2:])
        assert fitted(n_samples=5).model_.draws.shape == (5, 1, 1, 3)

    def test_the_same_alone_and_in_a_batch(self):
        detector = fitted(classifier=CLASSIFIER)
        together = detector.anomaly_score(X)
        alone = [detector.anomaly_score(X[i : i + 1])[0] for i in range(0, 60, 20)]
        np.testing.assert_allclose(together[::20], alone, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"score": "divergence"}, "needs a classifier, but classifier=None"),
            ({"score": "prior", "log_variance": None}, "needs a log_variance"),
        ],
    )
    def test_a_part_that_is_not_there(self, parameters, message):
        with pytest.raises(ValueError, match=message):
            fitted(**parameters)

    def test_the_paper_score_without_a_classifier_is_the_reconstruction(self):
        detector = fitted(score="paper")
        parts = detector.model_.parts(detector.scaler_(X).expand(2, 60, 6))
        expected = parts["reconstruction"].detach().mean(0)
        close(torch.from_numpy(detector.anomaly_score(X)), expected)


class Pair:
    """A small auto-encoder of the user's own."""

    def __init__(self, sample_shape, latent_dim):
        n = math.prod(sample_shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(n, 2 * latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, n), nn.Unflatten(1, sample_shape))


class TestThreshold:
    def test_is_set_by_fit_and_moved_later(self):
        detector = fitted(threshold=0.25)
        assert detector.threshold_ == 0.25
        flagged = detector.anomaly_score(X) > 0.25
        np.testing.assert_array_equal(detector.predict(X) == -1, flagged)
        assert detector.infer_threshold(X, outlier_perc=10).threshold_ != 0.25

    @needs_callbacks
    def test_is_there_after_an_interrupted_fit(self):
        class Interrupt(Callback):
            def on_fit_task_end(self, estimator, context):
                if context.task_name == "epoch":
                    raise KeyboardInterrupt

        detector = AdversarialVAEDetector(epochs=2, threshold=0.25).set_callbacks(Interrupt())
        with pytest.warns(ConvergenceWarning), pytest.raises(KeyboardInterrupt):
            detector.fit(X)
        assert detector.threshold_ == 0.25


def test_divergences_of_probabilities_are_not_capped():
    class Probabilities(nn.Module):
        def forward(self, x):
            return x.softmax(-1)

    x = torch.tensor([[40.0, 0.0], [0.0, 40.0]])
    of_probabilities, of_logits = (
        ModuleClassifier(network, output).log_probabilities(x)
        for network, output in [(Probabilities(), "probabilities"), (nn.Identity(), "logits")]
    )
    for log_p, log_q in (of_probabilities, of_logits):
        close((log_p.exp() * (log_p - log_q)).sum(), torch.tensor(40.0))


class TestNetworksOfOnesOwn:
    def test_a_pair(self):
        detector = fitted(vae=Pair)
        assert len(detector.networks_["encoder"].networks) == 2
        assert detector.transform(X).shape == (60, 6)
        assert np.isfinite(detector.anomaly_score(X)).all()

    def test_for_images(self):
        images = load_digits().images[:40]
        detector = AdversarialVAEDetector(
            epochs=1, n_estimators=1, latent_dim=2, vae=Pair, random_state=0
        ).fit(images)
        assert detector.reconstruct(images).shape == images.shape

    def test_one_of_them(self):
        detector = fitted(encoder=lambda shape, n_out: nn.Linear(shape[0], n_out))
        assert isinstance(detector.networks_["encoder"].networks[0], nn.Linear)
        detector = fitted(decoder=lambda latent_dim, shape: nn.Linear(latent_dim, shape[0]))
        assert isinstance(detector.networks_["decoder"].networks[0], nn.Linear)

    @pytest.mark.parametrize("name", ["encoder", "decoder"])
    def test_modules_of_another_shape(self, name):
        with pytest.raises(ValueError, match=rf"networks of {name}=.*shape \(7,\)"):
            fitted(**{name: nn.Linear({"encoder": 6, "decoder": 3}[name], 7)})

    @pytest.mark.parametrize("name", ["encoder", "decoder"])
    def test_one_of_another_shape(self, name):
        with pytest.raises(ValueError, match=rf"networks of {name}=.*shape \(7,\)"):
            fitted(**{name: lambda *_: nn.Sequential(nn.LazyLinear(7))})

    def test_each_member_trains_a_copy_of_a_module(self):
        vae = nn.Module()
        pair = Pair((X.shape[1],), 3)
        vae.encoder, vae.decoder = pair.encoder, pair.decoder
        before = copy.deepcopy(vae.state_dict())
        detector = fitted(vae=vae, latent_dim=3)
        for name, weights in vae.state_dict().items():
            assert torch.equal(weights, before[name])
        first, second = (net[1].weight for net in detector.networks_["encoder"].networks)
        assert not torch.equal(first, before["encoder.1.weight"])
        assert not torch.equal(first, second)
        np.testing.assert_array_equal(
            clone(detector).fit(X).anomaly_score(X), detector.anomaly_score(X)
        )
        parts = fitted(encoder=vae.encoder, decoder=vae.decoder, latent_dim=3)
        np.testing.assert_array_equal(parts.anomaly_score(X), detector.anomaly_score(X))

    def test_a_module_that_is_given_again_is_saved_and_loaded(self, tmp_path):
        vae = nn.Module()
        pair = Pair((X.shape[1],), 3)
        vae.encoder, vae.decoder = pair.encoder, pair.decoder
        detector = fitted(vae=vae, latent_dim=3)
        detector.save(tmp_path / "guard.model")
        loaded = AdversarialVAEDetector.load(tmp_path / "guard.model", vae=vae)
        np.testing.assert_array_equal(loaded.anomaly_score(X), detector.anomaly_score(X))

    def test_an_optimizer(self):
        optimizers = []

        def optimizer(weights, lr):
            optimizers.append(torch.optim.SGD(weights, lr=lr))
            return optimizers[0]

        fitted(optimizer=optimizer, learning_rate=0.25, schedule=None)
        assert optimizers[0].param_groups[0]["lr"] == 0.25

    def test_an_optimizer_by_its_name_is_saved(self, tmp_path):
        by_name, adam = fitted(optimizer="sgd", learning_rate=0.01), fitted()
        X = np.random.default_rng(0).normal(size=(5, by_name.n_features_in_))
        assert not np.allclose(by_name.anomaly_score(X), adam.anomaly_score(X))
        np.testing.assert_array_equal(
            fitted(optimizer="adam").anomaly_score(X), adam.anomaly_score(X)
        )
        by_name.save(tmp_path / "detector")
        loaded = AdversarialVAEDetector.load(tmp_path / "detector")
        assert loaded.optimizer == "sgd"
        np.testing.assert_array_equal(loaded.anomaly_score(X), by_name.anomaly_score(X))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"w_model": -1}, ValueError, "w_model"),
        ({"w_recon": "1"}, TypeError, "w_recon"),
        ({"noise_std": -0.1}, ValueError, "noise_std"),
        ({"noise_std": "none"}, TypeError, "noise_std"),
        ({"attacked_fraction": 1.5}, ValueError, "attacked_fraction"),
        ({"beta": np.inf}, ValueError, "beta"),
        ({"temperature": 0}, ValueError, "temperature"),
        ({"n_samples": 0}, ValueError, "n_samples"),
        ({"cov_elbo": 0.0}, ValueError, "cov_elbo"),
        ({"cov_elbo": "sim"}, TypeError, "cov_elbo"),
        ({"log_variance": "exp"}, ValueError, "log_variance"),
        ({"classifier_output": "softmax"}, ValueError, "classifier_output"),
        ({"encoder": 2}, TypeError, "encoder must be None, or a function or a module, got 2"),
        ({"vae": nn.Linear(2, 2)}, TypeError, "vae=Linear must have a module 'encoder'"),
        ({"threshold": "high"}, TypeError, "threshold"),
        ({"threshold": np.nan}, ValueError, "threshold must be finite"),
        ({"optimizer": "lion"}, ValueError, "optimizer"),
        ({"vae": Pair, "decoder": Pair}, ValueError, "either vae, or encoder and decoder"),
        ({"metrics": [1]}, TypeError, "metrics must be None or a dict"),
        ({"hidden_layers": ["0"]}, TypeError, "hidden_layers must be"),
        ({"hidden_weights": {"0": 1.0}}, ValueError, "which hidden_layers does not have"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_used(parameters, error, message):
    with pytest.raises(error, match=message):
        fitted(**parameters)


@pytest.fixture(scope="module")
def attacked():
    X, y = load_digits(return_X_y=True)
    classifier = MLPClassifier((32,), early_stopping=True, random_state=0).fit(X[:1000], y[:1000])
    unseen, labels = X[1000:1300], y[1000:1300]
    attacked = projected_gradient(classifier, unseen, labels, eps=2.0, clip=(0, 16))
    detector = AdversarialVAEDetector(
        classifier=classifier, epochs=15, n_estimators=2, n_samples=4, random_state=0
    )
    return detector.fit(X[:1000]), unseen, labels, attacked


class TestFinds:
    """Attacks and outliers in real data, with room below what these settings reach."""

    def test_attacks(self, attacked):
        detector, unseen, _, X_attacked = attacked
        scores = [detector.anomaly_score(of) for of in (unseen, X_attacked)]
        assert roc_auc_score(np.repeat([0, 1], 300), np.concatenate(scores)) > 0.75

    def test_the_right_labels_behind_them(self, attacked):
        detector, _, labels, X_attacked = attacked
        data = detector.correct(X_attacked)["data"]
        before = (data["no_defense"] == labels).mean()
        assert (data["defense"] == labels).mean() > before + 0.2

    def test_outliers_by_every_part_of_a_plain_one(self):
        X, y = load_breast_cancer(return_X_y=True)
        benign, malignant = X[y == 1], X[y == 0]
        detector = AdversarialVAEDetector(epochs=30, n_estimators=2, random_state=0)
        detector.fit(benign[:250])
        test = np.concatenate([benign[250:], malignant])
        is_outlier = np.arange(len(test)) >= len(benign) - 250
        for score in ("reconstruction", "neighbours", "prior", None):
            detector.set_params(score=score)
            assert roc_auc_score(is_outlier, detector.anomaly_score(test)) > 0.85, score

    def test_images(self):
        digits = load_digits()
        ones = digits.images[digits.target == 1]
        detector = AdversarialVAEDetector(
            architecture=ConvNet(n_filters=4), epochs=30, n_estimators=1, random_state=0
        ).fit(ones[:120])
        test = np.concatenate([ones[120:], digits.images[digits.target == 0][:60]])
        is_outlier = np.arange(len(test)) >= len(ones) - 120
        assert roc_auc_score(is_outlier, detector.anomaly_score(test)) > 0.9
