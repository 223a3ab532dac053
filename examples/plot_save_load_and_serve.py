"""
How do I deploy a detector?
===========================

A fitted detector is saved as one file of data. A service loads it once and returns for each row its
score, whether it is flagged, and why. Here the service is a function, which a web
framework, a queue or a batch job would call.

The table is scikit-learn's wine data: two kinds of wine are normal, the third is new.
"""

# %%
# Fit and save
# ------------
# ``save`` writes tensors and JSON, and nothing that could be executed: the file is safe to open
# whoever made it.

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import gandetect
from gandetect import GANomalyDetector
from gandetect.plotting import FeatureAttributionDisplay

wine = load_wine(as_frame=True)
is_known = wine.target < 2
X_train, X_kept = train_test_split(
    wine.data[is_known], test_size=0.3, random_state=0
)
X_foreign = wine.data[~is_known]

detector = GANomalyDetector(epochs=60, random_state=0).fit(X_train)
detector.infer_threshold(X_kept, outlier_perc=5)

folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "wine.safetensors")
detector.save(path)
print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")

# %%
# Load
# ----
# The loaded detector has its threshold, scaling and columns, and scores as the saved one did.

served = gandetect.load(path)
assert np.array_equal(
    served.anomaly_score(X_foreign), detector.anomaly_score(X_foreign)
)
print(
    f"{type(served).__name__} for "
    f"{', '.join(served.feature_names_in_[:3])}, ..."
)

# %%
# Serve
# -----
# Requests and answers are JSON. The columns may be in any order; the answer to a request without
# one of them names it.


def answer(request, n_reasons=2):
    """Judge the rows of a request, each a mapping of column names to numbers."""
    rows = pd.DataFrame(json.loads(request)["rows"])
    missing = set(served.feature_names_in_) - set(rows.columns)
    if missing:
        return json.dumps(
            {"error": f"columns are missing: {', '.join(sorted(missing))}"}
        )
    rows = rows[list(served.feature_names_in_)]
    scores = served.anomaly_score(rows)
    expected, deviations = (
        served.reconstruct(rows),
        served.anomaly_map(rows),
    )
    results = []
    for i, score in enumerate(scores):
        worst = np.argsort(-deviations[i])[:n_reasons]
        results.append(
            {
                "score": round(float(score), 2),
                "flagged": bool(score > served.threshold_),
                "reasons": [
                    f"{rows.columns[j]} is {rows.iloc[i, j]:.3g}, "
                    f"expected {expected[i, j]:.3g}"
                    for j in worst
                ],
            }
        )
    return json.dumps({"results": results}, indent=2)


# %%
# A wine of a known kind, and one of the new kind:

request = json.dumps(
    {
        "rows": [
            *X_kept[:1].to_dict("records"),
            *X_foreign[5:6].to_dict("records"),
        ]
    }
)
print(answer(request))

# %%
# A request that cannot be answered:

print(answer(json.dumps({"rows": [{"alcohol": 13.0}]})))

# %%
# A row has the same label alone and among others, so that requests may be collected into batches.

together = served.anomaly_score(X_foreign)
alone = [served.anomaly_score(X_foreign.iloc[[i]])[0] for i in range(5)]
assert np.array_equal(together[:5], alone)
print(
    f"{(served.predict(X_foreign) == -1).mean():.0%} of the foreign "
    "wines are flagged"
)
print(
    f"{(served.predict(X_kept) == -1).mean():.0%} of the known "
    "wines are flagged"
)

# %%
# Show why
# --------
# The features of one row that deviate most.

_ = FeatureAttributionDisplay.from_estimator(served, X_foreign.iloc[[5]])

folder.cleanup()
