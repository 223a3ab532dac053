"""What every detector promises of a table with words, dates and gaps."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import gandetect
from gandetect import GANomalyDetector
from tests.helpers import needs_export, one_detector

pd = pytest.importorskip("pandas")

N = 120
NAMES = ["id", "amount", "country", "when", "age", "unit", "is_new"]


@pytest.fixture(scope="module")
def table():
    """Numbers, words, dates, gaps, an identifier and a constant; the amount goes by the country."""
    rng = np.random.default_rng(0)
    country = rng.choice(["DE", "FR", "IT"], N)
    mean = pd.Series(country).map({"DE": 10.0, "FR": 20.0, "IT": 30.0}).to_numpy()
    hours = pd.to_timedelta(rng.integers(0, 2000, N), unit="h")
    return pd.DataFrame(
        {
            "id": np.arange(N) + 1000,
            "amount": mean + rng.normal(size=N),
            "country": country,
            "when": pd.Timestamp("2026-01-01") + hours,
            "age": np.where(rng.random(N) < 0.2, np.nan, rng.integers(20, 70, N)),
            "unit": "EUR",
            "is_new": rng.random(N) < 0.3,
        }
    )


def fit(detector, X, y=None):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Columns left out as identifiers", UserWarning)
        return detector.fit(X, y)


@pytest.fixture(scope="module")
def fitted(Detector, make, table):
    return fit(make(Detector), table)


class TestEveryDetector:
    @one_detector
    def test_speaks_of_the_columns_of_the_table(self, fitted, table):
        assert fitted.n_features_in_ == len(NAMES)
        assert fitted.input_shape_ == (len(NAMES),)
        assert fitted.feature_names_in_.tolist() == NAMES
        assert fitted.score_samples(table).shape == (N,)
        assert set(fitted.predict(table)) <= {1, -1}
        assert fitted.transform(table).shape == (N, fitted.n_members_ * fitted.latent_dim_)

    def test_reconstructs_in_units_and_words(self, fitted, table):
        found = fitted.reconstruct(table)
        assert list(found.columns) == NAMES
        assert found.index.equals(table.index)
        assert set(found["country"]) <= {"DE", "FR", "IT"}
        assert found["when"].dtype.kind == "M"
        assert found["id"].tolist() == table["id"].tolist()
        assert found["amount"].between(-20, 60).all()

    def test_maps_have_a_column_for_each_of_the_table(self, fitted, table):
        maps = fitted.anomaly_map(table)
        assert maps.shape == (N, len(NAMES))
        assert not maps[:, NAMES.index("id")].any()
        np.testing.assert_allclose(maps.mean(axis=0), 0, atol=1e-6)

    def test_a_word_that_was_never_seen_is_what_is_unusual(self, fitted, table):
        other = table[:20].assign(country="XX")
        assert (fitted.anomaly_score(other) > fitted.anomaly_score(table[:20])).all()
        assert (fitted.anomaly_map(other).argmax(axis=1) == NAMES.index("country")).all()

    def test_rows_are_compared_with_the_nearest(self, fitted, table):
        model = fitted.model_
        weights = model.weights()
        others = sum(weights.values()) - weights["sample_neighbours"]
        assert weights["sample_neighbours"] == pytest.approx(3 * others)
        assert model.map_scale.shape == (2, 2, len(NAMES))
        without = fitted.set_params(score=None).model_.shallow()
        without.map_scale = model.map_scale[:1]
        maps = fitted.anomaly_map(table)
        source = fitted._read(table, model)
        of_networks = without.anomaly_maps(source)
        assert maps.shape == of_networks.shape
        assert not np.allclose(maps, of_networks)
        np.testing.assert_allclose(maps[:, 0], 0, atol=1e-6)  # the identifier

    @one_detector
    def test_columns_are_found_by_name(self, fitted, table):
        scores = fitted.score_samples(table)
        turned = table[NAMES[::-1]]
        np.testing.assert_allclose(fitted.score_samples(turned), scores, atol=1e-5)
        without_id = table.drop(columns="id")
        np.testing.assert_allclose(fitted.score_samples(without_id), scores, atol=1e-5)

    @one_detector
    def test_a_column_that_lacks_is_named(self, fitted, table):
        with pytest.raises(ValueError, match="lacks 'amount'"):
            fitted.score_samples(table.drop(columns="amount"))

    def test_a_sample_scores_alike_in_any_company(self, fitted, table):
        scores = fitted.score_samples(table)
        np.testing.assert_allclose(fitted.score_samples(table[7:8]), scores[7:8], atol=1e-5)

    def test_is_the_same_from_a_file_and_from_a_pickle(self, fitted, table, tmp_path):
        fitted.save(tmp_path / "model")
        for other in (gandetect.load(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):
            np.testing.assert_array_equal(other.score_samples(table), fitted.score_samples(table))
            np.testing.assert_array_equal(other.anomaly_map(table), fitted.anomaly_map(table))
            assert other.columns_ == fitted.columns_
            assert other.reconstruct(table).equals(fitted.reconstruct(table))

    @one_detector
    def test_thresholds_and_p_values(self, fitted, table):
        detector = pickle.loads(pickle.dumps(fitted))
        detector.infer_threshold(table, outlier_perc=10)
        assert (detector.predict(table) == -1).sum() <= 0.1 * N
        p = detector.calibrate_p_values(table).p_value(table)
        assert ((p > 0) & (p <= 1)).all()

    @one_detector
    def test_behind_a_gap_nothing_is_compared(self, fitted, table):
        gaps = np.isnan(table["age"].to_numpy())
        frame = table.assign(age=np.where(gaps, np.nan, 40.0))
        x = torch.from_numpy(fitted.model_.layout.encoder.encode(frame)).expand(2, -1, -1)
        weights = fitted.model_.observed(x)
        assert ((weights == 0).sum(-1) == torch.from_numpy(gaps).int()).all()
        torch.testing.assert_close(weights.mean(-1), torch.ones(2, N))


@pytest.mark.parametrize("package", ["polars", "pyarrow"])
def test_other_packages_give_the_same_scores(package, make, table):
    library = pytest.importorskip(package)
    detector = fit(make(GANomalyDetector), table)
    other = library.from_pandas(table) if package == "polars" else library.Table.from_pandas(table)
    np.testing.assert_allclose(
        detector.score_samples(other), detector.score_samples(table), atol=1e-5
    )
    assert type(detector.reconstruct(other)) is type(other)
    again = fit(make(GANomalyDetector), other)
    np.testing.assert_array_equal(again.score_samples(other), detector.score_samples(other))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_are_read_as_tables_are(suffix, make, table, tmp_path):
    path = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    detector = fit(make(GANomalyDetector), path)
    np.testing.assert_allclose(
        detector.score_samples(path), detector.score_samples(table), atol=1e-5
    )
    expected = fit(make(GANomalyDetector), table)
    np.testing.assert_allclose(
        detector.score_samples(table), expected.score_samples(table), atol=1e-5
    )
    assert set(detector.reconstruct(path)) == {*NAMES} - {"id"}


@one_detector
def test_a_file_of_numbers_is_read_as_they_are(Detector, make, tmp_path):
    numbers = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=[*"abc"])
    numbers.to_csv(tmp_path / "rows.csv", index=False)
    detector = make(Detector).fit(tmp_path / "rows.csv")
    expected = make(Detector).fit(numbers)
    np.testing.assert_array_equal(
        detector.score_samples(tmp_path / "rows.csv"), expected.score_samples(numbers)
    )


@pytest.mark.filterwarnings("ignore:.* of the training samples")
@pytest.mark.parametrize("values", [[0, 1], ["ok", "fraud"], [True, False], [0, 0]])
def test_a_column_that_looks_like_labels_is_told(values, make, table):
    labelled = table.assign(is_fraud=[values[i % 9 == 0] for i in range(len(table))])
    with pytest.warns(UserWarning, match="'is_fraud', with .* looks like labels"):
        fit(make(GANomalyDetector, columns={"id": "drop"}), labelled)
    numbers = labelled[["amount", "is_fraud"]].dropna()
    with pytest.warns(UserWarning, match="looks like labels"):
        make(GANomalyDetector).fit(numbers)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*looks like labels")
        for columns in ({"is_fraud": "drop"}, {"is_fraud": "category"}, ["is_fraud"]):
            make(GANomalyDetector, columns=columns).fit(numbers)
        make(GANomalyDetector).fit(numbers.rename(columns={"is_fraud": "card_present"}))


@pytest.mark.parametrize("kind", ["pandas", "csv"])
@pytest.mark.parametrize(("name", "step"), [("customer_id", 7), ("n", 1)])
def test_an_identifier_among_numbers_is_told(kind, name, step, make, tmp_path):
    numbers = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["x", "y_1"])
    X = numbers.assign(**{name: 1000 + step * np.arange(60)})
    if kind == "csv":
        X.to_csv(tmp_path / "rows.csv", index=False)
        X = tmp_path / "rows.csv"
    with pytest.warns(UserWarning, match=f"'{name}' has another whole number in every row.*'drop'"):
        make(GANomalyDetector).fit(X)
    for columns in ({name: "drop"}, {name: "number"}):
        make(GANomalyDetector, columns=columns).fit(X)
    make(GANomalyDetector).fit(numbers.assign(count=1000 + 7 * np.arange(60)))


@pytest.mark.parametrize("labels", ["exclude", "learn"])
def test_a_message_names_the_row_of_X_when_others_are_left_out(labels, make, table):
    X = table.drop(columns="id").assign(amount=[*table["amount"][:-1], np.inf])
    with pytest.raises(ValueError, match=f"'amount' contains inf in row {N - 1}:"):
        make(GANomalyDetector, labels=labels).fit(X, np.arange(N) % 4 == 0)


def test_codes_stay_words_in_a_file_without_other_words(make, tmp_path):
    codes = ["007", "12b", "100"] * 30
    pd.DataFrame({"code": codes, "x": np.arange(90) % 7}).to_csv(tmp_path / "a.csv", index=False)
    detector = make(GANomalyDetector).fit(tmp_path / "a.csv")
    pd.DataFrame({"code": ["007"], "x": [0]}).to_csv(tmp_path / "b.csv", index=False)
    np.testing.assert_allclose(
        detector.score_samples(tmp_path / "b.csv"),
        detector.score_samples(tmp_path / "a.csv")[:1],
        atol=1e-5,
    )


class TestWhatIsEncoded:
    def test_numbers_without_gaps_go_as_before(self, make, table):
        numbers = table[["amount", "is_new"]]
        detector = make(GANomalyDetector).fit(numbers)
        plain = make(GANomalyDetector, columns=None).fit(numbers)
        np.testing.assert_array_equal(detector.score_samples(numbers), plain.score_samples(numbers))
        assert not hasattr(detector, "columns_")
        assert detector.model_.scaler.kind == "unskewed"

    @pytest.mark.parametrize("value", [np.nan, None, "word"])
    def test_a_gap_or_a_word_in_an_array_names_columns(self, make, value):
        X = np.random.default_rng(0).normal(size=(30, 3)).astype(object)
        X[3, 1] = value
        with pytest.raises(ValueError, match=r"columns=\{\}"):
            make(GANomalyDetector).fit(X)
        detector = make(GANomalyDetector, columns={})
        if value == "word":
            detector.set_params(missing_values="word")
        assert np.isfinite(detector.fit(X).score_samples(X)).all()
        assert detector.reconstruct(X).shape == X.shape

    @pytest.mark.parametrize("columns", [["kind"], {"kind": "category"}, [1], {-1: "category"}])
    def test_numbers_can_be_called_a_category(self, make, columns):
        X = pd.DataFrame({"x": np.arange(60) % 13, "kind": [3, 5, 8] * 20})
        detector = make(GANomalyDetector, columns=columns).fit(X)
        assert set(detector.reconstruct(X)["kind"]) <= {3, 5, 8}

    def test_numbers_can_stand_for_gaps(self, make):
        X = pd.DataFrame({"x": np.arange(60) % 13, "y": [1.5, -999, 2.5] * 20})
        detector = make(GANomalyDetector, missing_values=-999).fit(X)
        assert "33.3 %" in detector.columns_

    def test_none_refuses_words(self, make, table):
        with pytest.raises(ValueError, match="could not convert"):
            make(GANomalyDetector, columns=None).fit(table[["amount", "country"]])

    @pytest.mark.parametrize(
        ("parameters", "error", "message"),
        [
            ({"columns": "words"}, TypeError, "columns must be"),
            ({"columns": {"amount": "float"}}, ValueError, "must be one of"),
            ({"columns": {"sum": "number"}}, ValueError, "X has only"),
            ({"missing_values": object()}, TypeError, "missing_values must be"),
            ({"columns": None, "missing_values": "?"}, ValueError, "leave columns at 'auto'"),
            ({"scaling": "robust"}, ValueError, "leave scaling at 'auto'"),
        ],
    )
    def test_what_cannot_be_is_refused(self, make, table, parameters, error, message):
        with pytest.raises(error, match=message):
            make(GANomalyDetector, **parameters).fit(table)

    def test_identifiers_are_named(self, make, table):
        with pytest.warns(UserWarning, match="Columns left out as identifiers.*'id'"):
            make(GANomalyDetector).fit(table)

    def test_infinity_is_refused(self, make, table):
        with pytest.raises(ValueError, match="'amount' contains inf in row 3"):
            fit(make(GANomalyDetector), table.assign(amount=[1.0] * 3 + [np.inf] * (N - 3)))


class TestAroundADetector:
    def test_a_clone_learns_the_same(self, make, table):
        detector = make(GANomalyDetector, columns={"id": "drop"}, missing_values=("?",))
        a, b = detector.fit(table), clone(detector).fit(table)
        np.testing.assert_array_equal(a.score_samples(table), b.score_samples(table))

    def test_grid_search_and_pipeline(self, make, table):
        X = table.drop(columns="id")
        y = np.where(np.arange(N) % 10, 1, -1)
        steps = make_pipeline(FunctionTransformer(), make(GANomalyDetector, epochs=1))
        grid = {"ganomalydetector__latent_dim": [2, 3]}
        search = GridSearchCV(steps, grid, scoring="roc_auc", cv=2, error_score="raise")
        assert search.fit(X, y).best_params_["ganomalydetector__latent_dim"] in (2, 3)
        assert search.best_estimator_.score_samples(X).shape == (N,)

    def test_a_warm_start_keeps_the_columns(self, make, table):
        X = table.drop(columns="id")
        detector = make(GANomalyDetector, warm_start=True).fit(X)
        before = detector.columns_
        assert detector.fit(X[20:]).n_iter_ == 4
        assert detector.columns_ == before
        with pytest.raises(ValueError, match="columns"):
            detector.set_params(columns={"age": "drop"}).fit(X)

    def test_new_rows_of_a_generator_are_a_table(self, make, table):
        from gandetect import BiGANDetector

        drawn = fit(make(BiGANDetector), table).sample(5, random_state=0)
        assert set(drawn["country"]) <= {"DE", "FR", "IT"}

    def test_simulated_anomalies_are_a_table(self, make, table):
        from gandetect import RDNADetector

        detector = make(RDNADetector, columns={"id": "drop"}, anomaly_probability=1.0)
        changed, where = detector.simulate(table, random_state=0)
        assert list(changed.columns) == NAMES
        assert where.shape == (N, len(NAMES))
        assert set(np.unique(where)) <= {0, 1}
        assert where.any(axis=1).mean() > 0.8


class TestLabels:
    @one_detector
    def test_anomalous_rows_are_left_out(self, Detector, make, table):
        X, y = table.drop(columns="id"), np.arange(N) % 4 == 0
        odd = X.assign(amount=np.where(y, 1e6, X["amount"]), country=X["country"].mask(y, "XX"))
        detector = make(Detector, labels="exclude").fit(odd, y)
        expected = make(Detector).fit(X[~y])
        np.testing.assert_array_equal(detector.score_samples(X), expected.score_samples(X))

    @pytest.mark.parametrize("kind", ["memory map", "Dataset", "array"])
    def test_of_every_kind_of_X(self, make, kind, rows, tmp_path):
        y = np.where(np.arange(100) < 10, -1, 1)
        X = rows[:100].astype(np.float32)
        expected = make(GANomalyDetector).fit(X[10:]).score_samples(X)
        given = X
        if kind == "memory map":
            np.save(tmp_path / "X.npy", X)
            given = np.load(tmp_path / "X.npy", mmap_mode="r")
        if kind == "Dataset":
            given = torch.utils.data.TensorDataset(torch.from_numpy(X))
        detector = make(GANomalyDetector, labels="exclude").fit(given, y)
        if kind == "Dataset":  # read batch by batch, in another order
            assert detector.model_.neighbours == {} or len(detector.history_) == 2
            assert np.isfinite(detector.score_samples(X)).all()
        else:
            np.testing.assert_array_equal(detector.score_samples(X), expected)

    def test_labels_are_ignored_unless_asked_for(self, make, rows):
        X, y = rows[:100], np.arange(100) < 10
        np.testing.assert_array_equal(
            make(GANomalyDetector).fit(X, y).score_samples(X),
            make(GANomalyDetector).fit(X).score_samples(X),
        )

    @pytest.mark.parametrize(
        ("y", "message"), [(None, "needs y"), (np.zeros(7), r"\[100, 7\]"), (np.ones(100), "1,")]
    )
    def test_labels_that_say_nothing_are_refused(self, make, rows, y, message):
        with pytest.raises(ValueError, match=message):
            make(GANomalyDetector, labels="exclude").fit(rows[:100], y)


def test_a_pipeline_is_exported_by_its_last_step(make, rows, tmp_path):
    from gandetect.export import to_torch_export

    pipeline = make_pipeline(FunctionTransformer(), make(GANomalyDetector)).fit(rows[:50])
    with pytest.raises(TypeError, match=r"pipeline\[-1\]"):
        to_torch_export(pipeline, tmp_path / "model", rows[:50])


def test_what_only_a_detector_has_is_asked_of_the_last_step(make, table, tmp_path):
    plotting = pytest.importorskip("gandetect.plotting")
    pytest.importorskip("matplotlib")
    logarithm = FunctionTransformer(lambda X: X.assign(amount=np.log(X["amount"])))
    detector = make(GANomalyDetector, columns={"id": "drop"}, validation_fraction=0.2)
    pipeline = make_pipeline(logarithm, detector).fit(table)
    y = (np.arange(N) % 10 == 0).astype(int)
    for display in ("ScoreHistogramDisplay", "RocDisplay", "PrecisionRecallDisplay"):
        getattr(plotting, display).from_estimator(pipeline, table, y)
    plotting.F1OverTauDisplay.from_estimator(pipeline, table, y)
    for refused in (
        lambda: plotting.FeatureAttributionDisplay.from_estimator(pipeline, table[:1]),
        lambda: plotting.ReconstructionDisplay.from_estimator(pipeline, table[:1]),
        lambda: plotting.TrainingCurveDisplay.from_estimator(pipeline),
    ):
        with pytest.raises(TypeError, match=r"pipeline\[-1\]"):
            refused()
    rows, last = pipeline[:-1].transform(table), pipeline[-1]
    last.infer_threshold(rows, outlier_perc=20)
    assert (pipeline.predict(table) == -1).mean() == pytest.approx(0.2, abs=0.02)
    assert last.p_value(rows).shape == (N,)
    assert last.anomaly_map(rows).shape == (N, len(NAMES))
    last.save(tmp_path / "model")
    np.testing.assert_array_equal(
        gandetect.load(tmp_path / "model").score_samples(rows), pipeline.score_samples(table)
    )


@needs_export
@pytest.mark.parametrize("form", ["onnx", "torch_export"])
def test_exported_files_take_the_table(form, make, table, tmp_path):
    from gandetect import export

    fitted = fit(make(GANomalyDetector), table)
    write, load = getattr(export, f"to_{form}"), getattr(export, f"load_{form}")
    certificate = write(fitted, tmp_path / "model", table, tolerance=1e-4)
    width = fitted.model_.layout.encoder.width
    assert certificate.input_shape == (width,)
    scorer = load(tmp_path / "model", tolerance=1e-4)
    expected = fitted.anomaly_score(table)
    np.testing.assert_allclose(scorer.anomaly_score(table), expected, atol=1e-3)
    turned = table[NAMES[::-1]]
    np.testing.assert_allclose(scorer.anomaly_score(turned), expected, atol=1e-3)
    np.testing.assert_array_equal(scorer.predict(table), fitted.predict(table))
    with pytest.raises(ValueError, match="lacks 'amount'"):
        scorer.predict(table.drop(columns="amount"))


def test_a_table_that_is_too_large_is_encoded_block_by_block(make, table, monkeypatch):
    from gandetect.data import sources

    in_memory = fit(make(GANomalyDetector), table)
    scores = in_memory.score_samples(table)
    monkeypatch.setattr(sources, "_RESIDENT_BYTES", 0)
    np.testing.assert_array_equal(in_memory.score_samples(table), scores)
    blockwise = fit(make(GANomalyDetector), table)
    assert np.isfinite(blockwise.score_samples(table)).all()


def test_without_references_a_map_is_that_of_the_networks(make, table, tmp_path):
    detector = fit(make(GANomalyDetector, store_references=False), table)
    assert detector.model_.map_scale.shape == (1, 2, len(NAMES))
    assert "sample_neighbours" not in {k for k, v in detector.model_.weights().items() if v}
    detector.save(tmp_path / "model")
    again = gandetect.load(tmp_path / "model")
    np.testing.assert_array_equal(again.anomaly_map(table), detector.anomaly_map(table))


def test_a_file_with_maps_of_the_networks_alone_keeps_them(make, table, tmp_path):
    from gandetect.archive import write_archive
    from gandetect.saving import SAVED_CLASSES, tree_of

    detector = fit(make(GANomalyDetector), table)
    tree = tree_of(detector)
    write_archive(tmp_path / "m", {**tree, "map_scale": tree["map_scale"][0]}, SAVED_CLASSES)
    again = gandetect.load(tmp_path / "m")
    np.testing.assert_array_equal(again.score_samples(table), detector.score_samples(table))
    assert again.anomaly_map(table).shape == (N, len(NAMES))
    again.save(tmp_path / "m2")
    saved = gandetect.load(tmp_path / "m2")
    np.testing.assert_array_equal(saved.anomaly_map(table), again.anomaly_map(table))


def test_a_forged_encoder_is_refused(make, table, tmp_path):
    import dataclasses

    from gandetect.archive import ArchiveError, write_archive
    from gandetect.saving import SAVED_CLASSES, tree_of

    tree = tree_of(fit(make(GANomalyDetector), table))
    encoder = tree["encoder"]
    columns = (dataclasses.replace(encoder.columns[0], kind="number"), *encoder.columns[1:])
    for forged in (None, 3, dataclasses.replace(encoder, columns=columns)):
        write_archive(tmp_path / "model", {**tree, "encoder": forged}, SAVED_CLASSES)
        with pytest.raises(ArchiveError):
            gandetect.load(tmp_path / "model")
    write_archive(tmp_path / "model", {**tree, "map_scale": None}, SAVED_CLASSES)
    with pytest.raises(ArchiveError):
        gandetect.load(tmp_path / "model")
