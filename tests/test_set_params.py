"""What is set after `fit` waits for the next fit, but for how the score is computed."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

import gandetect
from gandetect import MLP, AdversarialVAEDetector, ALOCCDetector, ConvNet, RDNADetector
from tests.helpers import assert_equal_scores, one_detector

# Another valid value of every parameter than the default, for rows and for images.
OTHERS = {
    "latent_dim": 3,
    "architecture": (MLP(hidden_dims=(5, 4)), ConvNet(n_filters=3)),
    "n_estimators": 3,
    "epochs": 3,
    "batch_size": 7,
    "learning_rate": 0.01,
    "n_jobs": 2,
    "contamination": 0.3,
    "image_shape": ((2, 3), (3, 3)),
    "channel_axis": 0,
    "scaling": ("robust", "none"),
    "columns": None,
    "missing_values": ("?",),
    "labels": "exclude",
    "anomaly_label": 1,
    "store_references": False,
    "score": "paper",
    "validation_fraction": 0.3,
    "trim": 0.2,
    "robust": 0.1,
    "warm_start": True,
    "device": "cpu",
    "random_state": 5,
    "verbose": 1,
    # GANomaly
    "adversarial_weight": 0.0,
    "reconstruction_weight": 3.0,
    "latent_weight": 2.0,
    "score_norm": "l2",
    "collapse_loss": None,
    "beta_1": 0.2,
    # BiGAN
    "variant": "alad",
    "stochastic_encoder": (False, True),
    "label_smoothing": 0.1,
    "instance_noise": 0.1,
    "alpha": 0.5,
    "discriminator_score": "cross_entropy",
    "degree": 2,
    # ALOCC
    "noise_std": 0.1,
    "n_refiner_steps": 2,
    "optimizer": "rmsprop",
    "weight_decay": 0.1,
    "skip": "add",
    "gradient_penalty_weight": 1.0,
    "rec_bound": 0.5,
    "tuning_fraction": (0.3, 0.0),
    # AdversarialVAE
    "classifier_output": "logits",
    "w_model": 2.0,
    "w_recon": 2.0,
    "beta": 1.0,
    "cov_elbo": "full",
    "attacked_fraction": 0.1,
    "temperature": 0.3,
    "hidden_layers": {"0": 3},
    "hidden_weights": {},
    "log_variance": None,
    "n_samples": 3,
    "data_type": "telemetry",
    "threshold": 3.0,
    # RDNA
    "map": "probability",
    "backbone": "efficientnet-lite0",
    "layers": (1, 2),
    "hardened_noise": 0,
    "noise_size": 0.1,
    "n_references": 100,
    "image_size": 5,
    "anomaly_source": np.zeros((2, 8, 8)),
    "anomaly_probability": 0.9,
    "opacity": (0.5, 0.6),
    "mask_scales": (1, 2),
    "augment": False,
    "similarity_weight": 0.5,
    "focal_weight": 0.5,
    "focal_gamma": 1.0,
    "schedule": "steps",
    "max_time": 100.0,
    "mixed_precision": True,
    "roi": (0, 0, 4, 4),
}
OTHERS_OF = {
    "GANomalyDetector": {"adversarial_loss": "bce"},
    "ALOCCDetector": {"adversarial_loss": "lsgan"},
}
# What has to be set beside a parameter, to be valid with it.
BESIDE = {
    "backbone": {"architecture": None},
    "layers": {"architecture": None, "backbone": "efficientnet-lite0"},
}
SHAPES = {"rows": (6,), "images": (8, 8)}


class OwnOptimizer:
    """Code of the user's: no file holds it."""

    def __call__(self, weights, lr):
        raise AssertionError("nothing is trained")


def classifier():
    rng = np.random.default_rng(1)
    return FrozenEstimator(LogisticRegression().fit(rng.normal(size=(20, 6)), np.arange(20) % 2))


# Parameters of the adversarial VAE that are code.
CODE = {
    "classifier": classifier,
    "encoder": OwnOptimizer,
    "decoder": OwnOptimizer,
    "vae": OwnOptimizer,
    "optimizer": OwnOptimizer,
    "loss_fn": OwnOptimizer,
    "metrics": lambda: {"own": OwnOptimizer()},
}


def samples(kind):
    return np.random.default_rng(0).normal(size=(12, *SHAPES[kind]))


def tiny(make, Detector, kind, **parameters):
    architecture = {"rows": MLP(hidden_dims=(4,)), "images": ConvNet(n_filters=2)}[kind]
    settings = {"epochs": 1, "latent_dim": 2, "architecture": architecture, **parameters}
    return make(Detector, **settings)


def other_value(Detector, name, kind):
    if name in CODE and name in Detector.model_class.code_parameters:
        return CODE[name]()
    value = {**OTHERS, **OTHERS_OF.get(Detector.__name__, {})}[name]
    of_both = name in ("architecture", "image_shape", "scaling") or name in (
        "stochastic_encoder",
        "tuning_fraction",
    )
    return value[kind == "images"] if of_both else value


@pytest.fixture(scope="module", params=SHAPES)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(Detector, make, kind):
    return tiny(make, Detector, kind).fit(samples(kind))


def loaded(detector, folder, given):
    detector.save(folder / "detector")
    return gandetect.load(folder / "detector", **given)


def copies_of(detector, folder, given):
    return {
        "itself": detector,
        "deepcopy": copy.deepcopy(detector),
        "pickle": pickle.loads(pickle.dumps(detector)),
        "saved and loaded": loaded(detector, folder, given),
    }


def given_to_load(detector, name, value):
    is_code = name in detector.model_class.code_parameters and name in CODE
    return {name: value} if is_code else {}


def check_every_parameter(fitted, kind, X, folder):
    """The scores and labels of copies after another value of each parameter was set."""
    scores, labels = fitted.anomaly_score(X), fitted.predict(X)
    of_the_score = {"score", *fitted.model_class.score_parameters}
    for name, default in fitted.get_params(deep=False).items():
        value = other_value(type(fitted), name, kind)
        assert value is not default
        changed = copy.copy(fitted).set_params(**{name: value, **BESIDE.get(name, {})})
        changes_scores = name in of_the_score
        expected = changed.anomaly_score(X) if changes_scores else scores
        for how, again in copies_of(changed, folder, given_to_load(fitted, name, value)).items():
            where = f"{name}, {how}"
            assert_equal_scores(again.anomaly_score(X), expected, where)
            if changes_scores:
                with pytest.raises(ValueError, match=f"{name}.*infer_threshold"):
                    again.predict(X)
                again = copy.copy(again).set_params(**{name: default})
                assert_equal_scores(again.anomaly_score(X), scores, where)
            np.testing.assert_array_equal(again.predict(X), labels, err_msg=where)


class TestEveryParameter:
    def test_it_waits_for_the_next_fit(self, fitted, kind, tmp_path):
        check_every_parameter(fitted, kind, samples(kind), tmp_path)

    def test_beside_a_classifier(self, make, tmp_path):
        detector = tiny(make, AdversarialVAEDetector, "rows", classifier=classifier())
        check_every_parameter(detector.fit(samples("rows")), "rows", samples("rows"), tmp_path)


class TestTheScore:
    def test_each_parameter_of_it_changes_it(self, fitted, kind):
        X = samples(kind)
        score = "map" if isinstance(fitted, RDNADetector) else "paper"
        scores = fitted.set_params(score=score).anomaly_score(X)
        for name in fitted.model_class.score_parameters:
            before = fitted.get_params()[name]
            fitted.set_params(**{name: other_value(type(fitted), name, kind)})
            assert (fitted.anomaly_score(X) != scores).any(), name
            fitted.set_params(**{name: before})
        assert_equal_scores(fitted.anomaly_score(X), scores)
        fitted.set_params(score=None)

    @one_detector
    def test_a_part_that_was_not_fitted_is_refused_in_words(self, make, Detector):
        detector = tiny(make, Detector, "rows", score="reconstruction").fit(samples("rows"))
        detector.set_params(score="neighbours")
        with pytest.raises(ValueError, match=r"without 'neighbours'.*fit it again"):
            detector.anomaly_score(samples("rows"))


class TestSave:
    def test_code_that_differs_from_that_of_the_fit_is_refused(self, make, tmp_path):
        detector = tiny(make, AdversarialVAEDetector, "rows", metrics={"own": own_metric})
        detector.fit(samples("rows")).set_params(metrics={"own": max})
        with pytest.raises(TypeError, match="metrics contains user code and was changed after fit"):
            detector.save(tmp_path / "detector")
        assert not list(tmp_path.iterdir())

    def test_code_of_the_fit_that_was_taken_away_is_given_to_load(self, make, tmp_path):
        X = samples("rows")
        detector = tiny(make, AdversarialVAEDetector, "rows", metrics={"own": own_metric}).fit(X)
        scores = detector.anomaly_score(X)
        again = loaded(detector.set_params(metrics=None), tmp_path, {"metrics": {"own": max}})
        assert again.metrics is None
        assert_equal_scores(again.anomaly_score(X), scores)


def own_metric(x, x_hat):
    return (x - x_hat).abs().mean(-1)


def shaping(Detector):
    """The parameters that shape networks or the scale, beside the shape of X."""
    own = {
        ALOCCDetector: ("tuning_fraction",),
        RDNADetector: ("adversarial_weight",),
    }.get(Detector, ())
    shared = ("latent_dim", "architecture", "n_estimators", "scaling", "image_shape")
    return (*shared, "channel_axis", *Detector.model_class.network_parameters, *own)


class TestWarmStart:
    def test_what_shapes_networks_or_the_scale_must_be_as_it_was(self, fitted, kind):
        X = samples(kind)
        scores = fitted.anomaly_score(X)
        for name in shaping(type(fitted)):
            value = other_value(type(fitted), name, kind)
            changed = copy.copy(fitted).set_params(warm_start=True, **{name: value})
            with pytest.raises(ValueError, match=name):
                changed.fit(X)
            assert_equal_scores(changed.anomaly_score(X), scores)

    def test_what_does_not_may_change(self, fitted, kind):
        free = copy.copy(fitted).set_params(
            warm_start=True, learning_rate=0.01, batch_size=5, contamination=0.2, verbose=0
        )
        assert free.fit(samples(kind)).n_iter_ == 2


@pytest.mark.parametrize("architecture", [None, MLP()])
@one_detector
def test_a_parameter_of_what_has_none_is_refused(Detector, make, architecture):
    with pytest.raises(ValueError, match=r"architecture__hidden_dims cannot be set, .* set archi"):
        make(Detector, architecture=architecture).set_params(architecture__hidden_dims=(3,))
