"""Every promise that all detectors make, held by every detector that is registered."""

import copy
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from torch import nn

from gandetect.model.thresholds import threshold_at_percentile

METHODS_PER_SAMPLE = ["anomaly_score", "transform", "reconstruct", "anomaly_map"]


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


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
        step = Detector._train_step

        def remembering(self, nets, optimizers, x, progress):
            losses = step(self, nets, optimizers, x, progress)
            returned.update(losses)
            return losses

        monkeypatch.setattr(Detector, "_train_step", remembering)
        detector = make(Detector).fit(rows[:60])
        assert {"epoch", *returned} == set(detector.history_[-1])

    def test_networks_are_in_eval_mode(self, fitted_and_X):
        networks = fitted_and_X[0].networks_
        assert isinstance(networks, nn.ModuleDict)
        assert not any(module.training for module in networks.modules())

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


@pytest.mark.parametrize("method", METHODS_PER_SAMPLE)
class TestBits:
    """A sample gives the same bits wherever and whenever it is scored."""

    def test_twice(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        np.testing.assert_array_equal(apply(X), apply(X))

    def test_alone(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        together = apply(X)
        # First and last of a block of 64 images or 512 rows, and of X.
        for i in {0, 1, 63, 64, 65, 127, 128, 511, 512, 513, 1023, 1024, len(X) - 1}:
            if i < len(X):
                np.testing.assert_array_equal(apply(X[i : i + 1])[0], together[i])

    def test_any_order(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        order = np.random.default_rng(0).permutation(len(X))
        np.testing.assert_array_equal(apply(X[order]), apply(X)[order])

    @pytest.mark.parametrize("size", [64, 100])
    def test_in_batches(self, fitted_and_X, method, size):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        parts = [apply(X[start : start + size]) for start in range(0, len(X), size)]
        np.testing.assert_array_equal(np.concatenate(parts), apply(X))

    def test_any_number_of_threads(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        on_one_thread = apply(X)
        torch.set_num_threads(2)
        try:
            on_two_threads = apply(X)
        finally:
            torch.set_num_threads(1)
        np.testing.assert_array_equal(on_two_threads, on_one_thread)

    def test_from_several_threads_at_once(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        apply = getattr(fitted, method)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(apply, [X, X[::-1], X, X[::-1]]))
        for result, step in zip(results, [1, -1, 1, -1], strict=True):
            np.testing.assert_array_equal(result[::step], apply(X))


class TestNothingIsWrittenWhileScoring:
    @pytest.mark.parametrize("method", ["predict", "decision_function", *METHODS_PER_SAMPLE])
    def test_attributes_and_weights(self, fitted_and_X, method):
        fitted, X = fitted_and_X
        attributes, pickled = dict(vars(fitted)), pickle.dumps(fitted)
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
    def test_every_optimizer_moves_its_own_weights_and_no_others(
        self, Detector, make, rows, monkeypatch
    ):
        build = Detector._build_optimizers
        moved = {}

        def watched(self, nets):
            optimizers = build(self, nets)
            for name, optimizer in optimizers.items():
                before = {}

                def remember(*_, before=before):
                    before.update({n: p.detach().clone() for n, p in nets.named_parameters()})

                def compare(*_, name=name, before=before):
                    changed = {
                        n for n, p in nets.named_parameters() if not torch.equal(p, before[n])
                    }
                    moved.setdefault(name, set()).update(changed)

                optimizer.register_step_pre_hook(remember)
                optimizer.register_step_post_hook(compare)
                own = {id(p) for group in optimizer.param_groups for p in group["params"]}
                owned[name] = {n for n, p in nets.named_parameters() if id(p) in own}
            return optimizers

        owned: dict[str, set[str]] = {}
        monkeypatch.setattr(Detector, "_build_optimizers", watched)
        make(Detector, epochs=5).fit(rows[:60])
        assert moved.keys() == owned.keys()
        for name in owned:
            assert moved[name], f"{name} moved nothing"
            assert moved[name] <= owned[name], f"{name} moved what is not its own"

    def test_every_network_has_an_owner(self, Detector, fitted_and_X):
        networks = fitted_and_X[0].networks_
        optimizers = fitted_and_X[0]._build_optimizers(networks)
        owned = {
            id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]
        }
        orphans = [
            n for n, p in networks.named_parameters() if p.requires_grad and id(p) not in owned
        ]
        assert not orphans

    def test_every_network_is_trained(self, Detector, make, rows, monkeypatch):
        initial = {}
        make_networks = Detector._make_networks

        def remembering(self):
            networks = make_networks(self)
            initial.update(weights_of(networks))
            return networks

        monkeypatch.setattr(Detector, "_make_networks", remembering)
        networks = make(Detector, epochs=5).fit(rows[:60]).networks_
        trainable = {n for n, p in networks.named_parameters() if p.requires_grad}
        moved = {n for n, w in networks.state_dict().items() if not torch.equal(w, initial[n])}
        assert {n.split(".")[0] for n in trainable} <= {n.split(".")[0] for n in moved}

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


@pytest.fixture(scope="session")
def fitted_longer(Detector, make, rows):
    detector = make(Detector, epochs=30, latent_dim=2, learning_rate=3e-3, batch_size=32)
    return detector.fit(rows[:200])


@pytest.fixture(scope="session")
def fitted_longer_to_images(Detector, make, images, tiny_convnet):
    detector = make(Detector, epochs=20, latent_dim=4, learning_rate=3e-3)
    return detector.set_params(architecture=tiny_convnet).fit(images[:100])


class TestFinds:
    """Planted anomalies, with room below what these settings reach."""

    def test_rows_off_the_plane(self, fitted_longer, rows):
        unseen = rows[400:600]
        # Each column is as it should be, but not together with the others.
        outliers = np.random.default_rng(1).permuted(unseen, axis=0)
        X = np.concatenate([unseen, outliers])
        is_outlier = np.arange(400) >= 200
        assert roc_auc_score(is_outlier, fitted_longer.anomaly_score(X)) > 0.9
        detector = copy.deepcopy(fitted_longer).infer_threshold(X, outlier_perc=50)
        assert ((detector.predict(X) == -1) == is_outlier).mean() > 0.8

    def test_the_column_that_is_wrong(self, fitted_longer, rows):
        unseen = rows[400:500].copy()
        before = fitted_longer.anomaly_map(unseen).mean(axis=0)
        unseen[:, 2] += 4 * rows[:, 2].std()
        raised = fitted_longer.anomaly_map(unseen).mean(axis=0) - before
        assert raised[2] > 1.2 * raised.mean()

    def test_images_with_a_spot(self, fitted_longer_to_images, images):
        unseen, spotted = images[100:], images[100:].copy()
        spotted[:, 2:7, 4:10] *= -1
        scores = fitted_longer_to_images.anomaly_score(np.concatenate([unseen, spotted]))
        assert roc_auc_score(np.arange(100) >= 50, scores) > 0.9

    def test_the_spot_that_is_wrong(self, fitted_longer_to_images, images):
        unseen, spotted = images[100:], images[100:].copy()
        spotted[:, 2:7, 4:10] *= -1
        maps = [fitted_longer_to_images.anomaly_map(X).mean(axis=0) for X in (unseen, spotted)]
        raised = maps[1] - maps[0]
        n_spot = 5 * 6
        spot = raised[2:7, 4:10].sum()
        elsewhere = (raised.sum() - spot) / (raised.size - n_spot)
        assert spot / n_spot > 2 * elsewhere
