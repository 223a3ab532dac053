"""A detector is saved as data, and loaded with the same scores, or refused."""

import copy
import json
import pickle
import resource
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

import gandetect
from gandetect import (
    MLP,
    AdversarialVAEDetector,
    ALOCCDetector,
    ArchiveError,
    BiGANDetector,
    ConvNet,
    GANomalyDetector,
)
from gandetect.archive import read_archive, write_archive
from gandetect.saving import SAVED_CLASSES
from tests.helpers import one_detector, rounding_of

METHODS = [
    "anomaly_score",
    "decision_function",
    "predict",
    "transform",
    "reconstruct",
    "anomaly_map",
]
FORMAT_1 = Path(__file__).parent / "files" / "format_1"
EXPECTED = json.loads((FORMAT_1 / "expected.json").read_text())


def small(**parameters):
    return GANomalyDetector(**{"epochs": 1, "n_estimators": 1, "random_state": 0, **parameters})


class TestSavedAndLoaded:
    def test_the_same_bits(self, fitted_and_X, tmp_path):
        fitted, X = fitted_and_X
        fitted.save(tmp_path / "detector")
        loaded = type(fitted).load(tmp_path / "detector")
        for method in METHODS:
            np.testing.assert_array_equal(
                getattr(loaded, method)(X), getattr(fitted, method)(X), err_msg=method
            )

    @one_detector
    def test_everything_learned(self, fitted_and_X, tmp_path):
        fitted, _ = fitted_and_X
        fitted.save(str(tmp_path / "detector"))
        loaded = type(fitted).load(str(tmp_path / "detector"))
        assert loaded.get_params() == fitted.get_params()
        for name in ("history_", "n_iter_", "stop_reason_", "training_report_", "n_features_in_"):
            assert getattr(loaded, name) == getattr(fitted, name)
        for name in ("threshold_", "offset_", "input_shape_", "sample_shape_", "n_members_"):
            assert getattr(loaded, name) == getattr(fitted, name)
        assert vars(loaded).keys() == vars(fitted).keys()

    @pytest.mark.parametrize(
        "parameters",
        [
            {"architecture": MLP(hidden_dims=(8, 4), spectral_norm=True, normalization="batch")},
            {"architecture": MLP(normalization="layer", dropout=0.3)},
            {"score": "paper"},
            {"score": {"reconstruction": 2, "neighbours": np.float64(0.5)}},
            {"latent_dim": np.int64(2), "scaling": "robust", "learning_rate": 0.1},
            {"validation_fraction": 0.2},
            {"trim": 0.2, "store_references": False},
            {"device": torch.device("cpu")},
        ],
        ids=str,
    )
    def test_other_parameters(self, rows, tmp_path, parameters):
        detector = small(**parameters).fit(rows[:60])
        detector.save(tmp_path / "detector")
        loaded = GANomalyDetector.load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.predict(rows), detector.predict(rows))
        np.testing.assert_array_equal(loaded.anomaly_score(rows), detector.anomaly_score(rows))

    @pytest.mark.parametrize("normalization", ["batch", "group", None])
    def test_other_images(self, images, tmp_path, normalization):
        architecture = ConvNet(
            n_filters=4, normalization=normalization, spectral_norm=True, n_extra_layers=1
        )
        detector = small(architecture=architecture, image_shape=(9, 13, 3)).fit(images[:20])
        detector.save(tmp_path / "detector")
        loaded = GANomalyDetector.load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.anomaly_score(images), detector.anomaly_score(images))

    @pytest.mark.parametrize(
        ("Detector", "parameters"),
        [
            (BiGANDetector, {"variant": "alad"}),
            (ALOCCDetector, {"skip": "concat", "tuning_fraction": 0.3}),
            (AdversarialVAEDetector, {"log_variance": None}),
        ],
    )
    def test_variants(self, rows, tmp_path, Detector, parameters):
        detector = Detector(epochs=1, n_estimators=2, random_state=0, **parameters).fit(rows[:60])
        detector.save(tmp_path / "detector")
        loaded = gandetect.load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.anomaly_score(rows), detector.anomaly_score(rows))

    def test_a_classifier_is_data(self, rows, tmp_path):
        y = np.arange(60) % 2
        classifier = FrozenEstimator(LogisticRegression().fit(rows[:60], y))
        detector = AdversarialVAEDetector(epochs=1, n_estimators=1, classifier=classifier)
        detector.fit(rows[:60]).save(tmp_path / "detector")
        loaded = gandetect.load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.anomaly_score(rows), detector.anomaly_score(rows))
        for name, answer in loaded.correct(rows[:9])["data"].items():
            np.testing.assert_array_equal(answer, detector.correct(rows[:9])["data"][name])

    def test_code_is_left_out_and_given_to_load(self, rows, tmp_path):
        network = torch.nn.Linear(6, 2)
        detector = AdversarialVAEDetector(
            epochs=1, n_estimators=1, random_state=0, classifier=network
        ).fit(rows[:60])
        detector.save(tmp_path / "detector")
        with pytest.raises(TypeError, match=r"pass classifier=\.\.\. to load"):
            gandetect.load(tmp_path / "detector")
        loaded = gandetect.load(tmp_path / "detector", classifier=torch.nn.Linear(6, 2))
        np.testing.assert_array_equal(loaded.anomaly_score(rows), detector.anomaly_score(rows))

    def test_names_of_columns(self, rows, tmp_path):
        pandas = pytest.importorskip("pandas")
        X = pandas.DataFrame(rows[:30], columns=list("abcdef"))
        small().fit(X).save(tmp_path / "detector")
        loaded = GANomalyDetector.load(tmp_path / "detector")
        assert list(loaded.feature_names_in_) == list("abcdef")
        loaded.predict(X)
        with pytest.raises(ValueError, match="feature names"):
            loaded.predict(X.rename(columns={"a": "z"}))

    @one_detector
    def test_a_threshold_that_was_inferred(self, fitted_to_rows, rows, tmp_path):
        detector = copy.copy(fitted_to_rows).infer_threshold(rows, 30).calibrate_p_values(rows)
        detector.save(tmp_path / "detector")
        loaded = type(detector).load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.predict(rows), detector.predict(rows))
        np.testing.assert_array_equal(loaded.p_value(rows), detector.p_value(rows))

    def test_a_loaded_detector_goes_on(self, rows, tmp_path):
        small(warm_start=True).fit(rows[:60]).save(tmp_path / "detector")
        loaded = GANomalyDetector.load(tmp_path / "detector")
        assert loaded.fit(rows[:60]).n_iter_ == 2

    def test_a_generator_is_not_saved(self, rows, tmp_path):
        small(random_state=np.random.default_rng(0)).fit(rows[:30]).save(tmp_path / "detector")
        assert GANomalyDetector.load(tmp_path / "detector").random_state is None

    @pytest.mark.parametrize("seed", [7, np.int64(7)])
    def test_a_seed_is(self, rows, tmp_path, seed):
        small(random_state=seed).fit(rows[:30]).save(tmp_path / "detector")
        assert GANomalyDetector.load(tmp_path / "detector").random_state == 7

    @one_detector
    def test_saving_and_loading_move_no_generator(self, fitted_to_rows, tmp_path):
        before = torch.get_rng_state()
        fitted_to_rows.save(tmp_path / "detector")
        type(fitted_to_rows).load(tmp_path / "detector")
        pickle.loads(pickle.dumps(fitted_to_rows))
        assert torch.equal(torch.get_rng_state(), before)

    def test_without_references_no_sample_is_in_the_file(self, Detector, make, rows, tmp_path):
        make(Detector, epochs=1, store_references=False).fit(rows[:30]).save(tmp_path / "detector")
        tree = read_archive(tmp_path / "detector", SAVED_CLASSES)
        assert tree["neighbours"] == {}

    def test_with_references_the_training_rows_are_in_the_file(
        self, Detector, make, rows, tmp_path
    ):
        make(Detector, epochs=1).fit(rows[:30]).save(tmp_path / "detector")
        loaded = gandetect.load(tmp_path / "detector")
        stored = loaded.neighbours_["sample_neighbours"].points[0].double()
        read_back = loaded.scaler_.inverse(stored).numpy()
        order = np.lexsort(rows[:30].T), np.lexsort(read_back.T)
        np.testing.assert_allclose(read_back[order[1]], rows[:30][order[0]], atol=1e-4)

    def test_a_parameter_that_is_no_data(self, rows, tmp_path):
        class Own:
            output_activation = "linear"

            def bind(self, *args):
                return MLP().bind(*args)

        detector = small(architecture=Own()).fit(rows[:30])
        with pytest.raises(TypeError, match=r"parameters/architecture' is a Own.*Pickle"):
            detector.save(tmp_path / "detector")

    def test_a_parameter_that_cannot_be_used_is_told_before_the_file(self, rows, tmp_path):
        detector = small().fit(rows[:30]).set_params(latent_dim=0)
        with pytest.raises(ValueError, match="latent_dim"):
            detector.save(tmp_path / "detector")
        assert not list(tmp_path.iterdir())

    def test_a_column_that_was_constant(self, rows, tmp_path):
        X = np.column_stack([rows, np.full(len(rows), 3.0)])
        fitted = small().fit(X[:30])
        fitted.save(tmp_path / "detector")
        X[::2, -1] = 4.0
        loaded = gandetect.load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.anomaly_score(X), fitted.anomaly_score(X))
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(fitted)).predict(X), loaded.predict(X)
        )

    @one_detector
    def test_the_file_names_its_format(self, fitted_to_rows, tmp_path):
        fitted_to_rows.save(tmp_path / "detector")
        with safe_open(tmp_path / "detector", framework="pt") as file:
            document = json.loads(file.metadata()["gandetect"])
        assert document["format"] == 1


@pytest.mark.parametrize("name", EXPECTED["detectors"])
class TestFilesOfTheFirstForm:
    def test_they_score_as_they_did(self, name):
        X = np.array(EXPECTED[name.rsplit("_")[-1]])
        loaded = gandetect.load(FORMAT_1 / f"{name}.safetensors")
        expected, rounding = EXPECTED["detectors"][name], rounding_of(loaded)
        scores = np.array(expected["anomaly_score"])
        np.testing.assert_allclose(loaded.anomaly_score(X), scores, atol=rounding)
        assert loaded.threshold_ == pytest.approx(expected["threshold"], abs=rounding)
        is_far = np.abs(scores - expected["threshold"]) > rounding
        is_outlier = scores > expected["threshold"]
        np.testing.assert_array_equal((loaded.predict(X) == -1)[is_far], is_outlier[is_far])

    def test_they_are_saved_in_the_form_of_now(self, name, tmp_path):
        X = np.array(EXPECTED[name.rsplit("_")[-1]])
        loaded = gandetect.load(FORMAT_1 / f"{name}.safetensors")
        loaded.save(tmp_path / "detector")
        again = gandetect.load(tmp_path / "detector")
        np.testing.assert_array_equal(again.anomaly_score(X), loaded.anomaly_score(X))
        np.testing.assert_array_equal(again.predict(X), loaded.predict(X))


class TestWeightsOfTheDefaultScore:
    OTHERS: ClassVar = {**GANomalyDetector.part_weights, "latent": (3.0, 0.25)}

    def test_a_file_keeps_its_own(self, rows, tmp_path, monkeypatch):
        fitted = small().fit(rows[:30])
        scores = fitted.anomaly_score(rows)
        fitted.save(tmp_path / "detector")
        monkeypatch.setattr(GANomalyDetector.model_class, "part_weights", self.OTHERS)
        loaded = gandetect.load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.anomaly_score(rows), scores)
        loaded.set_params(score="latent").set_params(score=None)
        np.testing.assert_array_equal(loaded.anomaly_score(rows), scores)
        loaded.save(tmp_path / "again")
        again = gandetect.load(tmp_path / "again")
        np.testing.assert_array_equal(again.anomaly_score(rows), scores)
        # A new fit has those of now, also of networks that are trained further.
        for parameters in ({}, {"warm_start": True}):
            now = loaded.set_params(**parameters).fit(rows[:30]).model_.default_weights()
            assert now["latent"] == 3

    def test_of_the_second_form_they_are_the_former_ones(self, rows, tmp_path):
        small(score={"latent": 1, "reconstruction": 1}).fit(rows[:30]).save(tmp_path / "detector")
        tree = read_archive(tmp_path / "detector", SAVED_CLASSES)
        del tree["part_weights"]
        tree["version"] = 2
        for values in (tree["parameters"], tree["fitted_parameters"], tree["threshold_definition"]):
            values["score"] = None
        write_archive(tmp_path / "older", tree, SAVED_CLASSES)
        older, newer = (gandetect.load(tmp_path / name) for name in ("older", "detector"))
        np.testing.assert_array_equal(older.anomaly_score(rows), newer.anomaly_score(rows))
        np.testing.assert_array_equal(older.predict(rows), newer.predict(rows))

    @pytest.mark.parametrize("weights", [{"latent": -1.0}, {"latents": 1.0}, {"latent": 0}, [1.0]])
    def test_others_are_refused(self, rows, tmp_path, weights):
        small().fit(rows[:30]).save(tmp_path / "detector")
        tree = read_archive(tmp_path / "detector", SAVED_CLASSES)
        write_archive(tmp_path / "forged", {**tree, "part_weights": weights}, SAVED_CLASSES)
        with pytest.raises(ArchiveError):
            gandetect.load(tmp_path / "forged")


@pytest.fixture(scope="module")
def forged_from(tmp_path_factory):
    """The trees of small detectors, by name, with an X that each of them scores."""
    rng = np.random.default_rng(0)
    X = {"rows": rng.normal(size=(20, 3)), "images": rng.normal(size=(20, 8, 8))}
    classifier = FrozenEstimator(LogisticRegression().fit(X["rows"], np.arange(20) % 2))
    of_rows = {"architecture": MLP(hidden_dims=(4,)), "epochs": 1, "n_estimators": 2}
    of_images = {**of_rows, "architecture": ConvNet(n_filters=2)}
    detectors = {
        "GANomaly": (small(**of_images), X["images"]),
        "BiGAN": (BiGANDetector(**of_rows, validation_fraction=0.2), X["rows"]),
        "AdversarialVAE": (AdversarialVAEDetector(**of_rows, classifier=classifier), X["rows"]),
    }
    path, trees = tmp_path_factory.mktemp("forged") / "detector", {}
    for name, (detector, x) in detectors.items():
        detector.fit(x).save(path)
        trees[name] = read_archive(path, SAVED_CLASSES), x
    return trees


def places_in(tree, path=()):
    """The ways to every dict, list, number, word and tensor of a tree."""
    yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places_in(value, (*path, key))


def changed_at(tree, path, value):
    """The tree with another value in one place."""
    if not path:
        return value
    return {**tree, path[0]: changed_at(tree[path[0]], path[1:], value)}


def found_at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def forgeries(value):
    """What may be put in the place of a value."""
    yield from (None, -1, 2**62, float("nan"), "word", {}, [], {"a": 1.0}, np.zeros((2, 2, 2)))
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim:
        value = torch.as_tensor(value)
        yield from (value[..., :-1], value[None], value[:0], value.long(), value * torch.nan)
    if isinstance(value, MLP):
        yield from (MLP(hidden_dims=(2**30,)), MLP(hidden_dims=(4, 4)), ConvNet(n_filters=2))
    if isinstance(value, ConvNet):
        yield from (ConvNet(n_filters=2**20), MLP(hidden_dims=(4,)))
    if isinstance(value, tuple | list):
        n = len(value)
        yield from ([2**40] * n, [2**13] * n, [*value, 1], [str(v) for v in value])


def uses(detector, X):
    """Everything that is asked of a detector without another fit."""
    for method in METHODS:
        getattr(detector, method)(X)
    if hasattr(detector, "correct"):
        detector.correct(X)
    json.dumps(detector.summary())
    pickle.loads(pickle.dumps(copy.deepcopy(detector)))


class TestForged:
    @pytest.mark.parametrize("name", ["GANomaly", "BiGAN", "AdversarialVAE"])
    def test_it_is_refused_or_works(self, forged_from, name, tmp_path):
        """Each value in turn is replaced; one in so many of all that could be, chosen by chance."""
        tree, X = forged_from[name]
        rng = np.random.default_rng(0)
        places = list(places_in(tree))
        cases = [(path, forged) for path in places for forged in forgeries(found_at(tree, path))]
        n_refused, most_before = 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in rng.permutation(len(cases))[:N_FORGED]:
            path, forged = cases[i]
            try:
                write_archive(tmp_path / "file", changed_at(tree, path, forged), SAVED_CLASSES)
            except (TypeError, ValueError, AttributeError):
                continue  # a file cannot hold it
            try:
                detector = gandetect.load(tmp_path / "file")
            except ArchiveError:
                n_refused += 1
                continue
            except TypeError as error:
                assert "does not contain" in str(error), (path, forged)
                continue
            try:
                uses(detector, X)
            except Exception as error:
                pytest.fail(f"{path} = {forged!r}: {type(error).__name__}: {error}")
        assert n_refused > N_FORGED / 4
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most_before
        assert grown < 2**20  # KiB

    @pytest.mark.parametrize(
        "part",
        [
            "detector",
            "parameters",
            "fitted_parameters",
            "layout",
            "networks",
            "scaler",
            "threshold",
            "training",
        ],
    )
    def test_a_part_is_missing(self, forged_from, tmp_path, part):
        tree = dict(forged_from["BiGAN"][0])
        del tree[part]
        write_archive(tmp_path / "file", tree, SAVED_CLASSES)
        with pytest.raises(ArchiveError):
            BiGANDetector.load(tmp_path / "file")

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("threshold_definition", "alpha"), {}),
            (("threshold_definition", "score"), {"reconstruction": {}}),
            (("normal_scores_definition", "alpha"), "0.9"),
            (("threshold_definition",), {}),
            (("parameters", "device"), -1),
            (("parameters", "device"), "gpu"),
            (("parameters", "alpha"), {}),
            (("neighbours", "neighbours", "points"), torch.ones(2, 18, 7)),
            (("neighbours", "neighbours", "points"), torch.ones(2, 18, 2, dtype=torch.float64)),
            (("neighbours", "neighbours", "spreads"), torch.ones(1, 1)),
            (("neighbours", "neighbours", "spreads"), torch.zeros(2, 16)),
            (("neighbours", "neighbours"), None),
            (("neighbours",), {}),
            (("calibration",), None),
            (("calibration", "mean"), {}),
            (("calibration", "mean", "reconstruction"), torch.ones(3, dtype=torch.float64)),
            (("scaler", "center"), torch.ones(2, dtype=torch.float64)),
            (("scaler", "spread"), -torch.ones(3, dtype=torch.float64)),
            (("scaler", "kind"), "unit"),
            (("layout", "input_shape"), (2**20, 2**20)),
            (("layout", "channel_axis"), "first"),
            (("score_unit",), 0.0),
            (("map_scale",), "x"),
            (("normal_scores",), np.zeros(0)),
            (("training", "history"), [3]),
            (("left_out",), ["latent_dim"]),
            (("left_out",), 3),
            (("version",), 4),
        ],
        ids=lambda value: None if isinstance(value, torch.Tensor | np.ndarray) else str(value),
    )
    def test_what_would_fail_later_is_refused(self, forged_from, tmp_path, path, value):
        tree = changed_at(forged_from["BiGAN"][0], path, value)
        write_archive(tmp_path / "file", tree, SAVED_CLASSES)
        with pytest.raises(ArchiveError):
            gandetect.load(tmp_path / "file")

    def test_a_calibration_that_lacks_a_part(self, forged_from, tmp_path):
        tree = forged_from["BiGAN"][0]
        parts = dict(tree["calibration"]["mean"])
        del parts["latent"]
        for of in ("mean", "spread"):
            values = {name: tree["calibration"][of][name] for name in parts}
            tree = changed_at(tree, ("calibration", of), values)
        write_archive(tmp_path / "file", tree, SAVED_CLASSES)
        with pytest.raises(ArchiveError, match="calibration"):
            gandetect.load(tmp_path / "file")

    @pytest.mark.parametrize("size", [2**9, 2**14, 2**40])
    def test_images_so_large_that_they_fill_the_memory(self, forged_from, tmp_path, size):
        tree = forged_from["GANomaly"][0]
        tree = changed_at(tree, ("layout", "input_shape"), (size, size))
        tree = changed_at(tree, ("layout", "sample_shape"), (1, size, size))
        write_archive(tmp_path / "file", tree, SAVED_CLASSES)
        with pytest.raises(ArchiveError):
            gandetect.load(tmp_path / "file")

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            GANomalyDetector.load(tmp_path / "detector")


class TestRefused:
    @pytest.fixture
    def tree(self, rows, tmp_path):
        small().fit(rows[:30]).save(tmp_path / "detector")
        return read_archive(tmp_path / "detector", SAVED_CLASSES)

    @pytest.mark.parametrize(
        ("part", "content"),
        [
            ("detector", "SomeoneElses"),
            ("detector", np.array(["a", "b"])),
            ("parameters", {"command": "true"}),
            ("parameters", {"predict": "something else"}),
            ("parameters", 3),
            ("fitted_parameters", {"latent_dim": 3}),
            ("fitted_parameters", {"latent_dim": 10**9}),
            ("layout", 3),
            ("layout", {"input_shape": (6,), "sample_shape": (5,), "channel_axis": -1}),
            ("layout", {"input_shape": (0,), "sample_shape": (0,), "channel_axis": -1}),
            ("feature_names", np.array(["a"])),
            ("scaler", {"kind": "standard"}),
            ("calibration", {"mean": {}, "spread": {}}),
            ("neighbours", {"neighbours": 3}),
            ("threshold", float("nan")),
            ("threshold", "low"),
            ("score_unit", float("inf")),
            ("normal_scores", np.array([1.0, np.nan])),
            ("normal_scores", np.array(["low"])),
            ("training", {"history": 3}),
            ("version", 4),
            ("networks", {}),
            ("networks", {"encoder": torch.ones(3)}),
            ("networks", 3),
        ],
        ids=str,
    )
    def test_a_part_is_something_else(self, tree, tmp_path, part, content):
        tree[part] = content
        write_archive(tmp_path / "other", tree, SAVED_CLASSES)
        with pytest.raises(ArchiveError):
            GANomalyDetector.load(tmp_path / "other")

    @pytest.mark.parametrize("left_out", [3, "classifier", ["latent_dim"], [[]], [3], {}])
    def test_what_is_left_out_is_no_code(self, tree, tmp_path, left_out):
        tree["left_out"] = left_out
        write_archive(tmp_path / "other", tree, SAVED_CLASSES)
        with pytest.raises(ArchiveError, match="which are data"):
            GANomalyDetector.load(tmp_path / "other")

    def test_methods_cannot_be_replaced(self, tree, tmp_path):
        """A file has what was learned, and nothing else of a detector."""
        for part in ("parameters", "fitted_parameters", "scaler", "layout"):
            tree[part]["predict"] = "something else"
            write_archive(tmp_path / "other", tree, SAVED_CLASSES)
            with pytest.raises(ArchiveError):
                GANomalyDetector.load(tmp_path / "other")
            del tree[part]["predict"]


# Of several hundred places and a dozen values each: so many are tried of each detector.
N_FORGED = 120
