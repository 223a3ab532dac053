"""Input that cannot be used is refused before training, by an error that says what to do."""

import numpy as np
import pytest
import scipy.sparse
import torch

import gandetect.training.loop
from gandetect import MLP, Checkpoint, ConvNet, EarlyStopping, ExponentialMovingAverage
from gandetect.data.images import ImageFolder
from tests.helpers import needs_callbacks, one_detector


@pytest.fixture
def no_training(monkeypatch):
    def reached(*_):
        raise AssertionError("training began with input that cannot be used")

    monkeypatch.setattr(gandetect.training.loop, "train", reached)


def with_one(value, where, like=float):
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(like)
    X[where] = value
    return X


RAGGED = [[1.0, 2.0], [3.0]]
BAD_X = {
    "nan": (with_one(np.nan, (3, 2)), ValueError, "NaN"),
    "inf": (with_one(np.inf, (3, 2)), ValueError, "infinity"),
    "minus inf": (with_one(-np.inf, (0, 0)), ValueError, "infinity"),
    "nan in an image": (np.full((4, 5, 5), np.nan), ValueError, "NaN"),
    "empty list": ([], ValueError, "(?i)expected 2d|0 sample"),
    "no rows": (np.empty((0, 4)), ValueError, "0 sample"),
    "no columns": (np.empty((5, 0)), ValueError, "0 feature"),
    "no images": (np.empty((0, 8, 8)), ValueError, "0 sample"),
    "images of no height": (np.empty((5, 0, 8)), ValueError, "at least 1"),
    "images of no channel": (np.empty((5, 8, 8, 0)), ValueError, "at least 1"),
    "1 row": (np.ones((1, 4)), ValueError, "1 sample"),
    "1 image": (np.ones((1, 8, 8)), ValueError, "1 sample"),
    "one dimension": (np.ones(10), ValueError, "(?i)reshape your data"),
    "a number": (3.0, (TypeError, ValueError), "(?i)scalar|reshape|array"),
    "None": (None, (TypeError, ValueError), "(?i)None|NaN|array|object"),
    "five axes": (np.ones((4, 2, 2, 2, 2)), ValueError, "row .* or an image"),
    "objects": (np.array([[{}, 1], [2, 3]], dtype=object), TypeError, "dict"),
    "words": (np.array([["a", "b"], ["c", "d"]]), ValueError, "(?i)numeric|convert"),
    "object words": (np.array([["a", 1], ["c", 2]], dtype=object), ValueError, "convert"),
    "complex": (np.ones((5, 2)) * 1j, ValueError, "Complex"),
    "complex images": (np.ones((5, 4, 4)) * 1j, ValueError, "Complex"),
    "sparse matrix": (scipy.sparse.csr_matrix(np.eye(5)), TypeError, "(?i)sparse.*dense"),
    "sparse array": (scipy.sparse.coo_array(np.eye(5)), TypeError, "(?i)sparse.*dense"),
    "ragged": (RAGGED, ValueError, "inhomogeneous"),
}


class TestEveryDetector:
    """That each asks the checks that all share, which are tested below."""

    def test_values_of_x(self, Detector, make, no_training):
        for name in ("nan", "1 row", "words", "sparse matrix", "five axes"):
            X, error, message = BAD_X[name]
            with pytest.raises(error, match=message):
                make(Detector).fit(X)

    def test_parameters(self, Detector, make, rows, no_training):
        for name, value in dict(BAD_PARAMETERS).items():
            with pytest.raises((TypeError, ValueError), match=rf"(?i){name}"):
                make(Detector, **{name: value}).fit(rows[:20])

    def test_networks_of_another_kind_of_sample(self, Detector, make, rows, no_training):
        with pytest.raises(ValueError, match="ConvNet is an architecture for images"):
            make(Detector, architecture=ConvNet()).fit(rows[:20])
        with pytest.raises(ValueError, match="MLP is an architecture for rows"):
            make(Detector, architecture=MLP()).fit(np.zeros((5, 8, 8)))

    def test_what_is_scored(self, fitted_to_rows, rows):
        with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 6"):
            fitted_to_rows.score_samples(rows[:, :5])
        with pytest.raises(ValueError, match="NaN"):
            fitted_to_rows.predict(np.full((3, 6), np.nan))


class TestX:
    @pytest.mark.parametrize("case", BAD_X)
    @one_detector
    def test_fit(self, Detector, make, case, no_training):
        X, error, message = BAD_X[case]
        with pytest.raises(error, match=message):
            make(Detector).fit(X)

    @pytest.mark.parametrize(
        "case", [name for name in BAD_X if name not in ("1 row", "1 image", "no columns")]
    )
    @one_detector
    def test_scoring(self, fitted_to_rows, case):
        X, error, _ = BAD_X[case]
        with pytest.raises(error):
            fitted_to_rows.predict(X)

    @one_detector
    def test_another_number_of_features(self, fitted_to_rows, rows):
        with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 6"):
            fitted_to_rows.score_samples(rows[:, :5])

    @one_detector
    def test_images_to_a_detector_of_rows(self, fitted_to_rows):
        with pytest.raises(ValueError, match=r"shape \(2, 3\), but .* shape \(6,\)"):
            fitted_to_rows.score_samples(np.ones((5, 2, 3)))

    @pytest.mark.parametrize("shape", [(9, 12, 3), (13, 9, 3), (9, 13), (9, 13, 1), (3, 9, 13)])
    @one_detector
    def test_images_of_another_shape(self, fitted_to_images, shape):
        with pytest.raises(ValueError, match=r"fitted with samples of shape \(9, 13, 3\)"):
            fitted_to_images.score_samples(np.ones((5, *shape)))

    @one_detector
    def test_flat_rows_without_image_shape(self, fitted_to_images):
        with pytest.raises(ValueError, match=r"shape \(351,\).*\(9, 13, 3\)"):
            fitted_to_images.score_samples(np.ones((5, 351)))

    @one_detector
    def test_other_column_names(self, Detector, make, rows):
        pandas = pytest.importorskip("pandas")
        detector = make(Detector, epochs=1).fit(pandas.DataFrame(rows[:20], columns=list("abcdef")))
        with pytest.raises(ValueError, match="feature names"):
            detector.predict(pandas.DataFrame(rows[:20], columns=list("abcdeg")))

    @one_detector
    def test_one_row_can_be_scored(self, fitted_to_rows, rows):
        assert fitted_to_rows.predict(rows[:1]).shape == (1,)


class TestImageShape:
    @pytest.mark.parametrize(
        "image_shape", [(3, 3), (2, 5, 1), (8, 8), (2, 2, 2)], ids=lambda shape: str(shape)
    )
    @one_detector
    def test_it_does_not_match(self, Detector, make, rows, image_shape, no_training):
        with pytest.raises(ValueError, match=r"image_shape=.* needs .* rows of \d+ features"):
            make(Detector, image_shape=image_shape).fit(rows[:20])

    @one_detector
    def test_images_of_another_shape(self, Detector, make, no_training):
        with pytest.raises(ValueError, match="image_shape"):
            make(Detector, image_shape=(8, 8)).fit(np.zeros((5, 8, 9)))

    @pytest.mark.parametrize(
        "image_shape", [(0, 6), (-2, -3), (6,), (1, 2, 3, 1), (2.0, 3.0), 6, "2x3", (2, None)]
    )
    @one_detector
    def test_it_is_no_shape(self, Detector, make, rows, image_shape, no_training):
        with pytest.raises((TypeError, ValueError), match="image_shape must be"):
            make(Detector, image_shape=image_shape).fit(rows[:20])

    @one_detector
    def test_channels_without_an_axis(self, Detector, make, no_training):
        with pytest.raises(ValueError, match=r"channel_axis=-1"):
            make(Detector, channel_axis=None).fit(np.zeros((5, 8, 8, 3)))


BAD_PARAMETERS = [
    *[("contamination", value) for value in (0, -0.1, 0.51, 1, np.nan, "all", None)],
    *[("latent_dim", value) for value in (0, -1, 2.5, "big", None, True)],
    *[("n_estimators", value) for value in (0, -1, 1.5, "many", None, True)],
    *[("epochs", value) for value in (0, -1, 1.5, "long", None, False)],
    *[("batch_size", value) for value in (0, -8, 0.5, "all", None, True)],
    *[("learning_rate", value) for value in (-1e-3, np.inf, np.nan, "fast", None)],
    *[("validation_fraction", value) for value in (-0.1, 1, 1.5, np.nan, "some", None)],
    *[("scaling", value) for value in ("minmax", None, 3)],
    *[("score", value) for value in ("best", 3, {}, {"best": 1.0}, ["latent"])],
    *[("channel_axis", value) for value in (1, 3, "last")],
    *[("verbose", value) for value in (-1, "yes", 0.5)],
    *[("device", value) for value in ("gpu", "tpu:0", "cuda:99", "", 0, None)],
    *[("random_state", value) for value in (-1, 2**32, "seed", 0.5, True)],
    *[("architecture", value) for value in ("mlp", MLP, 3)],
]


class TestParameters:
    @pytest.mark.parametrize(
        ("name", "value"), BAD_PARAMETERS, ids=[f"{n}={v!r}" for n, v in BAD_PARAMETERS]
    )
    @one_detector
    def test_shared(self, Detector, make, rows, name, value, no_training):
        with pytest.raises((TypeError, ValueError), match=rf"(?i){name}"):
            make(Detector, **{name: value}).fit(rows[:20])

    @pytest.mark.parametrize("weights", [-1.0, np.nan, np.inf, "1", None])
    @one_detector
    def test_weights_of_parts(self, Detector, make, rows, weights, no_training):
        part = next(iter(Detector.part_weights))
        with pytest.raises(ValueError, match="score must be"):
            make(Detector, score={part: weights}).fit(rows[:20])

    @one_detector
    def test_weights_that_are_all_0(self, Detector, make, rows, no_training):
        with pytest.raises(ValueError, match="not all 0"):
            make(Detector, score=dict.fromkeys(Detector.part_weights, 0)).fit(rows[:20])

    @one_detector
    def test_a_device_that_holds_no_numbers(self, Detector, make, rows, no_training):
        with pytest.raises(ValueError, match="'meta' is not available"):
            make(Detector, device="meta").fit(rows[:20])

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    @one_detector
    def test_a_device_that_is_not_there(self, Detector, make, rows, no_training):
        with pytest.raises(ValueError, match=r"not available .* device='auto' or 'cpu'"):
            make(Detector, device="cuda").fit(rows[:20])

    @one_detector
    def test_a_device_that_has_gone_since_fit(self, Detector, make, rows):
        detector = make(Detector, epochs=1).fit(rows[:20]).set_params(device="cuda:99")
        with pytest.raises(ValueError, match="not available"):
            detector.predict(rows)

    @one_detector
    def test_too_few_rows_are_left_to_train_on(self, Detector, make, rows, no_training):
        with pytest.raises(ValueError, match=r"validation_fraction=0.9 leaves 1 of 5"):
            make(Detector, validation_fraction=0.9).fit(rows[:5])

    @pytest.mark.parametrize("percentage", [-1, 100.001, np.nan, np.inf])
    @one_detector
    def test_outlier_perc(self, fitted_to_rows, rows, percentage):
        with pytest.raises(ValueError, match=r"outlier_perc must be in \[0, 100\]"):
            fitted_to_rows.infer_threshold(rows, outlier_perc=percentage)

    @pytest.mark.parametrize("percentage", ["5", None, [5]])
    @one_detector
    def test_outlier_perc_that_is_no_number(self, fitted_to_rows, rows, percentage):
        with pytest.raises(TypeError, match=r"outlier_perc|not supported"):
            fitted_to_rows.infer_threshold(rows, outlier_perc=percentage)


BAD_ARCHITECTURES = [
    *[(MLP, "hidden_dims", value) for value in ((0,), (8, -4), (8.5,), 8, "64")],
    *[(ConvNet, "n_filters", value) for value in (0, -4, 2.5)],
    *[(ConvNet, "discriminator_filters", value) for value in (0, -4)],
    (ConvNet, "n_extra_layers", -1),
    *[
        (cls, name, value)
        for cls in (MLP, ConvNet)
        for name, value in [
            ("normalization", "instance"),
            ("dropout", 1.0),
            ("dropout", -0.1),
            ("output_activation", "relu"),
        ]
    ],
]


class TestArchitectures:
    @pytest.mark.parametrize(
        ("Architecture", "name", "value"),
        BAD_ARCHITECTURES,
        ids=[f"{cls.__name__}-{name}={value!r}" for cls, name, value in BAD_ARCHITECTURES],
    )
    def test_sizes_and_choices(
        self, rows, make, every_detector, Architecture, name, value, no_training
    ):
        X = rows[:20] if Architecture is MLP else np.zeros((20, 8, 8))
        with pytest.raises((TypeError, ValueError), match=name):
            make(every_detector[0], architecture=Architecture(**{name: value})).fit(X)

    @one_detector
    def test_of_rows_for_images(self, Detector, make, no_training):
        with pytest.raises(ValueError, match="MLP is an architecture for rows"):
            make(Detector, architecture=MLP()).fit(np.zeros((5, 8, 8)))

    @one_detector
    def test_of_images_for_rows(self, Detector, make, rows, no_training):
        with pytest.raises(ValueError, match="ConvNet is an architecture for images"):
            make(Detector, architecture=ConvNet()).fit(rows[:20])


class TestLazyData:
    @one_detector
    def test_a_memory_map_with_nan(self, Detector, make, tmp_path, no_training):
        X = np.memmap(tmp_path / "X", dtype="float32", mode="w+", shape=(30, 4))
        X[:] = with_one(np.nan, (17, 1))[:1].repeat(30, axis=0)
        X[17, 1] = np.nan
        with pytest.raises(ValueError, match="NaN or infinity"):
            make(Detector).fit(X)

    @one_detector
    def test_a_memory_map_of_one_row(self, Detector, make, tmp_path, no_training):
        X = np.memmap(tmp_path / "X", dtype="float32", mode="w+", shape=(1, 4))
        with pytest.raises(ValueError, match="1 sample"):
            make(Detector).fit(X)

    @pytest.mark.parametrize("scaling", ["auto", "none", "robust"])
    @one_detector
    def test_a_dataset_with_nan(self, Detector, make, scaling, no_training):
        X = torch.from_numpy(with_one(np.nan, (17, 1)))
        with pytest.raises(ValueError, match="NaN or infinity"):
            make(Detector, scaling=scaling).fit(torch.utils.data.TensorDataset(X))

    @one_detector
    def test_an_empty_dataset(self, Detector, make, no_training):
        with pytest.raises(ValueError, match="empty"):
            make(Detector).fit(torch.utils.data.TensorDataset(torch.empty(0, 4)))

    @one_detector
    def test_a_dataset_of_one(self, Detector, make, no_training):
        with pytest.raises(ValueError, match="1 sample"):
            make(Detector).fit(torch.utils.data.TensorDataset(torch.ones(1, 4)))

    @one_detector
    def test_a_folder_that_is_not_there(self, Detector, make, tmp_path, no_training):
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            make(Detector).fit(tmp_path / "images")

    @one_detector
    def test_a_folder_without_images(self, Detector, make, tmp_path, no_training):
        (tmp_path / "notes.txt").write_text("none")
        with pytest.raises(FileNotFoundError, match="no image"):
            make(Detector).fit(tmp_path)

    @one_detector
    def test_a_file_that_is_no_image(self, Detector, make, tmp_path, no_training):
        pytest.importorskip("PIL")
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(b"not a picture")
        with pytest.raises(ValueError, match="cannot be read as an image"):
            make(Detector).fit(tmp_path)

    @one_detector
    def test_images_of_several_sizes(self, Detector, make, tmp_path, no_training):
        Image = pytest.importorskip("PIL.Image")
        for i, size in enumerate([(8, 8), (8, 8), (9, 8)]):
            Image.new("L", size).save(tmp_path / f"{i}.png")
        with pytest.raises(ValueError, match="Pass image_size"):
            make(Detector).fit(tmp_path)
        with pytest.raises(AssertionError, match="training began"):
            make(Detector).fit(ImageFolder(tmp_path, image_size=(8, 8)))


class TestCallbacks:
    @pytest.mark.parametrize("decay", [-0.1, 1.0, 2])
    def test_decay(self, decay):
        with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
            ExponentialMovingAverage(decay)

    @needs_callbacks
    @one_detector
    def test_a_loss_that_is_not_there(self, Detector, make, rows):
        detector = make(Detector).set_callbacks(EarlyStopping("validation_nothing"))
        with pytest.raises(ValueError, match=r"monitors 'validation_nothing'.*pass another loss"):
            detector.fit(rows[:20])

    @needs_callbacks
    @one_detector
    def test_a_folder_for_checkpoints_that_is_not_there(
        self, Detector, make, rows, tmp_path, no_training
    ):
        detector = make(Detector).set_callbacks(Checkpoint(tmp_path / "none" / "run"))
        with pytest.raises(FileNotFoundError, match="no such folder"):
            detector.fit(rows[:20])

    @pytest.mark.parametrize("every_n_epochs", [0, -1])
    def test_checkpoints_every_0_epochs(self, tmp_path, every_n_epochs):
        with pytest.raises(ValueError, match="every_n_epochs"):
            Checkpoint(tmp_path / "run", every_n_epochs=every_n_epochs)

    @pytest.mark.parametrize("parameters", [{"patience": 0}, {"patience": -1}, {"min_delta": -1.0}])
    def test_early_stopping(self, parameters):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            EarlyStopping(**parameters)
