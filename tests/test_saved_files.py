"""A detector is saved as data, and loaded with the same bits."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open

from gandetect import MLP, ArchiveError, ConvNet, GANomalyDetector
from gandetect.archive import read_archive, write_archive
from gandetect.saving import SAVED_CLASSES

METHODS = [
    "anomaly_score",
    "decision_function",
    "predict",
    "transform",
    "reconstruct",
    "anomaly_map",
]


def small(**parameters):
    return GANomalyDetector(**{"epochs": 1, "n_estimators": 1, "random_state": 0, **parameters})


class TestSavedAndLoaded:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_same_bits(self, fitted_and_X, tmp_path, method):
        fitted, X = fitted_and_X
        fitted.save(tmp_path / "detector")
        loaded = type(fitted).load(tmp_path / "detector")
        np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(fitted, method)(X))

    def test_everything_learned(self, fitted_and_X, tmp_path):
        fitted, _ = fitted_and_X
        fitted.save(str(tmp_path / "detector"))
        loaded = type(fitted).load(str(tmp_path / "detector"))
        assert loaded.get_params() == fitted.get_params()
        for name in ("history_", "n_iter_", "stop_reason_", "threshold_", "offset_"):
            assert getattr(loaded, name) == getattr(fitted, name)
        for name in ("input_shape_", "sample_shape_", "n_features_in_", "training_report_"):
            assert getattr(loaded, name) == getattr(fitted, name)
        learned = {name for name in vars(fitted) if name.endswith("_")}
        assert {name for name in vars(loaded) if name.endswith("_")} == learned

    @pytest.mark.parametrize(
        "parameters",
        [
            {"architecture": MLP(hidden_dims=(8, 4), spectral_norm=True, normalization="batch")},
            {"architecture": MLP(normalization="layer", dropout=0.3)},
            {"score": "paper"},
            {"score": {"reconstruction": 2, "neighbours": np.float64(0.5)}},
            {"latent_dim": np.int64(2), "scaling": "robust", "learning_rate": 0.1},
            {"validation_fraction": 0.2},
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

    def test_names_of_columns(self, rows, tmp_path):
        pandas = pytest.importorskip("pandas")
        X = pandas.DataFrame(rows[:30], columns=list("abcdef"))
        small().fit(X).save(tmp_path / "detector")
        loaded = GANomalyDetector.load(tmp_path / "detector")
        assert list(loaded.feature_names_in_) == list("abcdef")
        loaded.predict(X)
        with pytest.raises(ValueError, match="feature names"):
            loaded.predict(X.rename(columns={"a": "z"}))

    def test_a_threshold_that_was_inferred(self, fitted_to_rows, rows, tmp_path):
        detector = pickle.loads(pickle.dumps(fitted_to_rows)).infer_threshold(rows, 30)
        detector.save(tmp_path / "detector")
        loaded = type(detector).load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.predict(rows), detector.predict(rows))

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

    def test_saving_and_loading_move_no_generator(self, fitted_to_rows, tmp_path):
        before = torch.get_rng_state()
        fitted_to_rows.save(tmp_path / "detector")
        type(fitted_to_rows).load(tmp_path / "detector")
        pickle.loads(pickle.dumps(fitted_to_rows))
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_parameter_that_is_no_data(self, rows, tmp_path):
        class Own:
            output_activation = "linear"

            def bind(self, *args):
                return MLP().bind(*args)

        detector = small(architecture=Own()).fit(rows[:30])
        with pytest.raises(TypeError, match=r"'parameters/architecture' is a Own.*Pickle"):
            detector.save(tmp_path / "detector")

    def test_the_file_names_its_format(self, fitted_to_rows, tmp_path):
        fitted_to_rows.save(tmp_path / "detector")
        with safe_open(tmp_path / "detector", framework="pt") as file:
            document = json.loads(file.metadata()["gandetect"])
        assert document["format"] == 1


class TestRefused:
    @pytest.fixture
    def tree(self, rows, tmp_path):
        small().fit(rows[:30]).save(tmp_path / "detector")
        return read_archive(tmp_path / "detector", SAVED_CLASSES)

    @pytest.mark.parametrize(
        "part",
        [
            "detector",
            "parameters",
            "fitted_parameters",
            "layout",
            "networks",
            "threshold",
            "training",
        ],
    )
    def test_a_part_is_missing(self, tree, tmp_path, part):
        del tree[part]
        write_archive(tmp_path / "other", tree, SAVED_CLASSES)
        with pytest.raises(ArchiveError):
            GANomalyDetector.load(tmp_path / "other")

    @pytest.mark.parametrize(
        ("part", "content"),
        [
            ("detector", "SomeoneElses"),
            ("detector", np.array(["a", "b"])),
            ("parameters", {"command": "true"}),
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
            ("version", 3),
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
        with pytest.raises(ArchiveError, match="no code"):
            GANomalyDetector.load(tmp_path / "other")

    def test_methods_cannot_be_replaced(self, tree, tmp_path):
        """A file has what was learned, and nothing else of a detector."""
        for part in ("parameters", "fitted_parameters", "scaler", "layout"):
            tree[part]["predict"] = "something else"
            write_archive(tmp_path / "other", tree, SAVED_CLASSES)
            with pytest.raises(ArchiveError):
                GANomalyDetector.load(tmp_path / "other")
            del tree[part]["predict"]

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            GANomalyDetector.load(tmp_path / "detector")
