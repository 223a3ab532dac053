"""
How are the rows of a Spark table scored where they are?
========================================================

``python score_with_spark.py detector table.parquet scored.parquet`` scores a Parquet file, or a
folder of them, with a detector that ``detector.save`` wrote. Spark reads and divides the table; each
worker loads the detector once a partition and scores batches of it as pandas tables. It needs the
extra ``spark``, and a Java that Spark runs on.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import (
    BooleanType,
    DoubleType,
    StructField,
    StructType,
)

import gandetect

# %%
# A function of batches
# ---------------------
# `mapInPandas` calls it once a partition, with an iterator over the partition's batches. What it
# refers to is pickled and sent to the workers: the bytes of the detector's file, which hold data and
# no code, and the names of its columns. A detector that was fitted to a table takes the batches by
# these names.


def scorer(
    detector: bytes,
) -> Callable[[Iterable[pd.DataFrame]], Iterator[pd.DataFrame]]:
    """Give the function that puts score and label beside the columns of each batch."""

    def score(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "detector"
            path.write_bytes(detector)
            loaded = gandetect.load(path).set_params(n_jobs=1)
        names, threshold = loaded.feature_names_in_, loaded.threshold_
        for batch in batches:
            decision = loaded.decision_function(batch[names])
            yield batch.assign(
                anomaly_score=threshold - decision, is_anomaly=decision < 0
            )

    return score


# %%
# The table
# ---------
# The result has the table's own columns and two more. Nothing is computed before Spark is asked for
# rows, and then partition by partition: the table may be larger than any machine's memory. A batch
# has ``spark.sql.execution.arrow.maxRecordsPerBatch`` rows.


def scored(table: DataFrame, detector: Path) -> DataFrame:
    """The table with the columns anomaly_score and is_anomaly."""
    more = [
        StructField("anomaly_score", DoubleType()),
        StructField("is_anomaly", BooleanType()),
    ]
    schema = StructType([*table.schema.fields, *more])
    return table.mapInPandas(scorer(detector.read_bytes()), schema)


def main(arguments: Any = None) -> None:
    """Score a table in Parquet files."""
    parser = argparse.ArgumentParser(
        description="Score a Parquet table with Spark."
    )
    parser.add_argument(
        "detector", type=Path, help="file of detector.save"
    )
    parser.add_argument(
        "table", help="a Parquet file, or a folder of them"
    )
    parser.add_argument(
        "out", help="the output folder, which must not exist"
    )
    options = parser.parse_args(arguments)
    spark = SparkSession.builder.appName("gandetect").getOrCreate()
    scored(
        spark.read.parquet(options.table), options.detector
    ).write.parquet(options.out)


if __name__ == "__main__":
    main()
