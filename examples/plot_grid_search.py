"""
Which parameters are best, and how do I search for them?
========================================================

Detectors work in scikit-learn's searches, with two conditions: the scorer must know which label is
the anomaly, and a detector should be fitted on normal samples alone, and tested on both kinds.

The images are scikit-learn's digits, with threes as the normal ones.
"""

# %%
# Splits with normal training samples
# -----------------------------------
# `sklearn.model_selection.StratifiedKFold` would put anomalies among the training samples.
# If there are labels, leave the anomalies out of the training part of each split.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from gandetect import GANomalyDetector
from gandetect.metrics import roc_auc_scorer
from gandetect.plotting import ParameterSweepDisplay

digits = load_digits()
chosen = np.flatnonzero(np.isin(digits.target, [3, 5, 8, 9]))
X, is_anomaly = (
    digits.data[chosen],
    (digits.target[chosen] != 3).astype(int),
)

splits = [
    (train[is_anomaly[train] == 0], test)
    for train, test in StratifiedKFold(
        3, shuffle=True, random_state=0
    ).split(X, is_anomaly)
]
print(
    f"{len(splits[0][0])} threes for training, {len(splits[0][1])} "
    "digits for the test"
)

# %%
# Size of the code
# ----------------
# scikit-learn's ``scoring="roc_auc"`` would take 1 for the normal class, and find the parameters
# that are worst. `gandetect.metrics.roc_auc_scorer` takes 1 for an anomaly.
#
# One member and few epochs make a search fast; the final detector has the default of both.

quick = GANomalyDetector(n_estimators=1, epochs=30, random_state=0)
search = GridSearchCV(
    quick,
    {"latent_dim": [1, 2, 4, 8, 16]},
    scoring=roc_auc_scorer,
    cv=splits,
    refit=False,
)
search.fit(X, is_anomaly)
_ = ParameterSweepDisplay.from_estimator(search)

# %%
# The band is one standard deviation over the splits, each way: values whose bands overlap may
# be equally good.
#
# Weights of two losses
# ---------------------
# The plot has one parameter on its axis and a line for each value of the other. Networks can be
# searched too: an architecture, such as ``MLP(hidden_dims=(32,))``, is a value like any other.

grid = {"reconstruction_weight": [0.5, 5, 50], "latent_weight": [1, 10]}
quick.set_params(latent_dim=search.best_params_["latent_dim"])
search = GridSearchCV(
    quick, grid, scoring=roc_auc_scorer, cv=splits, refit=False
)
search.fit(X, is_anomaly)
_ = ParameterSweepDisplay.from_estimator(search, "reconstruction_weight")

# %%
# The best of all:

print(f"AUROC {search.best_score_:.3f} with {search.best_params_}")

# %%
# A search with labelled anomalies selects what detects *these*. The AUROC on the same anomalies is
# too high: measure it on others.
