"""The scaler against numbers worked by hand, and there and back."""

import numpy as np
import pytest
import torch
from scipy.stats import skew
from sklearn.preprocessing import StandardScaler

from gandetect.model.statistics import MATCHING_ACTIVATION, SCALINGS, Scaler

KINDS = [kind for kind in SCALINGS if kind != "auto"]
OF_COLUMNS = ["unskewed", "standard", "robust"]


def fitted(kind, X, n_blocks=1):
    return Scaler.fitted(kind, np.array_split(X, n_blocks), X.ndim > 2)


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 3)) * [1, 1e6, 1e-6] + [0, 5, -3]


class TestExtremePixels:
    """Of a few images: their range is the scale of all, which the user must know."""

    @staticmethod
    def images(fill, dtype=np.float32):
        X = np.random.default_rng(0).integers(1, 100, size=(40, 4, 4)).astype(dtype)
        X[3, 1, 2] = fill
        return X

    @pytest.mark.parametrize("kind", ["symmetric", "unit"])
    @pytest.mark.parametrize(
        ("fill", "dtype"), [(1e30, np.float32), (-99999, np.float64), (65535, np.uint16)]
    )
    def test_they_are_told(self, kind, fill, dtype):
        X = self.images(fill, dtype)
        words = rf"1 of 40 images have extreme pixels, such as {fill:.6g}, .*replace them"
        with pytest.warns(UserWarning, match=words.replace("+", r"\+")):
            Scaler.fitted(kind, [X[:20], X[20:]], is_image=True)

    @pytest.mark.parametrize(("fill", "dtype"), [(100, np.float32), (255, np.uint8)])
    def test_usual_ones_are_not(self, fill, dtype):
        scaler = Scaler.fitted("symmetric", [self.images(fill, dtype)], is_image=True)
        assert scaler.fitted_range() is not None


class TestFitted:
    def test_standard(self):
        scaler = fitted("standard", np.array([[1.0, 10.0], [3.0, 30.0]]))
        np.testing.assert_allclose(scaler.center, [2, 20])
        np.testing.assert_allclose(scaler.spread, [1, 10])
        np.testing.assert_allclose(scaler(np.array([[5.0, 20.0]])), [[3, 0]])

    def test_standard_is_scikit_learns(self, X):
        scaled = fitted("standard", X, 7)(X)
        np.testing.assert_allclose(scaled, StandardScaler().fit_transform(X), rtol=1e-4, atol=1e-6)

    def test_robust(self):
        # Quartiles 1, 2, 3; an interquartile range of 1.349 is a standard deviation of one.
        X = np.array([[0.0], [1.0], [2.0], [3.0], [1000.0]])
        scaler = fitted("robust", X)
        assert scaler.center[0] == 2
        assert scaler.spread[0] == pytest.approx(2 / 1.349)

    def test_robust_where_the_middle_half_is_constant(self):
        X = np.array([[0.0]] * 8 + [[3.0], [5.0]])
        assert fitted("robust", X).spread[0] == pytest.approx(X.std())

    @pytest.mark.parametrize(("kind", "low"), [("unit", 0), ("symmetric", -1)])
    def test_ranges(self, kind, low):
        X = np.array([[2.0, -5.0], [4.0, 5.0]])
        scaled = fitted(kind, X)(np.vstack([X, [[3.0, 0.0]]]))
        np.testing.assert_allclose(scaled, [[low, low], [1, 1], [(low + 1) / 2] * 2])

    def test_none(self, X):
        np.testing.assert_array_equal(fitted("none", X)(X), X.astype(np.float32))

    @pytest.mark.parametrize("kind", ["standard", "unit", "symmetric"])
    def test_of_images_one_for_all_pixels(self, kind):
        X = np.random.default_rng(0).normal(size=(6, 2, 4, 5))
        scaler = fitted(kind, X, 3)
        assert scaler.center.shape == scaler.spread.shape == (1,)
        if kind == "standard":
            np.testing.assert_allclose([scaler.center[0], scaler.spread[0]], [X.mean(), X.std()])
        else:
            assert scaler(X).max() == 1

    @pytest.mark.parametrize(("kind", "expected"), [("unit", 100 / 255), ("symmetric", -55 / 255)])
    def test_8_bit_images_have_their_full_range(self, kind, expected):
        X = np.full((3, 1, 2, 2), 100, dtype=np.uint8)
        assert fitted(kind, X)(X)[0, 0, 0, 0] == pytest.approx(expected)

    def test_8_bit_rows_do_not(self):
        X = np.array([[3], [7]], dtype=np.uint8)
        np.testing.assert_allclose(fitted("unit", X)(X), [[0], [1]])

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("n_blocks", [1, 2, 50, 200])
    def test_blocks_do_not_matter(self, kind, n_blocks, X):
        whole, parts = fitted(kind, X), fitted(kind, X, n_blocks)
        np.testing.assert_allclose(parts.center, whole.center, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(parts.spread, whole.spread, rtol=1e-10)

    def test_quantiles_of_the_first_rows(self, monkeypatch):
        monkeypatch.setattr("gandetect.model.statistics._MAX_QUANTILE_ROWS", 4)
        X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [100.0], [100.0], [100.0]])
        assert fitted("robust", X, 4).center[0] == 1.5


class TestUnskewed:
    """Logarithms of skewed columns, by hand; others as by "standard"."""

    @pytest.fixture
    def amounts(self):
        rng = np.random.default_rng(0)
        skewed, plain = rng.lognormal(sigma=1.5, size=(400, 1)), rng.normal(size=(400, 1))
        return np.hstack([100 + 20 * skewed, plain, -3 * skewed])

    def test_by_hand(self):
        # Skewness of 2.2; the end is 1, the median 3, and the unit so 2.
        column = np.array([1.0, 1, 2, 3, 3, 4, 5, 41])
        scaler = fitted("unskewed", column[:, None])
        np.testing.assert_allclose(scaler.skew, [[1], [1], [2]])
        logarithms = np.log1p((column - 1) / 2)
        np.testing.assert_allclose(scaler.center, [logarithms.mean()])
        np.testing.assert_allclose(scaler.spread, [logarithms.std()])

    def test_a_column_that_is_not_skewed_is_standardised(self, amounts):
        scaled = fitted("unskewed", amounts)(amounts)
        np.testing.assert_array_equal(scaled[:, 1], fitted("standard", amounts)(amounts)[:, 1])

    def test_tails_to_either_side_are_shortened_alike(self, amounts):
        scaled = fitted("unskewed", amounts)(amounts)
        np.testing.assert_allclose(scaled[:, 0], -scaled[:, 2], rtol=1e-4, atol=1e-5)
        assert skew(scaled[:, 0]) < skew(amounts[:, 0]) / 3

    def test_values_beyond_the_end_go_on_falling(self, amounts):
        scaler = fitted("unskewed", amounts)
        below = np.repeat(amounts[:1], 4, axis=0)
        below[:, 0] = amounts[:, 0].min() - [0, 100, 1e4, 1e8]
        assert (np.diff(scaler(below)[:, 0]) < -0.5).all()

    def test_most_values_at_the_end(self):
        counts = np.r_[np.zeros(90), np.arange(1.0, 11)][:, None]
        scaled = fitted("unskewed", counts)(counts)
        assert scaled.isfinite().all() and scaled.unique().numel() == 11

    def test_blocks_are_scaled_as_one(self, amounts):
        whole, parts = fitted("unskewed", amounts), fitted("unskewed", amounts, 7)
        np.testing.assert_array_equal(whole.skew, parts.skew)

    def test_images_are_refused(self):
        with pytest.raises(ValueError, match="unskewed"):
            fitted("unskewed", np.zeros((3, 1, 4, 4)))


class TestDegenerate:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e9, 1e-9])
    def test_constant_columns_stay_finite(self, kind, value):
        X = np.full((9, 2), value)
        scaled = fitted(kind, X, 3)(X)
        assert torch.isfinite(scaled).all()
        if kind in OF_COLUMNS:
            np.testing.assert_allclose(scaled, 0, atol=1e-6)

    @pytest.mark.parametrize("kind", [*OF_COLUMNS, "unit", "symmetric"])
    def test_digits_beside_a_large_mean(self, kind):
        X = 1e9 + np.arange(10.0).reshape(10, 1)
        scaled = fitted(kind, X)(X).numpy().ravel()
        steps = np.diff(scaled)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-3)

    @pytest.mark.parametrize("kind", [*OF_COLUMNS, "unit", "symmetric"])
    @pytest.mark.parametrize("size", [1e150, 1e-150])
    def test_very_large_and_very_small(self, kind, size):
        X = np.random.default_rng(0).normal(size=(20, 2)) * size
        scaled = fitted(kind, X)(X)
        assert torch.isfinite(scaled).all()
        assert scaled.std() > 0.1

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [1e160, 1e181, 1e300, 1e308])
    def test_what_is_too_large_is_refused(self, kind, size):
        X = np.random.default_rng(0).uniform(-1, 1, size=(20, 3)) * [1, size, 1]
        with pytest.raises(ValueError, match=r"power of ten") as caught:
            fitted(kind, X, 3)
        assert kind == "none" or "Column 1 of X" in str(caught.value)

    @pytest.mark.parametrize("kind", ["standard", "robust", "unit", "symmetric"])
    def test_images_that_are_too_bright_are_refused(self, kind):
        with pytest.raises(ValueError, match="The pixels cannot be scaled"):
            fitted(kind, 1e308 * np.random.default_rng(0).uniform(-1, 1, size=(6, 1, 4, 5)), 2)

    def test_none_takes_what_the_networks_take(self):
        X = np.array([[-1e15], [1e15]])
        np.testing.assert_array_equal(fitted("none", X)(X), X.astype(np.float32))
        assert fitted("none", np.array([[0], [255]], dtype=np.uint8)).kind == "none"
        assert fitted("none", np.array([[True], [False]])).kind == "none"


class TestLimit:
    VALUES = (1e14, 1e16, 1e30, 3e38, 1e39, 1e154, 1.79e308)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("spread", [1e-300, 1e-3, 1.0])
    @pytest.mark.parametrize("n_dimensions", [2, 4])
    def test_every_finite_value_stays_finite(self, kind, spread, n_dimensions):
        scaler = Scaler(kind, np.full(1, -0.5), np.full(1, spread))
        X = np.array([*self.VALUES, 0.0, *(-x for x in self.VALUES)])
        X = X.reshape(-1, *[1] * (n_dimensions - 1))
        scaled = scaler(X)
        assert scaled.isfinite().all()
        # Samples are no less outlying than ones nearer by.
        assert (scaled[:7].flatten().diff() >= 0).all()
        # A square is what a score may take of them.
        assert scaled.square().isfinite().all()
        assert torch.equal(scaled, scaler(torch.from_numpy(X)))

    @pytest.mark.parametrize("kind", ["unit", "symmetric", "none"])
    def test_what_lies_below_keeps_its_bits(self, kind):
        X = np.array([[1.7], [-4e14], [1e15]])
        scaled = Scaler(kind, np.zeros(1), np.ones(1))(X)
        np.testing.assert_array_equal(scaled, X.astype(np.float32))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_x_is_not_written_to(self, kind, dtype):
        X = np.array([[1e30]], dtype=dtype)
        scaler = Scaler(kind, np.zeros(1), np.ones(1))
        scaled = scaler(X)
        assert X.item() == dtype(1e30)
        scaled.zero_()  # nor does the result share its memory
        assert X.item() == dtype(1e30)
        X.flags.writeable = False
        assert scaler(X).isfinite().all()


def by_numpy(kind, x, center, spread):
    """The formula of the docstring in numpy's float64."""
    x = x.astype(np.float64)
    if kind != "none":
        with np.errstate(over="ignore"):
            x = (x - center) / spread
    if kind in OF_COLUMNS:
        size = np.abs(x)
        x = np.where(size > 5, np.sign(x) * (5 + np.log1p(np.maximum(size - 5, 0))), x)
    return np.clip(x, -1e15, 1e15)


class TestPrecision:
    VALUES = (0.0, -0.0, 5e-324, 1e-300, 1e-30, 0.3, 1.0, 4.999, 5.0, 5.001, 7.0, 1e5, 1e30, 1e300)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("center", "spread"), [(0.0, 1.0), (1e9, 1.0), (-3e-7, 1e-9)])
    @pytest.mark.parametrize("shape", [(-1, 1), (-1, 1, 1, 1)])
    def test_the_formula_in_float64(self, kind, center, spread, shape, monkeypatch):
        X = np.array([*self.VALUES, *(-x for x in self.VALUES)])
        X = np.concatenate([X, center + spread * X[np.abs(X) < 1e30]]).reshape(shape)
        scaler = Scaler(kind, np.full(1, center), np.full(1, spread))
        expected = by_numpy(kind, X, center, spread)
        np.testing.assert_array_max_ulp(scaler(X).numpy(), expected.astype(np.float32), 1)
        monkeypatch.setattr(torch.Tensor, "float", lambda x: x)  # without the cast at the end
        np.testing.assert_allclose(scaler(X), expected, rtol=1e-12)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "dtype", ["bool", "uint8", "int16", "uint16", "int64", "float16", ">f8"]
    )
    def test_any_dtype_is_the_same_numbers(self, kind, dtype):
        X = np.random.default_rng(0).integers(0, 2, size=(30, 3)).astype(dtype)
        scaler = Scaler(kind, np.full(3, 0.5), np.full(3, 0.25))
        assert torch.equal(scaler(X), scaler(X.astype(np.float64)))

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_column_by_its_own(self, kind):
        X = np.random.default_rng(0).normal(size=(50, 3)) * [1e-9, 1.0, 1e12] + [0, 4, 1e13]
        scaler = fitted(kind, X)
        expected = by_numpy(kind, X, scaler.center.numpy(), scaler.spread.numpy())
        np.testing.assert_allclose(scaler(X), expected, rtol=1e-6, atol=1e-30)


class TestTails:
    @pytest.mark.parametrize("kind", OF_COLUMNS)
    def test_beyond_5_spreads_only_the_logarithm_grows(self, kind):
        scaler = Scaler(kind, np.zeros(1), np.ones(1))
        x = np.array([[4.0], [5.0], [6.0], [-6.0], [5 + np.e**3 - 1]])
        np.testing.assert_allclose(
            scaler(x).ravel(), [4, 5, 5 + np.log(2), -5 - np.log(2), 8], rtol=1e-6
        )

    def test_a_wilder_value_is_still_larger(self):
        scaler = Scaler("standard", np.zeros(1), np.ones(1))
        scaled = scaler(np.array([[1e2], [1e4], [1e30], [1e300]])).ravel()
        assert (scaled.diff() > 0).all()
        assert scaled[-1] < 1000

    def test_ranges_are_not_cut(self):
        assert Scaler("unit", np.zeros(1), np.ones(1))(np.array([[7.0]])).item() == 7


class TestInverse:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(200, 3), (10, 1, 6, 10)])
    def test_there_and_back(self, kind, shape, X):
        X = X.reshape(shape)
        if kind == "unskewed":
            X = np.exp(np.random.default_rng(0).normal(size=(200, 3))) * [1, -1e3, 1e-3]
        scaler = fitted(kind, X)
        np.testing.assert_allclose(
            scaler.inverse(scaler(X).double()), X, rtol=1e-3, atol=1e-6 * np.abs(X).max()
        )

    @pytest.mark.parametrize("kind", OF_COLUMNS)
    def test_of_tails(self, kind):
        scaler = Scaler(kind, np.array([3.0]), np.array([2.0]))
        X = np.array([[-100.0], [3.0], [12.9], [13.1], [1000.0]])
        np.testing.assert_allclose(scaler.inverse(scaler(X).double()), X, rtol=1e-4)

    def test_it_has_a_gradient(self):
        scaler = Scaler("standard", np.zeros(1), np.full(1, 3.0))
        x = torch.tensor([0.5, 4.0], requires_grad=True)
        scaler.inverse(x).sum().backward()
        np.testing.assert_allclose(x.grad, [3, 3])

    def test_what_no_number_can_hold_stays_finite(self):
        scaler = Scaler("standard", np.zeros(1), np.ones(1))
        assert torch.isfinite(scaler.inverse(torch.tensor([1e6, -1e6]))).all()


def test_scaled_values_are_float32_and_contiguous(X):
    for kind in KINDS:
        scaled = fitted(kind, X)(np.asfortranarray(X))
        assert scaled.dtype == torch.float32
        assert scaled.is_contiguous()


def test_every_scaling_has_an_activation_that_covers_it():
    assert set(MATCHING_ACTIVATION) == set(KINDS)
    assert MATCHING_ACTIVATION["unit"] == "sigmoid"
    assert MATCHING_ACTIVATION["symmetric"] == "tanh"
