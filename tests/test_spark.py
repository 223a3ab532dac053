"""Scoring a Spark table where it is, by the example; where Spark and Java are."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gandetect import AdversarialVAEDetector

sql = pytest.importorskip("pyspark.sql")
pytestmark = pytest.mark.skipif(
    not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="there is no Java"
)
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "score_with_spark.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("score_with_spark", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def spark():
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 30).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "amount": rng.normal(size=200),
            "country": rng.choice(["NL", "BE", "FR"], 200),
            "gap": np.where(rng.random(200) < 0.2, np.nan, rng.normal(size=200)),
        }
    )


@pytest.mark.usefixtures("spark")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_scores_are_those_of_the_detector(example, table, tmp_path):
    detector = AdversarialVAEDetector(epochs=2, n_estimators=2, random_state=0).fit(table)
    detector.save(tmp_path / "detector")
    table.to_parquet(tmp_path / "table.parquet")
    names = ("detector", "table.parquet", "scored.parquet")
    example.main([str(tmp_path / name) for name in names])
    found = pd.read_parquet(tmp_path / "scored.parquet").sort_values("amount")
    expected = table.sort_values("amount")
    np.testing.assert_allclose(
        found["anomaly_score"], detector.anomaly_score(expected), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(found["is_anomaly"], detector.predict(expected) == -1)
    pd.testing.assert_frame_equal(
        found[list(table)].reset_index(drop=True),
        expected.reset_index(drop=True),
        check_dtype=False,
    )
