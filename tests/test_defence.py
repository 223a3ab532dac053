"""A detector's classifier: from the parameter to corrected labels, and through a saved file."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from torch import nn

import gandetect
from gandetect import AdversarialVAEDetector, ConvNet
from gandetect.attacks import projected_gradient
from gandetect.defence import checked_probabilities
from gandetect.distributed import RandomNumbers
from gandetect.metrics import roc_auc_scorer
from gandetect.training import TrainingRun

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
DIGITS = load_digits().images


def small(**parameters):
    settings = {"epochs": 2, "n_estimators": 2, "n_samples": 2, "random_state": 0}
    return AdversarialVAEDetector(**{**settings, **parameters})


def batch_of(detector, X, seed=0):
    """A run of a fitted model, and samples as it is given them in training."""
    model = detector.model_
    random = RandomNumbers(seed, torch.device("cpu"))
    x = model.scaler(X.reshape(len(X), *detector.sample_shape_))
    return TrainingRun(model, {}, random, 1, len(X)), x.expand(model.n_members, *x.shape)


class Net(nn.Module):
    """A network for images or rows; `seed` fixes its weights."""

    def __init__(self, n_features=64, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.hidden = nn.Linear(n_features, 6)
            self.dropout = nn.Dropout(0.5)
            self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.dropout(self.hidden(x.flatten(1)).relu()))


@pytest.fixture(scope="module")
def classifier():
    return LogisticRegression(max_iter=300).fit(X, NAMES)


@pytest.fixture(scope="module")
def fitted(classifier):
    return small(classifier=classifier).fit(X)


class TestAttackedSamples:
    """What the encoder learns to take away."""

    def test_an_attack_is_of_size_1_and_fools_more_than_noise(self, fitted):
        (run, x), model = batch_of(fitted, X), fitted.model_
        attack, noise = model.attack(x, run), run.random.normal_like(x)
        torch.testing.assert_close(attack.square().mean(-1), torch.ones(2, 150))
        before, attacked, disturbed = (
            model.answers(x + change)[0].argmax(-1) for change in (0, 0.4 * attack, 0.4 * noise)
        )
        assert (attacked != before).sum() > 2 * (disturbed != before).sum()

    @pytest.mark.parametrize(("drawn", "power"), [(0.0, 0), (0.5, 1.5), (1.0, 3)])
    def test_the_norm_is_drawn_from_all_values_to_few(self, fitted, monkeypatch, drawn, power):
        """By hand: the slope of the largest answer, to a power between 0 and 3."""
        (run, x), model = batch_of(fitted, X), fitted.model_
        monkeypatch.setattr(run.random, "uniform", lambda *shape: torch.full(shape, drawn))
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model.answers(x)[0].amax(-1).sum(), x)
        expected = -slope.sign() * (slope.abs() / slope.abs().amax(-1, keepdim=True)) ** power
        expected = expected / expected.square().mean(-1, keepdim=True).sqrt()
        torch.testing.assert_close(model.attack(x.detach(), run), expected)

    def test_they_are_the_first_of_a_batch(self, classifier):
        seen = []
        for attacked_fraction in (0.0, 0.2):
            detector = small(
                classifier=classifier, attacked_fraction=attacked_fraction, noise_std=0.4
            ).fit(X)
            run, x = batch_of(detector, X)
            seen.append(detector.model_.noisy(x, run))
        differs = (seen[0] != seen[1]).any(-1)
        assert differs[:, :30].all()
        assert not differs[:, 30:].any()

    def test_images_stay_in_their_range(self):
        detector = small(classifier=Net(), epochs=1, n_estimators=1).fit(DIGITS[:64])
        run, x = batch_of(detector, DIGITS[:64])
        noisy = detector.model_.noisy(x, run)
        assert (noisy != x).any()
        assert (noisy.min(), noisy.max()) == (x.min(), x.max())


class TestClassifiers:
    def test_a_fitted_one(self, fitted, classifier):
        answer = fitted.correct(X)["data"]
        np.testing.assert_array_equal(answer["no_defense"], classifier.predict(X))

    def test_a_network_sees_the_units_of_x(self):
        """Whatever the scaling, and without being changed."""
        net = Net(4).train()
        before = copy.deepcopy(net.state_dict())
        wide = X * 100 + 1000
        detector = small(classifier=net, scaling="robust").fit(wide)
        expected = copy.deepcopy(net).eval()(torch.from_numpy(wide).float()).argmax(1)
        np.testing.assert_array_equal(detector.correct(wide)["data"]["no_defense"], expected)
        assert net.training
        assert all(p.requires_grad for p in net.parameters())
        assert all(torch.equal(net.state_dict()[name], w) for name, w in before.items())

    def test_a_network_sees_images_with_channels_first(self):
        shapes = set()

        class Looking(Net):
            def forward(self, x):
                shapes.add(tuple(x.shape[1:]))
                return super().forward(x)

        images = np.stack([DIGITS[:40, :6], DIGITS[:40, 2:]], axis=-1)
        net = Looking(96)
        detector = small(classifier=net, architecture=ConvNet(n_filters=2)).fit(images)
        assert shapes == {(2, 6, 8)}
        x = torch.from_numpy(np.moveaxis(images, -1, 1)).float()
        expected = net.eval()(x).argmax(1)
        np.testing.assert_array_equal(detector.correct(images)["data"]["no_defense"], expected)

    def test_a_classifier_of_rows_sees_images_in_their_own_order(self):
        images = np.stack([DIGITS[:200, :6], DIGITS[:200, 2:]], axis=-1)
        y = load_digits().target[:200]
        rows = LogisticRegression(C=0.01, max_iter=10_000).fit(images.reshape(200, -1), y)
        detector = small(classifier=rows, architecture=ConvNet(n_filters=2)).fit(images)
        expected = rows.predict(images.reshape(200, -1))
        np.testing.assert_array_equal(detector.correct(images)["data"]["no_defense"], expected)

    def test_one_learned_from_labels(self):
        detector = small().fit(X, class_labels=NAMES)
        assert detector.classes_.tolist() == ["setosa", "versicolor", "virginica"]
        assert (detector.correct(X)["data"]["no_defense"] == NAMES).mean() > 0.95

    def test_one_learned_from_the_labels_of_images(self):
        y = load_digits().target[:300]
        detector = small(architecture=ConvNet(n_filters=2)).fit(DIGITS[:300], class_labels=y)
        assert (detector.correct(DIGITS[:300])["data"]["no_defense"] == y).mean() > 0.95

    def test_one_that_is_imitated(self):
        forest = RandomForestClassifier(10, random_state=0).fit(X, NAMES)
        with pytest.warns(UserWarning, match=r"RandomForestClassifier has no gradient.*\d%"):
            detector = small(classifier=FrozenEstimator(forest)).fit(X)
        answer = detector.correct(X)["data"]["no_defense"]
        assert (answer == forest.predict(X)).mean() > 0.9

    def test_none(self):
        detector = small().fit(X)
        assert detector.classifier_ is None
        assert not hasattr(detector, "classes_")
        assert detector.detect(X)["meta"]["detector_type"] == "outlier"
        with pytest.raises(ValueError, match="no labels to correct without a classifier"):
            detector.correct(X)

    def test_one_is_forgotten_by_a_fit_without(self, classifier):
        detector = small(classifier=classifier).fit(X).set_params(classifier=None).fit(X)
        np.testing.assert_array_equal(detector.anomaly_score(X), small().fit(X).anomaly_score(X))
        assert not hasattr(detector, "classes_")

    def test_labels_beside_a_classifier_are_not_looked_at(self, fitted, classifier):
        again = small(classifier=classifier).fit(X, class_labels=np.zeros(150))
        np.testing.assert_array_equal(again.anomaly_score(X), fitted.anomaly_score(X))

    def test_y_is_never_learned_from(self):
        """It says which samples are anomalous, where a search hands it to a scorer."""
        with_y = small().fit(X, np.arange(150) < 50)
        assert with_y.classifier_ is None
        np.testing.assert_array_equal(with_y.anomaly_score(X), small().fit(X).anomaly_score(X))

    def test_warm_start_goes_on_with_the_learned_one(self):
        detector = small(warm_start=True).fit(X, class_labels=NAMES)
        learned = detector.classifier_
        assert detector.fit(X).classifier_ is learned


class TestRefused:
    @pytest.mark.parametrize(
        ("classifier", "error", "message"),
        [
            (LogisticRegression(), NotFittedError, "FrozenEstimator"),
            (Net(5), ValueError, r"cannot be applied to samples of shape \(4,\)"),
            ("svm", TypeError, "classifier must be"),
        ],
        ids=repr,
    )
    def test_a_classifier(self, classifier, error, message):
        detector = small(classifier=classifier)
        with pytest.raises(error, match=message):
            detector.fit(X)
        assert not hasattr(detector, "networks_")

    @pytest.mark.parametrize(
        ("p", "message"),
        [
            (np.ones((3, 2)), "do not sum to 1"),
            (np.array([[1.5, -0.5]] * 3), "negative"),
            (np.ones((3, 1)), "at least two classes"),
            (np.ones((2, 2)) / 2, "shape"),
        ],
    )
    def test_probabilities(self, p, message):
        with pytest.raises(ValueError, match=message):
            checked_probabilities(p, 3)

    def test_one_class(self):
        with pytest.raises(ValueError, match="class_labels has one class"):
            small().fit(X, class_labels=np.zeros(150))

    def test_hidden_layers_without_a_classifier(self):
        with pytest.raises(ValueError, match="hidden_layers needs a classifier"):
            small(hidden_layers={"0": 2}).fit(X)


class TestAnswers:
    def test_detect(self, fitted):
        answer = fitted.detect(X)
        assert answer["meta"] == {
            "name": "AdversarialVAEDetector",
            "detector_type": "adversarial",
            "data_type": "tabular",
            "online": False,
            "version": gandetect.__version__,
        }
        data = answer["data"]
        np.testing.assert_array_equal(data["is_adversarial"], fitted.predict(X) == -1)
        np.testing.assert_array_equal(data["instance_score"], fitted.anomaly_score(X))
        assert data["threshold"] == fitted.threshold_
        assert fitted.detect(X, return_instance_score=False)["data"]["instance_score"] is None

    def test_data_type(self):
        assert small(data_type="spectrum").fit(X).detect(X)["meta"]["data_type"] == "spectrum"

    def test_only_flagged_samples_are_corrected(self, fitted, classifier):
        attacked = projected_gradient(classifier, X, NAMES, eps=1.0)
        data = fitted.correct(attacked)["data"]
        is_flagged = data["is_adversarial"] == 1
        assert 0 < is_flagged.sum() < 150
        np.testing.assert_array_equal(data["corrected"][is_flagged], data["defense"][is_flagged])
        kept = data["no_defense"][~is_flagged]
        np.testing.assert_array_equal(data["corrected"][~is_flagged], kept)
        assert (data["defense"] != data["no_defense"]).any()

    def test_corrected_labels_do_not_depend_on_the_batch(self, fitted):
        together = fitted.correct(X)["data"]["defense"]
        alone = [fitted.correct(X[i : i + 1])["data"]["defense"][0] for i in range(0, 150, 30)]
        np.testing.assert_array_equal(together[::30], alone)


def methods(detector):
    data = detector.correct(X)["data"]
    return [detector.anomaly_score(X), data["corrected"], data["defense"], detector.predict(X)]


def assert_same_answers(a, b):
    for of_a, of_b in zip(methods(a), methods(b), strict=True):
        np.testing.assert_array_equal(of_a, of_b)


class TestSaved:
    def test_a_converted_classifier_is_data(self, fitted, tmp_path):
        fitted.save(tmp_path / "detector")
        loaded = gandetect.load(tmp_path / "detector")
        assert_same_answers(loaded, fitted)
        assert_same_answers(loaded.fit(X), fitted)  # with the same labels, too

    def test_a_learned_one_is_data(self, tmp_path):
        fitted = small().fit(X, class_labels=NAMES)
        fitted.save(tmp_path / "detector")
        assert_same_answers(gandetect.load(tmp_path / "detector"), fitted)

    def test_a_network_is_given_again_and_gets_the_saved_weights(self, tmp_path):
        fitted = small(classifier=Net(4), hidden_layers={"hidden": 3}).fit(X)
        fitted.save(tmp_path / "detector")
        loaded = gandetect.load(tmp_path / "detector", classifier=Net(4, seed=1))
        assert_same_answers(loaded, fitted)

    def test_a_network_that_is_not_given_again(self, tmp_path):
        small(classifier=Net(4)).fit(X).save(tmp_path / "detector")
        with pytest.raises(TypeError, match=r"does not contain \['classifier'\].*pass classifier="):
            gandetect.load(tmp_path / "detector")

    def test_a_network_of_another_shape(self, tmp_path):
        small(classifier=Net(4)).fit(X).save(tmp_path / "detector")
        with pytest.raises(gandetect.ArchiveError, match="size mismatch"):
            gandetect.load(tmp_path / "detector", classifier=Net(5))

    def test_what_was_not_left_out(self, fitted, tmp_path):
        fitted.save(tmp_path / "detector")
        with pytest.raises(TypeError, match=r"pass no parameters.*\['classifier'\]"):
            gandetect.load(tmp_path / "detector", classifier=Net(4))

    def test_pickles(self, fitted):
        own = small(classifier=Net(4), hidden_layers={"hidden": 3}).fit(X)
        for detector in (fitted, own, small().fit(X, class_labels=NAMES)):
            assert_same_answers(pickle.loads(pickle.dumps(detector)), detector)


class TestSearches:
    def test_clone_keeps_a_frozen_classifier_and_a_network(self, fitted, classifier):
        frozen = small(classifier=FrozenEstimator(classifier))
        assert_same_answers(clone(frozen).fit(X), fitted)
        net = Net(4)
        assert_same_answers(clone(small(classifier=net)).fit(X), small(classifier=net).fit(X))

    def test_clone_of_a_plain_one_says_what_to_do(self, classifier):
        with pytest.raises(NotFittedError, match="FrozenEstimator"):
            clone(small(classifier=classifier)).fit(X)

    def test_a_grid_search_whose_labels_are_for_the_scorer(self, classifier):
        attacked = projected_gradient(classifier, X, NAMES, eps=1.0)
        search = GridSearchCV(
            small(classifier=FrozenEstimator(classifier)),
            {"latent_dim": [1, 2]},
            scoring=roc_auc_scorer,
            cv=StratifiedKFold(2),
            error_score="raise",
        ).fit(np.concatenate([X, attacked]), np.repeat([0, 1], 150))
        assert (search.cv_results_["mean_test_score"] > 0).all()
