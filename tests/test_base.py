"""The public methods, written once, where they say more than the contract of a sample."""

import copy
import json
import pickle
import subprocess
import sys
from dataclasses import dataclass, fields
from typing import ClassVar

import joblib
import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted

import gandetect.data.sources
from gandetect import BaseDetector, GANomalyDetector
from gandetect.losses import mean_squared_error
from gandetect.model import Model
from gandetect.training import update
from tests.helpers import before_each_step, interrupt_at, one_detector, weights_of


class AutoencoderModel(Model["AutoencoderDetector"]):
    part_weights: ClassVar[dict[str, tuple[float, float]]] = {"reconstruction": (1.0, 1.0)}

    def build(self, make):
        self.encoder = make.encoder(self.latent_dim)
        self.decoder = make.decoder(self.latent_dim)

    def optimizers(self):
        return {"autoencoder": torch.optim.Adam(self.parameters(), self.settings.learning_rate)}

    def training_step(self, x, run):
        loss = mean_squared_error(x, self.reconstruct(x))
        update(run.optimizers["autoencoder"], loss)
        return {"reconstruction": loss}

    def parts(self, x):
        return {"reconstruction": mean_squared_error(x, self.reconstruct(x))}

    def paper_score(self, parts):
        return parts["reconstruction"] ** self.settings.power

    def encode(self, x):
        return self.encoder(x)

    def reconstruct(self, x):
        return self.decoder(self.encoder(x))


@dataclass(eq=False, repr=False, kw_only=True)
class AutoencoderDetector(BaseDetector):
    """The least that a method can be, as a user would write it.

    Parameters
    ----------
    {shared_parameters}
    power : float, default=2.0
        Of the published score.
    """

    power: float = 2.0

    model_class: ClassVar[type[AutoencoderModel]] = AutoencoderModel


def small(**parameters):
    return GANomalyDetector(**{"epochs": 2, "n_estimators": 2, "random_state": 0, **parameters})


class TestInferThreshold:
    @pytest.fixture
    def detector(self, fitted_to_rows):
        return copy.copy(fitted_to_rows)

    @one_detector
    def test_returns_self(self, detector, rows):
        assert detector.infer_threshold(rows) is detector

    @one_detector
    def test_flags_this_percentage_of_distinct_scores(self, detector, rows):
        X = rows[:200]
        for percentage in (1, 5, 12.5, 50, 99):
            n_flagged = (detector.infer_threshold(X, percentage).predict(X) == -1).sum()
            assert n_flagged == 2 * percentage

    @one_detector
    def test_by_default_5_percent(self, detector, rows):
        assert (detector.infer_threshold(rows[:200]).predict(rows[:200]) == -1).sum() == 10

    @one_detector
    def test_0_flags_nothing_and_100_everything(self, detector, rows):
        assert (detector.infer_threshold(rows, outlier_perc=0).predict(rows) == 1).all()
        assert (detector.infer_threshold(rows, outlier_perc=100).predict(rows) == -1).all()

    @pytest.mark.filterwarnings("ignore:outlier_perc=:UserWarning")
    @one_detector
    def test_ties_flag_fewer(self, detector, rows):
        same = np.repeat(rows[:1], 40, axis=0)
        with pytest.warns(UserWarning, match="ties are not flagged"):
            detector.infer_threshold(same, outlier_perc=30)
        assert (detector.predict(same) == 1).all()
        some = np.concatenate([same, rows[1:11]])
        with pytest.warns(UserWarning, match="ties are not flagged"):
            detector.infer_threshold(some, outlier_perc=30)
        assert (detector.predict(some) == -1).sum() <= 15
        assert (detector.infer_threshold(same, outlier_perc=100).predict(same) == -1).all()

    @one_detector
    def test_moves_the_offset_and_nothing_else(self, detector, rows):
        before = detector.anomaly_score(rows)
        weights, history = weights_of(detector.networks_), detector.history_
        detector.infer_threshold(rows + 1)
        assert detector.offset_ == -detector.threshold_
        for name, value in detector.networks_.state_dict().items():
            assert torch.equal(value, weights[name])
        assert detector.history_ is history
        np.testing.assert_array_equal(detector.anomaly_score(rows), before)


class TestContamination:
    @pytest.mark.parametrize("contamination", [0.05, 0.25])
    @one_detector
    def test_flags_this_share_of_training_rows(self, Detector, make, rows, contamination):
        detector = make(Detector, epochs=1, contamination=contamination).fit(rows[:200])
        n_flagged = (detector.predict(rows[:200]) == -1).sum()
        assert n_flagged == round(200 * contamination)

    def test_flags_this_share_of_training_images(self, Detector, make, images, tiny_convnet):
        X = images[:60]
        detector = make(Detector, epochs=1, architecture=tiny_convnet, contamination=0.2).fit(X)
        assert (detector.predict(X) == -1).sum() == 12


class TestScoreParameter:
    def test_every_part_may_be_chosen_after_fit(self, Detector, make, rows):
        detector = make(Detector)
        parts = [name for name, (of_rows, _) in detector.part_weights.items() if of_rows]
        detector.fit(rows[:60])
        scores = {}
        for name in ["paper", *parts]:
            scores[name] = detector.set_params(score=name).anomaly_score(rows)
            assert np.isfinite(scores[name]).all()
            with pytest.raises(ValueError, match="infer_threshold"):
                detector.predict(rows)
            assert set(detector.infer_threshold(rows).predict(rows)) == {-1, 1}
        weights = dict.fromkeys(parts, 2.0)
        mixed = detector.set_params(score=weights).anomaly_score(rows)
        np.testing.assert_allclose(mixed, sum(scores[name] for name in parts) / len(parts))

    def test_parts_are_standardised_on_training_rows(self, rows):
        detector = small(score="reconstruction", n_estimators=1).fit(rows[:60])
        scores = detector.anomaly_score(rows[:60])
        np.testing.assert_allclose([scores.mean(), scores.std()], [0, 1], atol=1e-9)

    def test_neighbours_need_a_fit_with_them(self, rows):
        detector = small(score="reconstruction").fit(rows[:60])
        detector.set_params(score={"neighbours": 1.0})
        with pytest.raises(ValueError, match="fit it again"):
            detector.anomaly_score(rows)
        assert np.isfinite(detector.fit(rows[:60]).anomaly_score(rows)).all()

    def test_neighbours_of_an_earlier_fit_are_forgotten(self, rows):
        detector = small(score="neighbours").fit(rows[:60])
        detector.set_params(score="reconstruction").fit(rows[:60] + 1)
        assert detector.neighbours_ == {}

    @one_detector
    def test_the_first_threshold_is_of_the_score_that_was_set(self, Detector, make, rows):
        detector = make(Detector, score="paper").fit(rows[:60])
        assert detector.threshold_ == np.percentile(detector.anomaly_score(rows[:60]), 90)


class TestWarmStart:
    def test_goes_on_from_the_networks_of_the_last_fit(self, Detector, make, rows):
        detector = make(Detector, warm_start=True, epochs=3).fit(rows[:60])
        scaler, first = detector.scaler_, detector.networks_.state_dict()
        first = {name: value.clone() for name, value in first.items()}
        detector.set_params(epochs=1).fit(rows[:60])
        assert detector.scaler_ is scaler
        assert detector.n_iter_ == len(detector.history_) == 4
        assert [record["epoch"] for record in detector.history_] == [1, 2, 3, 4]
        # One epoch of a few steps moves weights a little; new random weights would be far away.
        after = detector.networks_.state_dict()
        moved = max((after[n] - w).abs().max() for n, w in first.items() if w.is_floating_point())
        assert 0 < moved < 0.05

    @one_detector
    def test_without_it_a_refit_starts_anew(self, Detector, make, rows):
        detector = make(Detector, epochs=1).fit(rows[:60])
        once = detector.anomaly_score(rows)
        np.testing.assert_array_equal(detector.fit(rows[:60]).anomaly_score(rows), once)
        assert detector.n_iter_ == 1

    @pytest.mark.parametrize("change", [{"latent_dim": 5}, {"n_estimators": 1}])
    def test_other_networks_cannot_go_on(self, rows, change):
        detector = small(warm_start=True).fit(rows[:60])
        with pytest.raises(ValueError, match="warm_start"):
            detector.set_params(**change).fit(rows[:60])

    def test_samples_of_another_shape_cannot_go_on(self, rows):
        detector = small(warm_start=True).fit(rows[:60])
        with pytest.raises(ValueError, match=r"4 features|\(4,\)"):
            detector.fit(rows[:60, :4])
        assert np.isfinite(detector.anomaly_score(rows)).all()


class TestValidationFraction:
    def test_history_has_validation_losses(self, Detector, make, rows):
        detector = make(Detector, validation_fraction=0.25).fit(rows[:100])
        names = {n for n in detector.history_[-1] if n.startswith("validation_")}
        assert names
        assert all(np.isfinite([record[n] for n in names]).all() for record in detector.history_)

    @one_detector
    def test_without_it_there_are_none(self, fitted_to_rows):
        assert not [n for n in fitted_to_rows.history_[-1] if n.startswith("validation_")]

    def test_held_samples_are_not_trained_on(self, rows, monkeypatch):
        seen = set()
        before_each_step(
            monkeypatch,
            GANomalyDetector,
            lambda model, x, n: seen.update(map(tuple, x.flatten(0, 1).tolist())),
        )
        small(validation_fraction=0.3).fit(rows[:100])
        assert len(seen) == 70

    def test_the_threshold_and_p_values_are_taken_from_held_samples(self, rows, monkeypatch):
        trained_on = set()
        before_each_step(
            monkeypatch,
            GANomalyDetector,
            lambda model, x, n: trained_on.update(map(tuple, x.flatten(0, 1).tolist())),
        )
        detector = small(validation_fraction=0.4, contamination=0.5).fit(rows[:100])
        scaled = detector.scaler_(rows[:100]).tolist()
        held = [tuple(row) not in trained_on for row in scaled]
        assert sum(held) == len(detector.normal_scores_) == 40
        assert (detector.predict(rows[:100][held]) == -1).sum() == 20


class TestAllOrNothing:
    """A fit that raises leaves what an earlier one learned, and it still works."""

    @pytest.fixture
    def fitted(self, Detector, make, rows):
        return make(Detector, epochs=1).fit(rows[:60])

    def assert_as_before(self, fitted, rows, before):
        np.testing.assert_array_equal(fitted.anomaly_score(rows), before)
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(fitted)).anomaly_score(rows), before
        )
        assert fitted.n_features_in_ == 6
        assert fitted.n_iter_ == 1

    @pytest.mark.parametrize(
        "X", [np.full((5, 4), np.nan), np.ones((1, 4)), np.ones((2, 3, 4, 5, 6))]
    )
    @one_detector
    def test_x_that_cannot_be_used(self, fitted, rows, X):
        before = fitted.anomaly_score(rows)
        with pytest.raises(ValueError):
            fitted.fit(X)
        self.assert_as_before(fitted, rows, before)

    @pytest.mark.parametrize(
        "bad", [{"latent_dim": 0}, {"n_estimators": 0}, {"n_estimators": -2}, {"contamination": 2}]
    )
    @one_detector
    def test_a_parameter_that_cannot_be_used(self, fitted, rows, bad):
        before = fitted.anomaly_score(rows)
        with pytest.raises(ValueError):
            fitted.set_params(**bad).fit(rows)
        self.assert_as_before(fitted, rows, before)

    @pytest.mark.parametrize("warm_start", [False, True])
    @one_detector
    def test_a_failure_amid_training(self, Detector, fitted, rows, warm_start, monkeypatch):
        before = fitted.anomaly_score(rows)
        fitted.set_params(warm_start=warm_start, epochs=3)

        def fail(model, x, n):
            if n == 2:
                raise RuntimeError("out of memory")

        before_each_step(monkeypatch, Detector, fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            fitted.fit(rows[:60] + 1)
        self.assert_as_before(fitted, rows, before)

    @one_detector
    def test_a_first_fit_that_raises_leaves_nothing(self, Detector, make):
        detector = make(Detector)
        with pytest.raises(ValueError):
            detector.fit(np.full((5, 4), np.inf))
        assert not [name for name in vars(detector) if name.endswith("_")]

    @one_detector
    def test_parameters_set_after_fit_wait_for_the_next(self, fitted, rows):
        before = fitted.anomaly_score(rows)
        fitted.set_params(n_estimators=3, latent_dim=2)
        self.assert_as_before(fitted, rows, before)
        assert fitted.transform(rows[:3]).shape[1] == len(fitted.get_feature_names_out())


class TestInterrupted:
    """Ctrl-C keeps what was learned, and then stops the caller."""

    @pytest.mark.parametrize(("n_th", "n_epochs"), [(6, 2), (1, 0)])
    def test_what_was_learned_is_kept(self, Detector, make, rows, monkeypatch, n_th, n_epochs):
        interrupt_at(monkeypatch, Detector, n_th)
        detector = make(Detector, epochs=9, batch_size=30)
        with (
            pytest.warns(ConvergenceWarning, match=f"interrupted after epoch {n_epochs}"),
            pytest.raises(KeyboardInterrupt),
        ):
            detector.fit(rows[:60])
        assert detector.n_iter_ == len(detector.history_) == n_epochs
        assert "interrupted" in detector.stop_reason_
        assert (detector.predict(rows[:60]) == -1).sum() == 6
        assert not any(
            m.training for network in detector.networks_.values() for m in network.modules()
        )
        # The next fit is not interrupted, and begins anew.
        assert detector.set_params(epochs=1).fit(rows[:60]).n_iter_ == 1

    @one_detector
    def test_a_search_ends_with_the_first_fit_that_is_interrupted(
        self, Detector, make, rows, monkeypatch
    ):
        interrupt_at(monkeypatch, Detector, 2)
        search = GridSearchCV(
            make(Detector, epochs=3), {"latent_dim": [1, 2]}, scoring=n_epochs_of, cv=2
        )
        with pytest.warns(ConvergenceWarning), pytest.raises(KeyboardInterrupt):
            search.fit(rows[:60])
        assert not hasattr(search, "cv_results_")


def n_epochs_of(detector, X, y=None):
    return float(detector.n_iter_)


class TestStored:
    def test_pickle_and_joblib(self, fitted_and_X, tmp_path):
        fitted, X = fitted_and_X
        joblib.dump(fitted, tmp_path / "detector")
        for copied in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "detector")):
            np.testing.assert_array_equal(copied.anomaly_score(X), fitted.anomaly_score(X))
            np.testing.assert_array_equal(copied.predict(X), fitted.predict(X))
            assert copied.get_params() == fitted.get_params()
            assert copied.history_ == fitted.history_

    @one_detector
    def test_a_pickle_of_an_unfitted_detector(self, Detector):
        copied = pickle.loads(pickle.dumps(Detector(latent_dim=3)))
        assert copied.get_params() == Detector(latent_dim=3).get_params()

    def test_in_another_process(self, every_detector, make, rows, tmp_path):
        np.save(tmp_path / "X.npy", rows[:70])
        scores = []
        for i, Detector in enumerate(every_detector):
            detector = make(Detector, epochs=1).fit(rows[:60])
            joblib.dump(detector, tmp_path / f"{i}.joblib")
            (tmp_path / f"{i}.pickle").write_bytes(pickle.dumps(detector))
            detector.save(tmp_path / f"{i}.safetensors")
            scores.append(detector.anomaly_score(rows[:70]))
        done = subprocess.run(
            [sys.executable, "-c", _SCORE_EVERYTHING, str(tmp_path), str(len(scores))],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        for expected, found in zip(scores, json.loads(done.stdout), strict=True):
            for restored in found:
                np.testing.assert_array_equal(restored, expected)


_SCORE_EVERYTHING = """
import json, pickle, sys, joblib, numpy, torch, gandetect
torch.set_num_threads(1)
folder, n = sys.argv[1], int(sys.argv[2])
X = numpy.load(f"{folder}/X.npy")
scores = []
for i in range(n):
    with open(f"{folder}/{i}.pickle", "rb") as file:
        pickled = pickle.load(file)
    loaded = gandetect.load(f"{folder}/{i}.safetensors")
    restored = [joblib.load(f"{folder}/{i}.joblib"), pickled, loaded]
    scores.append([detector.anomaly_score(X).tolist() for detector in restored])
print(json.dumps(scores))
"""


class TestSubclassOutsideThePackage:
    def test_rows_and_images(self, rows, images, tiny_convnet):
        detector = AutoencoderDetector(epochs=3, n_estimators=2, latent_dim=4, random_state=0)
        detector.fit(rows[:60])
        assert set(detector.predict(rows)) == {-1, 1}
        assert detector.transform(rows[:5]).shape == (5, 8)
        detector.set_params(architecture=tiny_convnet).fit(images[:30])
        assert detector.reconstruct(images).shape == images.shape

    def test_its_docstring_has_the_shared_parameters(self):
        assert "latent_dim : int" in AutoencoderDetector.__doc__
        assert "{shared" not in AutoencoderDetector.__doc__
        assert list(AutoencoderDetector().get_params())[-1] == "power"

    def test_it_is_saved_and_loaded_by_its_class(self, rows, tmp_path):
        detector = AutoencoderDetector(epochs=1, n_estimators=1, power=3.0).fit(rows[:60])
        detector.save(tmp_path / "detector")
        loaded = AutoencoderDetector.load(tmp_path / "detector")
        assert loaded.power == 3.0
        np.testing.assert_array_equal(loaded.anomaly_score(rows), detector.anomaly_score(rows))

    def test_a_hook_that_is_missing_is_told_before_any_training(self, rows):
        class UnfinishedModel(AutoencoderModel):
            build = Model.build

        @dataclass(eq=False, repr=False, kw_only=True)
        class Unfinished(AutoencoderDetector):
            model_class: ClassVar[type[UnfinishedModel]] = UnfinishedModel

        with pytest.raises(TypeError, match="does not define build"):
            Unfinished().fit(rows[:20])


class TestColumnNames:
    def test_those_of_an_earlier_fit_do_not_stay(self, rows, tmp_path):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(rows[:40, :4], columns=list("abcd"))
        map_ = np.memmap(tmp_path / "X", dtype="float32", mode="w+", shape=(30, 6))
        map_[:] = rows[:30]
        dataset = torch.utils.data.TensorDataset(torch.from_numpy(rows[:30]))
        for X in (rows[:30], map_, dataset):
            detector = small(epochs=1, n_estimators=1).fit(frame)
            assert list(detector.feature_names_in_) == list("abcd")
            detector.fit(X)
            assert not hasattr(detector, "feature_names_in_")
            assert detector.n_features_in_ == 6
            detector.predict(rows[:3])
            detector.save(tmp_path / "detector")
            loaded = GANomalyDetector.load(tmp_path / "detector")
            assert not hasattr(loaded, "feature_names_in_")


class TestWideRows:
    def test_memory_follows_the_data(self, tmp_path):
        """In MiB beyond torch's import: a build for the CPU takes 220 there, one for CUDA 540."""
        for step in ("fit", "score"):
            command = [sys.executable, "-W", "ignore", "-c", _OF_WIDE_ROWS, step, str(tmp_path)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            mib = float(done.stdout)
            assert mib < {"fit": 800, "score": 480}[step], step


_OF_WIDE_ROWS = """
import sys
import numpy as np, torch

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

imported = peak()
import gandetect
torch.set_num_threads(1)
X = np.random.default_rng(0).normal(size=(50, 20_000)).astype("float32")
step, folder = sys.argv[1:]
if step == "fit":
    detector = gandetect.AdversarialVAEDetector(epochs=1, random_state=0).fit(X)
else:
    detector = gandetect.load(f"{folder}/detector")
    detector.anomaly_score(X[:1])
print(peak() - imported)
if step == "fit":
    detector.save(f"{folder}/detector")
"""


class TestDataclasses:
    def test_every_detector_has_its_own_decorator(self, Detector):
        """Without it a class's own parameters would be shared attributes that no one can set."""
        assert "__dataclass_params__" in vars(Detector), f"{Detector.__name__} is no dataclass"
        assert not vars(Detector)["__dataclass_params__"].eq
        assert not vars(Detector)["__dataclass_params__"].repr
        assert all(field.kw_only for field in fields(Detector))

    def test_every_annotation_is_a_parameter(self, Detector):
        names = {field.name for field in fields(Detector)}
        own = {n for n, kind in vars(Detector)["__annotations__"].items() if "ClassVar" not in kind}
        assert own <= names

    def test_parameters_are_keywords(self, Detector):
        with pytest.raises(TypeError, match="positional"):
            Detector(3)

    def test_the_constructor_only_assigns(self, Detector):
        detector = Detector()
        assert vars(detector).keys() == {field.name for field in fields(Detector)}


@one_detector
def test_check_is_fitted(Detector, make, rows):
    detector = make(Detector, epochs=1)
    with pytest.raises(NotFittedError):
        check_is_fitted(detector)
    check_is_fitted(detector.fit(rows[:20]))


def test_memory_of_training_data_decides_how_they_are_read(rows, monkeypatch):
    """The two ways of reading shuffle differently, and both train."""
    resident = small().fit(rows[:60])
    monkeypatch.setattr(gandetect.data.sources, "_RESIDENT_BYTES", 0)
    streamed = small().fit(rows[:60])
    assert streamed.n_iter_ == resident.n_iter_
    assert set(streamed.predict(rows)) == {-1, 1}
