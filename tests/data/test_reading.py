"""Whatever X is, the detector reads the same samples from it."""

import numpy as np
import pytest
import torch

from gandetect import ConvNet, GANomalyDetector
from gandetect.data.reading import read

SIZES = [(1, 1), (3, 5), (7, 7), (8, 8), (9, 13), (17, 17), (28, 28), (31, 33), (64, 48)]
TINY = ConvNet(n_filters=2)


class TestImagesOfAnySize:
    @pytest.mark.parametrize("n_channels", [None, 1, 3, 5])
    @pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
    def test_the_output_has_the_inputs_shape(self, Detector, make, size, n_channels):
        shape = size if n_channels is None else (*size, n_channels)
        X = np.random.default_rng(0).normal(size=(5, *shape))
        detector = make(Detector, epochs=1, n_estimators=1, latent_dim=2, architecture=TINY).fit(X)
        assert detector.input_shape_ == shape
        assert detector.n_features_in_ == np.prod(shape)
        assert detector.transform(X).shape == (5, 2)
        assert detector.anomaly_map(X).shape == (5, *size)
        assert detector.reconstruct(X).shape == X.shape
        assert np.isfinite(detector.reconstruct(X)).all()
        assert np.isfinite(detector.anomaly_score(X)).all()

    @pytest.mark.parametrize("size", [(1, 1), (9, 13)])
    def test_channels_first_are_the_same_images(self, Detector, make, size):
        X = np.random.default_rng(0).normal(size=(20, *size, 3))
        last = make(Detector, architecture=TINY).fit(X)
        first = make(Detector, architecture=TINY, channel_axis=0).fit(np.moveaxis(X, -1, 1))
        assert first.input_shape_ == (3, *size)
        X_first = np.moveaxis(X, -1, 1)
        np.testing.assert_array_equal(first.anomaly_score(X_first), last.anomaly_score(X))
        np.testing.assert_array_equal(first.anomaly_map(X_first), last.anomaly_map(X))
        np.testing.assert_array_equal(
            first.reconstruct(X_first), np.moveaxis(last.reconstruct(X), -1, 1)
        )

    def test_one_channel_is_a_gray_image(self, Detector, make, images):
        gray = images[:20, ..., 0]
        without = make(Detector, architecture=TINY, channel_axis=None).fit(gray)
        with_axis = make(Detector, architecture=TINY).fit(gray[..., None])
        np.testing.assert_array_equal(
            without.anomaly_score(gray), with_axis.anomaly_score(gray[..., None])
        )

    @pytest.mark.parametrize(
        ("channel_axis", "shape"),
        [(-1, (9, 13, 3)), (0, (3, 9, 13)), (None, (9, 39)), (-1, (27, 13))],
    )
    def test_flat_rows_are_the_same_images(self, Detector, make, images, channel_axis, shape):
        X = images[:20].reshape(20, *shape)
        flat = X.reshape(20, -1)
        detector = make(Detector, architecture=TINY, channel_axis=channel_axis).fit(X)
        of_rows = make(
            Detector, architecture=TINY, channel_axis=channel_axis, image_shape=shape
        ).fit(flat)
        assert of_rows.input_shape_ == shape
        np.testing.assert_array_equal(of_rows.anomaly_score(flat), detector.anomaly_score(X))
        np.testing.assert_array_equal(of_rows.anomaly_map(flat), detector.anomaly_map(X))
        np.testing.assert_array_equal(of_rows.anomaly_score(X), detector.anomaly_score(X))
        assert of_rows.reconstruct(flat).shape == flat.shape
        np.testing.assert_array_equal(
            of_rows.reconstruct(flat).reshape(X.shape), detector.reconstruct(X)
        )

    def test_image_shape_as_a_list(self, images):
        detector = GANomalyDetector(
            epochs=1, n_estimators=1, architecture=TINY, image_shape=[9, 13, 3]
        )
        flat = images[:20].reshape(20, -1)
        assert detector.fit(flat).reconstruct(flat).shape == flat.shape

    def test_8_bit_images(self, Detector, make):
        X = np.random.default_rng(0).integers(0, 256, size=(20, 8, 8, 3), dtype=np.uint8)
        detector = make(Detector, architecture=TINY).fit(X)
        assert np.isfinite(detector.anomaly_score(X)).all()
        x_hat = detector.reconstruct(X)
        assert x_hat.min() >= 0
        assert x_hat.max() <= 255
        assert x_hat.max() > 2  # in units of X, not of the networks


@pytest.fixture(scope="session")
def X(rows):
    """Rows that lose nothing as float32."""
    return rows[:60].astype(np.float32).astype(np.float64)


class TestContainers:
    """Of the same numbers come the same bits."""

    @pytest.mark.parametrize(
        "convert",
        [
            lambda X: X.tolist(),
            lambda X: X.astype(np.float32),
            lambda X: X.astype(object),
            np.asfortranarray,
            lambda X: np.repeat(X, 2, axis=0)[::2],
            lambda X: X.astype(">f8"),
            torch.from_numpy,
            lambda X: torch.from_numpy(X).requires_grad_(),
        ],
        ids=[
            "lists",
            "float32",
            "objects",
            "Fortran order",
            "strided",
            "big endian",
            "tensor",
            "tensor with gradient",
        ],
    )
    def test_arrays(self, Detector, make, X, convert):
        scores = make(Detector).fit(X).anomaly_score(X)
        other = make(Detector).fit(convert(X))
        np.testing.assert_array_equal(other.anomaly_score(X), scores)
        np.testing.assert_array_equal(other.anomaly_score(convert(X)), scores)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_frames(self, Detector, make, X, library):
        frame = pytest.importorskip(library).DataFrame(dict(zip("abcdef", X.T, strict=True)))
        detector = make(Detector).fit(frame)
        assert list(detector.feature_names_in_) == list("abcdef")
        np.testing.assert_array_equal(
            detector.anomaly_score(frame), make(Detector).fit(X).anomaly_score(X)
        )

    def test_names_of_columns_are_forgotten(self, rows, images):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(rows[:30], columns=list("abcdef"))
        detector = GANomalyDetector(epochs=1, n_estimators=1)
        assert hasattr(detector.fit(frame), "feature_names_in_")
        assert not hasattr(detector.fit(rows[:30]), "feature_names_in_")
        detector.fit(frame).set_params(architecture=TINY).fit(images[:10])
        assert not hasattr(detector, "feature_names_in_")

    @pytest.mark.parametrize(
        "dtype", ["bool", "int8", "uint8", "int64", "uint16", "float16", "float32", "float64"]
    )
    @pytest.mark.parametrize("shape", [(4,), (4, 5)])
    def test_numeric_dtypes(self, Detector, make, dtype, shape):
        X = np.random.default_rng(0).integers(0, 2, size=(20, *shape)).astype(dtype)
        architecture = TINY if len(shape) > 1 else None
        detector = make(Detector, epochs=1, architecture=architecture).fit(X)
        scores = detector.anomaly_score(X)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()

    def test_images_as_tensors_and_lists(self, Detector, make, images):
        X = images[:10]
        detector = make(Detector, epochs=1, architecture=TINY).fit(torch.from_numpy(X))
        scores = detector.anomaly_score(X)
        np.testing.assert_array_equal(detector.anomaly_score(X.tolist()), scores)


class TestSizes:
    """Few rows, odd columns: all work, and the scores are finite."""

    @pytest.mark.parametrize("n", range(2, 11))
    def test_few_rows(self, Detector, make, rows, n):
        detector = make(Detector, epochs=1).fit(rows[:n])
        assert detector.n_iter_ == 1
        assert np.isfinite(detector.anomaly_score(rows)).all()

    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_few_images(self, Detector, make, images, n):
        detector = make(Detector, epochs=1, architecture=TINY).fit(images[:n])
        assert np.isfinite(detector.anomaly_score(images)).all()

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 59, 60, 61, 10**9])
    def test_any_batch_size(self, Detector, make, rows, batch_size):
        detector = make(Detector, epochs=1, batch_size=batch_size).fit(rows[:60])
        assert np.isfinite(detector.anomaly_score(rows)).all()

    @pytest.mark.parametrize(
        "change",
        [
            lambda X: X[:, :1],
            lambda X: X * [1, 0, 1, 1, 0, 1] + 3,
            lambda X: np.ones_like(X),
            lambda X: np.zeros_like(X),
            lambda X: np.full_like(X, 1e9),
            lambda X: np.repeat(X[:5], 12, axis=0),
            lambda X: X * [1e9, 1e-9, 1, 1, 1e-9, 1e9],
            lambda X: X + np.array([1e9, 0, 0, 0, 0, 0]),
            lambda X: X * 1e150,
            lambda X: X * 1e-300,
            lambda X: np.hstack([X] * 50),
        ],
        ids=[
            "1 column",
            "constant columns",
            "all ones",
            "all zeros",
            "all 1e9",
            "duplicates",
            "1e9 beside 1e-9",
            "around 1e9",
            "1e150",
            "1e-300",
            "300 columns",
        ],
    )
    @pytest.mark.parametrize("scaling", ["auto", "robust"])
    def test_odd_columns(self, Detector, make, rows, change, scaling):
        X = change(rows[:60])
        detector = make(Detector, epochs=1, scaling=scaling).fit(X)
        assert np.isfinite(detector.anomaly_score(X)).all()
        assert np.isfinite(detector.transform(X)).all()
        assert np.isfinite(detector.reconstruct(X)).all()
        assert np.isfinite(detector.anomaly_map(X)).all()
        assert set(detector.predict(X)) <= {-1, 1}

    def test_small_columns_count_as_large_ones_do(self, Detector, make, rows):
        scaled = rows[:60] * [2.0**30, 2.0**-30, 1, 1, 1, 1]
        np.testing.assert_allclose(
            make(Detector).fit(scaled).anomaly_score(scaled),
            make(Detector).fit(rows[:60]).anomaly_score(rows[:60]),
            rtol=1e-3,
            atol=1e-3,
        )

    def test_identical_samples_are_all_normal(self, Detector, make):
        X = np.ones((20, 3))
        detector = make(Detector).fit(X)
        assert len(set(detector.anomaly_score(X))) == 1
        assert (detector.predict(X) == 1).all()

    def test_a_value_that_a_constant_column_never_had(self, Detector, make, rows):
        X = rows[:60] * [1, 1, 0, 1, 1, 1]
        detector = make(Detector, epochs=5).fit(X)
        wrong = X.copy()
        wrong[:, 2] = 50.0
        assert (detector.anomaly_score(wrong) > detector.anomaly_score(X)).mean() > 0.9

    def test_values_far_from_all_that_was_trained_on(self, Detector, make, rows):
        detector = make(Detector).fit(rows[:60])
        far = rows[:5] * 1e30
        assert np.isfinite(detector.anomaly_score(far)).all()
        assert np.isfinite(detector.reconstruct(far)).all()
        assert (detector.predict(far) == -1).all()


class TestRead:
    def test_it_learns_the_shape_only_when_told_to(self, rows):
        detector = GANomalyDetector()
        source = read(detector, rows, reset=True)
        assert (len(source), source.sample_shape) == (1100, (6,))
        assert detector.sample_shape_ == detector.input_shape_ == (6,)
        with pytest.raises(ValueError, match="expecting 6 features"):
            read(detector, rows[:, :3])
        assert detector.sample_shape_ == (6,)

    def test_images_have_their_channels_first(self, images):
        detector = GANomalyDetector()
        source = read(detector, images, reset=True)
        assert source.sample_shape == detector.sample_shape_ == (3, 9, 13)
        np.testing.assert_array_equal(source.read(slice(0, 2)), np.moveaxis(images[:2], -1, 1))
