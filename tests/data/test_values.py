"""What passes for a number, which values spoil a scale, which samples are alike."""

import datetime
import io
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from sklearn.utils.validation import check_array
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from gandetect import GANomalyDetector
from gandetect.data.values import (
    change_of_constant,
    checked_sample,
    checked_values,
    duplicates_warning,
    sound_limits,
    wild_values_warning,
)

DAY = datetime.datetime(2024, 1, 1)
HOLE = pd.DataFrame({"a": [1.0, 2.0], "start": [pd.Timestamp(DAY), pd.NaT]})

MISSING = {
    "nan": np.array([[1.0, np.nan], [3.0, 4.0]]),
    "float16": np.array([[1.0, np.nan], [3.0, 4.0]], dtype=np.float16),
    "none in a list": [[1, None], [2, 3]],
    "nan in a tuple": ((1, float("nan")), (2, 3)),
    "NaT among objects": np.array([[1.0, pd.NaT], [2.0, 3.0]], dtype=object),
    "NA among objects": [[1.0, pd.NA], [2.0, 3.0]],
    "decimal": [[1, Decimal("NaN")], [2, 3]],
    "masked": np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[0, 1], [0, 0]]),
    "masked rows": [np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0])],
    "nullable": pd.DataFrame({"a": [1, 2], "b": pd.array([1, None], dtype="Int64")}),
    "nullable boolean": pd.DataFrame({"b": pd.array([True, None], dtype="boolean")}),
    "pandas with arrow": pd.DataFrame({"b": pd.array([1, None], dtype="int64[pyarrow]")}),
    "polars": pl.DataFrame({"a": [1, 2], "b": [1, None]}),
    "polars, nothing": pl.DataFrame({"b": [None, None]}),
    "polars, truth": pl.DataFrame({"b": [True, None]}),
    "arrow": pa.table({"a": [1, 2], "b": [1, None]}),
    "tensor": torch.tensor([[1.0, float("nan")], [0.0, 0.0]], dtype=torch.bfloat16),
    "list of tensors": [torch.tensor([1.0, float("nan")]), torch.zeros(2)],
    "images": np.full((2, 3, 3), np.nan),
    "scalar": np.array(np.nan),
}


@pytest.mark.parametrize("X", MISSING.values(), ids=MISSING)
def test_missing_is_never_a_number(X):
    with pytest.raises(ValueError, match=r"^Input X contains NaN: .*Impute"):
        checked_values(X)


def test_the_column_and_the_number_of_gaps_are_named():
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [None, 1.0, None]})
    with pytest.raises(ValueError, match="2 of 3 values are missing in column 'b'"):
        checked_values(table)
    with pytest.raises(ValueError, match="2 of 3 values are missing in column 1"):
        checked_values(table.to_numpy())
    with pytest.raises(ValueError, match="4 of 4 values are missing in sample 1"):
        checked_values(np.stack([np.zeros((2, 2)), np.full((2, 2), np.nan)]))


@pytest.mark.parametrize(
    "X",
    [
        [[1.0, np.inf]],
        np.array([[1.0, -np.inf]], dtype=np.float16),
        [[1, 10**400]],
        [[1, Decimal("1e400")]],
        np.array([[1, np.longdouble("1e400")]]),
        pd.DataFrame({"a": [1.0], "b": [np.inf]}),
        torch.tensor([[1.0, float("inf")]]),
    ],
)
def test_infinity_is_refused_by_its_column(X):
    with pytest.raises(
        ValueError, match=r"^Input X contains infinity .* values in column (1|'b')\."
    ):
        checked_values(X)


TIMES = {
    "table": HOLE,
    "without gaps": HOLE[:1],
    "array": HOLE[["start"]].to_numpy(),
    "zone": pd.DataFrame({"start": pd.date_range("2024", periods=2, tz="UTC")}),
    "durations": pd.DataFrame({"start": pd.to_timedelta([1, 2], unit="h")}),
    "periods": pd.DataFrame({"start": pd.period_range("2024", periods=2)}),
    "list": [[DAY, 1.0]],
    "dates": [[datetime.date(2024, 1, 1)]],
    "polars": pl.DataFrame({"start": [DAY, None]}),
    "polars date": pl.DataFrame({"start": [DAY.date()]}),
    "arrow": pa.table({"start": [DAY, None]}),
}


@pytest.mark.parametrize("X", TIMES.values(), ids=TIMES)
def test_times_are_no_numbers(X):
    with pytest.raises(TypeError, match=r"must be numeric, but column ('start'|0) contains times"):
        checked_values(X)


WORDS = {
    "like numbers": [["1", "2"]],
    "beside numbers": [["2", 1.0]],
    "bytes": [[b"1"]],
    "array": np.array([["a"]]),
    "objects": np.array([["1"]], dtype=object),
    "numpy's new strings": np.array([["a"]], dtype=np.dtypes.StringDType()),
    "pandas": pd.DataFrame({"a": ["1", "2"]}),
    "category": pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    "polars": pl.DataFrame({"a": ["x"]}),
    "polars category": pl.DataFrame({"a": ["x"]}, schema={"a": pl.Categorical}),
    "arrow": pa.table({"a": ["x"]}),
}


@pytest.mark.parametrize("X", WORDS.values(), ids=WORDS)
def test_words_are_refused_though_they_look_like_numbers(X):
    message = r"^could not convert string to float: column ('a'|0) of X contains b?'.'\. To encode"
    with pytest.raises(ValueError, match=message):
        checked_values(X)


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1j]]),
        [[1j]],
        np.array([[1j]], dtype=object),
        pd.DataFrame({"z": [1j]}),
        torch.zeros(1, 1, dtype=torch.complex64),
    ],
)
def test_complex_numbers_are_two_columns(X):
    with pytest.raises(ValueError, match=r"^Complex data not supported: column ('z'|0) .*two"):
        checked_values(X)


class Endless(Dataset):
    def __getitem__(self, i):
        return torch.ones(2)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


class _ArrowStream:
    """A table of another package, such as the result of a query."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.table({"a": [1.0]}).__arrow_c_stream__(requested_schema)


NO_TABLES = {
    "loader": (DataLoader(TensorDataset(torch.ones(2, 2))), r"a DataLoader: .*loader\.dataset"),
    "stream": (Stream(), "a Stream, an IterableDataset: .*__len__"),
    "dict": ({"a": [1]}, r"a dict: .*pandas\.DataFrame"),
    "generator": ((row for row in [[1.0]]), "a generator: .*only once"),
    "file": (io.StringIO("1,2"), "a StringIO: pass the path"),
    "no length": (Endless(), "a Endless without a length: .*__len__"),
    "set": ({1.0}, "a set: .*no order"),
    "lazy": (pl.DataFrame({"a": [1]}).lazy(), r"a LazyFrame: .*collect\(\)"),
    "foreign": (_ArrowStream(), r"an? _ArrowStream: convert it to a table first .*pyarrow\.table"),
    "None": (None, "None: pass an array"),
    "bytes": (b"rows", "a bytes: pass an array"),
    "device": (torch.device("cpu"), "a device: pass an array"),
    "estimator": (GANomalyDetector(), "a GANomalyDetector: pass an array"),
    "class": (GANomalyDetector, "a type: pass an array"),
}


@pytest.mark.parametrize(("X", "message"), NO_TABLES.values(), ids=NO_TABLES)
def test_what_is_no_table_is_named_with_the_way_out(X, message):
    with pytest.raises(TypeError, match=f"^X cannot be {message}"):
        checked_values(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[{"a": 1}]], "argument must be a string or a real number, not 'dict': column 0"),
        ([{"a": 1}], "argument must be a string or a real number, not 'dict': sample 0"),
        (pl.DataFrame({"a": [[1, 2], [3]]}), "not 'ndarray': column 'a'"),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), "structured_to_unstructured"),
        (torch.eye(2).to_sparse(), "Sparse data was passed for X"),
        (torch.ones(2, 2, device="meta"), "'meta', which has no data"),
        (torch.ones(2, 2).to_mkldnn(), "dense data is required"),
        (
            ["a.png", "b.png"],
            r"sample 0 contains the path 'a.png': for images pass .*ImageFiles\(X\)",
        ),
        (np.array(["a/b.JPG"]), r"contains the path 'a/b.JPG': for images pass .*ImageFiles\(X\)"),
        ([Path("a"), Path("b")], r"contains the path 'a': for images pass .*ImageFiles\(X\)"),
    ],
)
def test_what_is_no_number_is_named(X, message):
    with pytest.raises(TypeError, match=message):
        checked_values(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            [[1, 2], [3, 4], [5]],
            r"inhomogeneous shape: its first sample has \(2,\), sample 2 has \(1,\)",
        ),
        ([np.ones((2, 2)), np.ones((2, 3))], r"first sample has \(2, 2\), sample 1 has \(2, 3\)"),
        ([[[1], [2, 3]], [[1], [2, 3]]], "X has an inhomogeneous shape"),
    ],
)
def test_samples_have_one_shape(X, message):
    with pytest.raises(ValueError, match=message):
        checked_values(X)


ALIKE = {
    "near 2**63": np.array([2**63 - 1, 2**63 - 2]),
    "unsigned": np.array([2**64 - 1, 2**64 - 5], dtype=np.uint64),
    "constant": np.full(2, 2**60),
    "list": [10**17, 10**17 + 1],
    "more than 64 bits": [10**30, 10**30 + 1],
    "decimals": [Decimal(10**17), Decimal(10**17) + Decimal("0.5")],
    "floats": np.array([1e17, 1e17 + 16]),
}


@pytest.mark.parametrize("column", ALIKE.values(), ids=ALIKE)
def test_numbers_that_float64_makes_equal_are_refused_before_a_fit(column):
    X = [[0, value] for value in column]
    X = np.array(X, dtype=column.dtype) if isinstance(column, np.ndarray) else X
    with pytest.raises(ValueError, match=r"^Column 1 of X .* subtract an offset"):
        checked_values(X, fit=True)
    assert len(checked_values(X)) == 2  # a few samples to be scored may lie as close
    table = pd.DataFrame({"a": 0, "id": list(column)})
    with pytest.raises(ValueError, match=r"^Column 'id' of X "):
        checked_values(table, fit=True)


@pytest.mark.parametrize(
    "column",
    [
        np.array([1_700_000_000, 1_700_003_600]) * 10**9,  # nanoseconds, an hour apart
        np.array([-(2**63), 0, 2**63 - 1]),  # identifiers all over the range
        np.array([2**53 - 1, 2**53 - 2]),
        np.array([0.1 + 0.2, 0.3]),  # a constant but for rounding
        np.full(3, 1e30),
        np.array([1e17, 2e17]),
        np.array([1024.0, 1025.0], dtype=np.float16),
        np.array([True, False]),
    ],
)
def test_numbers_that_float64_tells_apart_are_taken(column):
    assert checked_values(column[:, None], fit=True) is not None


@pytest.mark.parametrize(
    "X",
    [
        np.ones((2, 2)),
        np.ones((2, 2), dtype=np.uint8),
        np.ones((2, 2), dtype=bool),
        np.ones((2, 3, 3)),
        np.ones(3),
        np.empty((0, 3)),
        pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [True, False]}),
        pd.DataFrame({"a": [1, 2.5]}, dtype=object),
        pl.DataFrame({"a": [1, 2], "b": [1.0, 2.0]}),
        pa.table({"a": [1, 2]}),
        pd.Series([1.0, 2.0]),
        sparse.csr_array(np.eye(2)),
        sparse.dok_array(np.eye(2)),
        3.0,
    ],
)
def test_what_scikit_learn_reads_or_refuses_by_itself_is_passed_on(X):
    assert checked_values(X, fit=True) is X


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.array([["2024-01-01", "NaT"]], "M8[D]"), TypeError, r"contains times \(datetime64"),
        (np.array([[3, 4]], "m8[s]"), TypeError, r"contains times \(timedelta64"),
        (np.array([["0.5", "1"]]), ValueError, "column 0 of X contains '0.5'"),
        (np.array([[1j, 2]]), ValueError, "Complex data not supported"),
        (np.zeros(3, [("a", float)]), TypeError, "structured_to_unstructured"),
    ],
    ids=str,
)
@pytest.mark.parametrize("fit", [True, False])
def test_a_memory_map_of_other_values_is_refused(values, error, message, fit, tmp_path):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(error, match=message):
        checked_values(np.load(tmp_path / "x.npy", mmap_mode="r"), fit=fit)


TAKEN = {
    "requires a gradient": torch.tensor([[1.0, 2.0]], requires_grad=True),
    "bfloat16": torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16),
    "eight bits": torch.tensor([[1.0, 2.0]]).to(torch.float8_e4m3fn),
    "integers": torch.tensor([[1, 2]]),
    "negated": torch.tensor([[0 - 1j, 0 - 2j]]).conj().imag,
    "list of tensors": [torch.tensor([1.0, 2.0], requires_grad=True)],
    "decimals": [[Decimal(1), Fraction(2)]],
    "objects": np.array([[1, 2.0]], dtype=object),
    "long double": np.array([[1, 2]], dtype=np.longdouble),
    "nothing masked": np.ma.array([[1.0, 2.0]]),
    "decimals of polars": pl.DataFrame({"a": [Decimal("1")], "b": [Decimal("2")]}),
    "decimals of arrow": pa.table({"a": [Decimal("1")], "b": [2]}),
    "decimals of pandas": pd.DataFrame({"a": [Decimal("1")], "b": [2]}),
    "rationals": [[Fraction(2, 2), np.float32(2)]],
}


@pytest.mark.parametrize("X", TAKEN.values(), ids=TAKEN)
def test_what_holds_numbers_becomes_numbers(X):
    values = check_array(checked_values(X, fit=True))
    assert values.dtype.kind in "fi"
    np.testing.assert_array_equal(values, [[1, 2]])


@pytest.mark.parametrize("labels", [["a", "b", "a"], [0, 1, 0]])
def test_names_of_columns_must_differ(labels):
    table = pd.DataFrame(np.eye(3), columns=labels)
    with pytest.raises(ValueError, match=rf"^Columns .* but X has 2 with the name {labels[0]!r}"):
        GANomalyDetector().fit(table)


@pytest.mark.parametrize("table", [pd.DataFrame(), pl.DataFrame(), pd.DataFrame(index=[1, 2])])
def test_a_table_without_a_column_is_refused(table):
    with pytest.raises(ValueError, match=r"^Found 0 features in X: the table has no columns"):
        checked_values(table)


def test_names_of_a_table_are_kept():
    X = checked_values(pl.DataFrame({"price": [Decimal("1.5")], "n": [3]}))
    assert X.columns == ["price", "n"]
    assert X["price"].to_list() == [1.5]


def test_nothing_of_the_user_is_changed():
    X = np.array([[Decimal("1.5"), 2]], dtype=object)
    table = pa.table({"a": [Decimal("1.5")]})
    checked_values(X), checked_values(table)
    assert X[0, 0] == Decimal("1.5") and isinstance(X[0, 0], Decimal)
    assert table.column("a").to_pylist() == [Decimal("1.5")]


def test_a_memory_map_is_not_read(tmp_path):
    X = np.memmap(tmp_path / "x", dtype=np.float64, shape=(4, 2), mode="w+")
    X[0, 0] = np.nan
    assert checked_values(X, fit=True) is X


def test_errors_call_the_input_by_its_name():
    with pytest.raises(ValueError, match=r"^Input X_test contains NaN: .*Impute"):
        checked_values([[np.nan]], "X_test")
    with pytest.raises(TypeError, match=r"^X_test cannot be a dict"):
        checked_values({}, "X_test")


class TestSample:
    @pytest.mark.parametrize(
        "item",
        [
            torch.ones(2, requires_grad=True),
            torch.ones(2, dtype=torch.bfloat16),
            (torch.ones(2), 7),
            [np.ones(2), "label"],
            np.ones(2, dtype=np.uint8),
        ],
    )
    def test_what_is_a_sample(self, item):
        np.testing.assert_array_equal(checked_sample(item, 0), [1, 1])

    @pytest.mark.parametrize(
        ("item", "message"),
        [
            ({"image": 1, "y": 2}, "^Sample 3 of the dataset is a dict with the keys 'image', 'y'"),
            (({"image": 1}, 0), "is a dict with the keys 'image'"),
            (np.array([HOLE.start[0]], dtype="datetime64[s]"), "must be numeric, but sample 3 has"),
            (None, "sample 3 has NoneType"),
            ("word", "must be numeric"),
            (torch.ones(2, dtype=torch.complex64), "must be numeric, but sample 3 has dtype compl"),
            (torch.eye(2).to_sparse(), "Sparse data was passed for Sample 3"),
        ],
    )
    def test_what_is_none(self, item, message):
        with pytest.raises(TypeError, match=message):
            checked_sample(item, 3)

    @pytest.mark.parametrize("item", [(), [], np.zeros(0), torch.zeros(0, 4, 4)])
    def test_one_without_a_number(self, item):
        with pytest.raises(ValueError, match=r"^Sample 3 of the dataset is empty, of shape \(0,"):
            checked_sample(item, 3)


class TestWildValues:
    @pytest.mark.parametrize("fill", [9.969209968386869e36, -1e30, 999999, -9999])
    @pytest.mark.parametrize("n_wild", [1, 5])
    def test_limits_are_those_of_the_other_values(self, fill, n_wild):
        X = np.random.default_rng(0).normal(size=(100, 3))
        X[:n_wild, 1] = fill
        low, high = sound_limits(X)
        sound = np.abs(X[n_wild:, 1] - np.median(X[:, 1])).max()
        assert np.clip(X[:, 1], low[1], high[1]).std() < 2
        assert high[1] - low[1] == pytest.approx(2 * sound)
        assert (low[[0, 2]] < X[:, [0, 2]].min(axis=0)).all()
        assert (high[[0, 2]] > X[:, [0, 2]].max(axis=0)).all()
        message = wild_values_warning(X, ["a", "b", "c"])
        assert message.startswith(f"Column 'b' of X contains extreme values: {n_wild} of 100, ")
        assert f"such as {fill:.6g}, are over" in message
        assert message.endswith(" name them in missing_values.")
        X[0, 2] = fill
        message = wild_values_warning(X)
        assert message.startswith("Column 1 (and 1 more) of X")
        assert message.endswith(" impute or leave out these samples.")

    @pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy", "lognormal"])
    def test_heavy_tails_are_not_wild(self, draw):
        rng = np.random.default_rng(0)
        X = np.column_stack([getattr(rng, draw)(size=5000) for _ in range(10)])
        assert wild_values_warning(X) is None
        low, high = sound_limits(X)
        assert (low < X).all() and (high > X).all()

    @pytest.mark.parametrize(
        "column",
        [np.zeros(50), np.eye(50)[0], np.repeat([0, 1e6], 25), np.full(2, 3.0), np.array([1.0])],
    )
    def test_columns_of_few_values_are_not_wild(self, column):
        assert wild_values_warning(column[:, None]) is None
        low, high = sound_limits(column[:, None])
        assert low[0] <= column.min() and column.max() <= high[0]

    def test_units_do_not_matter(self):
        X = np.random.default_rng(0).normal(size=(60, 1))
        X[7] = 1e9
        for unit in (1e-6, 1.0, 1e6):
            np.testing.assert_allclose(np.array(sound_limits(unit * X)) / unit, sound_limits(X))


class TestChangeOfConstant:
    @pytest.mark.parametrize("unit", [1e-12, 1e-3, 1.0, 60.0, 1e12])
    def test_it_counts_alike_in_any_unit(self, unit):
        center = np.array([5.0, 0.0, -2.0])
        x = np.array([[5.0, 0.0, -2.0], [5.1, 1e-9, -7.0], [0.0, -3.0, 1e20]])
        expected = [[0, 0, 0], [5, 5, -5], [-5, -5, 5]]
        assert change_of_constant(unit * x, unit * center).tolist() == expected
        tensors = torch.from_numpy(unit * x), torch.from_numpy(unit * center)
        assert change_of_constant(*tensors).tolist() == expected
        assert change_of_constant(unit * x, unit * center, 2.0)[1, 0] == 2

    @pytest.mark.parametrize("constant", [0.1, 1 / 3, -1e9, 1e-30])
    def test_rounding_is_no_change(self, constant):
        rounded = np.array([np.float32(constant), constant * (1 + 1e-15)], dtype=np.float64)
        assert change_of_constant(rounded, np.array(constant)).tolist() == [0, 0]


class TestDuplicates:
    @pytest.mark.parametrize("n", [200, 3000])
    @pytest.mark.parametrize("jitter", [0, 1e-3])
    @pytest.mark.parametrize("n_columns", [3, 400])
    def test_a_tight_group_apart_is_told(self, n, jitter, n_columns):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, n_columns))
        is_alike = np.arange(n) % 29 == 3
        X[is_alike] = 4.0 + jitter * rng.normal(size=(is_alike.sum(), n_columns))
        message = duplicates_warning(1e6 * X)
        share, number, trim = (float(x) for x in re.findall(r"\d+(?:\.\d+)?", message))
        assert 100 * is_alike.mean() == pytest.approx(share, rel=0.25)
        assert is_alike[int(number)]
        assert is_alike.mean() < trim < 2.5 * is_alike.mean()

    @pytest.mark.parametrize("n_columns", [2, 10, 300])
    def test_normal_samples_are_not_told(self, n_columns):
        rng = np.random.default_rng(1)
        for X in (
            rng.normal(size=(300, n_columns)),
            rng.standard_t(2, size=(300, n_columns)),
            rng.integers(0, 3, size=(300, n_columns)),
            np.vstack([rng.normal(size=(150, n_columns)), 9 + rng.normal(size=(150, n_columns))]),
            np.ones((300, n_columns)),
            rng.normal(size=(3, n_columns)),
        ):
            assert duplicates_warning(X) is None

    def test_a_few_equal_samples_or_half_of_them_are_not_told(self):
        X = np.random.default_rng(0).normal(size=(500, 4))
        X[:3] = 9.0
        assert duplicates_warning(X) is None
        X[:250] = 9.0
        assert duplicates_warning(X) is None

    def test_images_and_wild_values_are_taken(self):
        X = np.random.default_rng(0).random((100, 8, 8)).astype(np.float32)
        assert duplicates_warning(X) is None
        X[10:16] = X[10]
        assert "trim=0.09" in duplicates_warning(X)
        assert duplicates_warning(np.where(X > 0.99, 1e38, X)) is None


@pytest.mark.filterwarnings("ignore:.*(prototype|quantization|quantize|ComplexHalf)")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: quantized(2, 3), TypeError, r"X is a quantized tensor .*qint8.*dequantize\(\)"),
        (lambda: [quantized(3), quantized(3)], TypeError, r"X is a quantized tensor"),
        (lambda: torch.nested.nested_tensor([torch.ones(2)]), TypeError, "X is a nested tensor"),
        (
            lambda: torch.ones(2, 3).to(torch.complex32),
            ValueError,
            "column 0 of X contains complex",
        ),
    ],
)
def test_tensors_that_numpy_has_no_type_for(make, error, message):
    with pytest.raises(error, match=message):
        checked_values(make())


@pytest.mark.filterwarnings("ignore:.*quantiz")
def test_quantized_samples_of_a_dataset_are_named():
    with pytest.raises(TypeError, match=r"Sample 4 of the dataset is a quantized tensor"):
        checked_sample(quantized(3), 4)


def quantized(*shape):
    return torch.quantize_per_tensor(torch.ones(shape), 0.1, 0, torch.qint8)
