"""Every promise that all detectors make, held by every detector that is registered."""

import copy
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from torch import nn

from gandetect.model.statistics import threshold_at_percentile
from tests.helpers import assert_equal_scores, before_each_step, untrained, weights_of

METHODS_PER_SAMPLE = ["anomaly_score", "transform", "reconstruct", "anomaly_map"]


def assert_same_weights(before, after):
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]), name


class TestSigns:
    def test_score_samples_is_minus_the_anomaly_score(self, fitted_and_X):
        fitted, X = fitted_and_X
        np.testing.assert_array_equal(fitted.score_samples(X), -fitted.anomaly_score(X))

    def test_offset_is_minus_the_threshold(self, fitted_to_rows):
        assert fitted_to_rows.offset_ == -fitted_to_rows.threshold_

    def test_decision_function_is_score_samples_less_the_offset(self, fitted_and_X):
        fitted, X = fitted_and_X
        np.testing.assert_array_equal(
            fitted.decision_function(X), fitted.score_samples(X) - fitted.offset_
        )

    def test_outliers_are_what_exceeds_the_threshold(self, fitted_and_X):
        fitted, X = fitted_and_X
        labels = fitted.predict(X)
        assert set(labels) == {-1, 1}
        np.testing.assert_array_equal(labels == -1, fitted.anomaly_score(X) > fitted.threshold_)

    def test_fit_predict_is_fit_and_predict(self, Detector, make, rows):
        X = rows[:60]
        np.testing.assert_array_equal(
            make(Detector).fit_predict(X), make(Detector).fit(X).predict(X)
        )

    def test_scores_are_float64_and_finite(self, fitted_and_X):
        fitted, X = fitted_and_X
        scores = fitted.anomaly_score(X)
        assert scores.dtype == np.float64
        assert scores.shape == (len(X),)
        assert np.isfinite(scores).all()


class TestAttributes:
    def test_history_has_one_record_an_epoch(self, fitted_to_rows):
        assert fitted_to_rows.n_iter_ == len(fitted_to_rows.history_) == 2
        assert [record["epoch"] for record in fitted_to_rows.history_] == [1, 2]

    def test_every_loss_is_finite_and_in_every_record(self, fitted_and_X):
        fitted, _ = fitted_and_X
        names = fitted.history_[0].keys()
        assert len(names) > 1
        for record in fitted.history_:
            assert record.keys() == names
            assert all(np.isfinite(value) for value in record.values())

    def test_every_loss_of_a_step_is_in_the_history(self, Detector, make, rows, monkeypatch):
        returned = {}
        step = Detector.model_class.training_step

        def remembering(self, x, run):
            losses = step(self, x, run)
            returned.update(losses)
            return losses

        monkeypatch.setattr(Detector.model_class, "training_step", remembering)
        detector = make(Detector).fit(rows[:60])
        assert {"epoch", *returned} == set(detector.history_[-1])

    def test_networks_are_in_eval_mode(self, fitted_and_X):
        networks = fitted_and_X[0].networks_
        assert isinstance(networks, nn.ModuleDict)
        assert not any(m.training for network in networks.values() for m in network.modules())

    def test_shapes_of_rows(self, fitted_to_rows):
        assert fitted_to_rows.n_features_in_ == 6
        assert fitted_to_rows.input_shape_ == (6,)
        assert not hasattr(fitted_to_rows, "feature_names_in_")

    def test_shapes_of_images(self, fitted_to_images):
        assert fitted_to_images.n_features_in_ == 9 * 13 * 3
        assert fitted_to_images.input_shape_ == (9, 13, 3)

    @pytest.mark.parametrize(
        "method",
        ["score_samples", "decision_function", "predict", "infer_threshold", *METHODS_PER_SAMPLE],
    )
    def test_not_fitted(self, Detector, rows, method):
        with pytest.raises(NotFittedError, match=Detector.__name__):
            getattr(Detector(), method)(rows)

    def test_save_before_fit(self, Detector, tmp_path):
        with pytest.raises(NotFittedError):
            Detector().save(tmp_path / "detector")


def assert_equal(found, expected):
    """Equal to what is promised: in float32, of the values' own size where that is above 1."""
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS_PER_SAMPLE)
class TestWhereASampleStands:
    """A sample gives the same wherever and whenever it is scored."""

    def test_twice_to_the_bit(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        np.testing.assert_array_equal(apply(X[:70]), apply(X[:70]))

    def test_alone_in_parts_and_in_any_order(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        together = apply(X)
        # First and last of a block of 64 images or 512 rows, and of X.
        for i in {0, 63, 64, 511, 512, 1023, len(X) - 1}:
            if i < len(X):
                assert_equal(apply(X[i : i + 1])[0], together[i])
        order = np.random.default_rng(0).permutation(len(X))
        assert_equal(apply(X[order]), together[order])
        parts = [apply(X[start : start + 100]) for start in range(0, len(X), 100)]
        assert_equal(np.concatenate(parts), together)

    def test_on_any_number_of_threads(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        on_one_thread = apply(X)
        torch.set_num_threads(2)
        try:
            on_two_threads = apply(X)
        finally:
            torch.set_num_threads(1)
        assert_equal(on_two_threads, on_one_thread)

    def test_from_several_threads_at_once(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(apply, [X, X[::-1]]))
        for result, step in zip(results, [1, -1], strict=True):
            assert_equal(result[::step], apply(X))


class TestNothingIsWrittenWhileScoring:
    def test_attributes_and_weights(self, fitted_and_X):
        fitted, X = fitted_and_X
        attributes, pickled = dict(vars(fitted)), pickle.dumps(fitted)
        for method in ("predict", "decision_function", *METHODS_PER_SAMPLE):
            getattr(fitted, method)(X[:20])
        after = vars(fitted)
        assert after.keys() == attributes.keys()
        assert all(after[name] is attributes[name] for name in attributes)
        assert pickle.dumps(fitted) == pickled

    def test_x_is_left_as_it_was(self, fitted_and_X):
        fitted, X = fitted_and_X
        before = X.copy()
        before.flags.writeable = False
        for method in ("predict", *METHODS_PER_SAMPLE):
            getattr(fitted, method)(before)
        np.testing.assert_array_equal(before, X)

    def test_fit_leaves_x_as_it_was(self, Detector, make, rows):
        X = rows[:50].astype(np.float32)
        X.flags.writeable = False
        make(Detector, scaling="none").fit(X)
        np.testing.assert_array_equal(X, rows[:50].astype(np.float32))


def global_states():
    return (
        random.getstate(),
        pickle.dumps(np.random.get_state()),
        torch.get_rng_state().numpy().tobytes(),
    )


class TestRandomness:
    @pytest.mark.parametrize("random_state", [0, None])
    def test_global_generators_are_not_moved(self, Detector, make, rows, random_state):
        before = global_states()
        detector = make(Detector, random_state=random_state, validation_fraction=0.2)
        detector.fit(rows[:60]).infer_threshold(rows[:60])
        for method in ("predict", *METHODS_PER_SAMPLE):
            getattr(detector, method)(rows[:60])
        assert global_states() == before

    def test_global_generators_are_not_read(self, Detector, make, rows):
        scores = []
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            scores.append(make(Detector).fit(rows[:60]).anomaly_score(rows))
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        np.testing.assert_array_equal(*scores)

    def test_an_integer_repeats_to_the_bit(self, fitted_and_X):
        fitted, X = fitted_and_X
        n = 200 if X.ndim == 2 else 60
        again = clone(fitted).fit(X[:n])
        assert_same_weights(weights_of(fitted.networks_), weights_of(again.networks_))
        np.testing.assert_array_equal(again.anomaly_score(X), fitted.anomaly_score(X))
        assert again.threshold_ == fitted.threshold_
        assert again.history_ == fitted.history_

    def test_the_threshold_of_fit_is_that_of_the_training_scores_to_the_bit(self, fitted_and_X):
        fitted, X = fitted_and_X
        scores = fitted.anomaly_score(X[: 200 if X.ndim == 2 else 60])
        threshold = threshold_at_percentile(scores, 100 * fitted.contamination, method="linear")
        assert threshold == fitted.threshold_

    def test_a_detector_refits_as_a_new_one_fits(self, Detector, make, rows):
        used = make(Detector).fit(rows[100:130, :4])
        used.fit(rows[:60])
        np.testing.assert_array_equal(
            used.anomaly_score(rows), make(Detector).fit(rows[:60]).anomaly_score(rows)
        )

    @pytest.mark.parametrize("random_states", [(0, 1), (None, None)])
    def test_other_seeds_give_other_networks(self, Detector, make, rows, random_states):
        a, b = (make(Detector, random_state=state).fit(rows[:60]) for state in random_states)
        assert (a.anomaly_score(rows) != b.anomaly_score(rows)).any()

    @pytest.mark.parametrize("generator", [np.random.RandomState, np.random.default_rng])
    def test_generators(self, Detector, make, rows, generator):
        shared = generator(3)
        first, second = (
            make(Detector, random_state=shared).fit(rows[:60]).anomaly_score(rows) for _ in "12"
        )
        again = make(Detector, random_state=generator(3)).fit(rows[:60]).anomaly_score(rows)
        np.testing.assert_array_equal(first, again)
        assert (first != second).any()


class TestMembers:
    @pytest.fixture(params=["rows", "images"])
    def made(self, request, Detector, make, rows, images, tiny_convnet):
        if request.param == "rows":
            return untrained(make(Detector), rows[:32])
        return untrained(make(Detector, architecture=tiny_convnet), images[:8])

    def test_every_optimizer_moves_its_own_weights_and_no_others(self, made):
        model, run, x = made
        parameters, moved, owned = dict(model.networks.named_parameters()), {}, {}
        for name, optimizer in run.optimizers.items():
            before = {}

            def remember(*_, before=before):
                before.update({n: p.detach().clone() for n, p in parameters.items()})

            def compare(*_, name=name, before=before):
                changed = {n for n, p in parameters.items() if not torch.equal(p, before[n])}
                moved.setdefault(name, set()).update(changed)

            optimizer.register_step_pre_hook(remember)
            optimizer.register_step_post_hook(compare)
            own = {id(p) for group in optimizer.param_groups for p in group["params"]}
            owned[name] = {n for n, p in parameters.items() if id(p) in own}
        for progress in (0.1, 0.4, 0.9):
            run.progress = progress
            model.training_step(x, run)
        assert moved.keys() == owned.keys()
        for name in owned:
            assert moved[name], f"{name} moved nothing"
            assert moved[name] <= owned[name], f"{name} moved what is not its own"
        # Every network that can be trained has an owner, and was moved.
        trainable = {n for n, p in parameters.items() if p.requires_grad}
        assert trainable <= set().union(*owned.values())
        networks = {n.split(".")[0] for n in trainable}
        assert networks == {n.split(".")[0] for n in set().union(*moved.values())}

    def test_members_differ(self, fitted_to_rows, rows):
        codes = fitted_to_rows.transform(rows[:10])
        half = codes.shape[1] // 2
        assert (codes[:, :half] != codes[:, half:]).any()

    def test_members_share_nothing(self, fitted_and_X):
        fitted, X = fitted_and_X
        codes = fitted.transform(X[:20])
        half = codes.shape[1] // 2
        changed = copy.deepcopy(fitted)
        with torch.no_grad():
            for value in changed.networks_.state_dict().values():
                if value.ndim > 0:
                    value[len(value) // 2 :] += 1.0
        after = changed.transform(X[:20])
        np.testing.assert_array_equal(after[:, :half], codes[:, :half])
        assert (after[:, half:] != codes[:, half:]).any()

    def test_the_columns_of_transform(self, Detector, make, rows):
        detector = make(Detector, n_estimators=3, latent_dim=4).fit(rows[:40])
        assert detector.transform(rows[:5]).shape == (5, 12)
        names = detector.get_feature_names_out()
        assert list(names) == [f"{Detector.__name__.lower()}{i}" for i in range(12)]


class TestThreads:
    """Several fits in one process do not see each other."""

    def test_fits_score_as_alone(self, Detector, make, rows):
        def scores(seed):
            detector = make(Detector, epochs=3, random_state=seed)
            return detector.fit(rows[:60]).anomaly_score(rows[:90])

        alone = [scores(seed) for seed in range(3)]
        before = global_states()
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(scores, range(3)))
        parallel = joblib.Parallel(2, backend="threading")
        of_joblib = parallel(joblib.delayed(scores)(seed) for seed in range(3))
        assert global_states() == before
        for found in (together, of_joblib):
            np.testing.assert_array_equal(found, alone)

    def test_loading_beside_a_fit(self, Detector, make, fitted_to_rows, rows, tmp_path):
        fitted_to_rows.save(tmp_path / "detector")
        alone = make(Detector, epochs=4).fit(rows[:60]).anomaly_score(rows[:90])
        expected = fitted_to_rows.anomaly_score(rows[:90])
        before = global_states()

        def fit(_):
            return make(Detector, epochs=4).fit(rows[:60]).anomaly_score(rows[:90])

        def load(_):
            return Detector.load(tmp_path / "detector").anomaly_score(rows[:90])

        with ThreadPoolExecutor(3) as pool:
            fitted, *loaded = pool.map(lambda act: act(None), [fit, load, load, load])
        assert global_states() == before
        np.testing.assert_array_equal(fitted, alone)
        for scores in loaded:
            np.testing.assert_array_equal(scores, expected)

    def test_scores_are_the_old_ones_until_the_next_fit_is_done(
        self, Detector, make, rows, monkeypatch
    ):
        detector = make(Detector).fit(rows[:60])
        X, old = rows[:50], detector.anomaly_score(rows[:50])
        labels, found = detector.predict(X), []

        def score(model, x, n):
            with ThreadPoolExecutor(1) as pool:
                found.append(pool.submit(detector.anomaly_score, X).result())
                np.testing.assert_array_equal(pool.submit(detector.predict, X).result(), labels)

        before_each_step(monkeypatch, Detector, score)
        detector.fit(rows[100:160] * 3 + 1)
        assert found
        for scores in found:
            np.testing.assert_array_equal(scores, old)
        assert (detector.anomaly_score(X) != old).any()


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SETTINGS_OF_TORCH = {
    "default dtype float64": lambda: default_dtype(torch.float64),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled(False)": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "device meta": lambda: torch.device("meta"),
    "deterministic algorithms": deterministic,
    "three threads": lambda: threads(3),
}


def torch_settings():
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
    )


class TestSettingsOfTorch:
    """What a user has set in torch for other work neither changes nor is changed by a fit."""

    def test_fit_score_save_and_load(self, fitted_and_X, tmp_path):
        fitted, X = fitted_and_X
        X, n = X[:60], 200 if X.ndim == 2 else 60
        training = fitted_and_X[1][:n]
        scores, codes = fitted.anomaly_score(X), fitted.transform(X)
        fitted.save(tmp_path / "detector")
        for name, context in SETTINGS_OF_TORCH.items():
            with context():
                before = torch_settings()
                again = clone(fitted).fit(training)
                loaded = type(fitted).load(tmp_path / "detector")
                detectors = [fitted, loaded]
                # More threads round sums of convolutions differently, and training magnifies that.
                if name != "three threads" or X.ndim == 2:
                    detectors.append(again)
                found = [detector.anomaly_score(X) for detector in detectors]
                found_codes = fitted.transform(X)
                assert torch_settings() == before, name
            found += [detector.anomaly_score(X) for detector in detectors[1:]]
            for other in found:
                assert_equal_scores(other, scores, name)
            assert_equal_scores(found_codes, codes, name)


@pytest.fixture(scope="session")
def fitted_longer(Detector, make, rows):
    detector = make(Detector, epochs=30, latent_dim=2, learning_rate=3e-3, batch_size=32)
    return detector.fit(rows[:200])


@pytest.fixture(scope="session")
def fitted_longer_to_images(Detector, make, images, tiny_convnet):
    detector = make(Detector, epochs=20, latent_dim=4, learning_rate=3e-3)
    return detector.set_params(architecture=tiny_convnet).fit(images[:100])


class Floor(NamedTuple):
    """What a detector has to reach on planted anomalies."""

    rows: float = 0.9  # AUROC
    images: float = 0.9
    right: float = 0.8  # share of right labels of rows
    column: float = 1.2  # how much more the map of the wrong column rises than that of all
    spot: float = 2.0  # and the map of a wrong spot than that of the other pixels


# Each is below the least of three seeds by as much again as that is below 1, or by a third of the
# rise; of a method of one's own nothing is known.
FLOORS = {
    "ALOCCDetector": Floor(0.994, 0.998, 0.95, 1.7, 2.8),
    "AdversarialVAEDetector": Floor(0.990, 0.998, 0.94, 1.6, 3.0),
    "BiGANDetector": Floor(0.995, 0.998, 0.95, 1.6, 3.5),
    "GANomalyDetector": Floor(0.994, 0.998, 0.95, 1.6, 2.7),
    "RDNADetector": Floor(0.991, 0.998, 0.95, 1.7, 1.6),
}


class TestFinds:
    """Planted anomalies, with room below what these settings reach."""

    @pytest.fixture
    def floor(self, Detector):
        return FLOORS.get(Detector.__name__, Floor())

    def test_rows_off_the_plane(self, fitted_longer, rows, floor):
        unseen = rows[400:600]
        # Each column is as it should be, but not together with the others.
        outliers = np.random.default_rng(1).permuted(unseen, axis=0)
        X = np.concatenate([unseen, outliers])
        is_outlier = np.arange(400) >= 200
        assert roc_auc_score(is_outlier, fitted_longer.anomaly_score(X)) > floor.rows
        detector = copy.deepcopy(fitted_longer).infer_threshold(X, outlier_perc=50)
        assert ((detector.predict(X) == -1) == is_outlier).mean() > floor.right

    def test_the_column_that_is_wrong(self, fitted_longer, rows, floor):
        unseen = rows[400:500].copy()
        before = fitted_longer.anomaly_map(unseen).mean(axis=0)
        unseen[:, 2] += 4 * rows[:, 2].std()
        raised = fitted_longer.anomaly_map(unseen).mean(axis=0) - before
        assert raised[2] > floor.column * raised.mean()

    def test_images_with_a_spot(self, fitted_longer_to_images, images, floor):
        unseen, spotted = images[100:], images[100:].copy()
        spotted[:, 2:7, 4:10] *= -1
        scores = fitted_longer_to_images.anomaly_score(np.concatenate([unseen, spotted]))
        assert roc_auc_score(np.arange(100) >= 50, scores) > floor.images

    def test_the_spot_that_is_wrong(self, fitted_longer_to_images, images, floor):
        unseen, spotted = images[100:], images[100:].copy()
        spotted[:, 2:7, 4:10] *= -1
        maps = [fitted_longer_to_images.anomaly_map(X).mean(axis=0) for X in (unseen, spotted)]
        raised = maps[1] - maps[0]
        n_spot = 5 * 6
        spot = raised[2:7, 4:10].sum()
        elsewhere = (raised.sum() - spot) / (raised.size - n_spot)
        assert spot / n_spot > floor.spot * elsewhere
