"""
Which parameters are best, and how do I search for them?
========================================================

Detectors go into scikit-learn's searches. Two things are to be minded: the scorer must know which
label is the anomaly, and a detector should learn from normal samples alone, while it is judged by
both kinds.

The images are scikit-learn's digits, with threes as the normal ones.
"""

# %%
# Splits that learn from normal samples
# -------------------------------------
# `sklearn.model_selection.StratifiedKFold` would put anomalies among the samples to learn from.
# Where there are labels to judge by, leave the anomalies out of the training part of each split.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from gandetect import GANomalyDetector
from gandetect.metrics import roc_auc_scorer
from gandetect.plotting import ParameterSweepDisplay

digits = load_digits()
chosen = np.flatnonzero(np.isin(digits.target, [3, 5, 8, 9]))
X, is_anomaly = digits.data[chosen], (digits.target[chosen] != 3).astype(int)

splits = [
    (train[is_anomaly[train] == 0], test)
    for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(X, is_anomaly)
]
print(f"{len(splits[0][0])} threes to learn from, {len(splits[0][1])} digits to judge by")

# %%
# Size of the code
# ----------------
# scikit-learn's ``scoring="roc_auc"`` would take 1 for the normal class, and find the parameters
# that are worst. `gandetect.metrics.roc_auc_scorer` takes 1 for an anomaly.
#
# One member and few epochs make a search quick; the final detector has the default of both.

quick = GANomalyDetector(n_estimators=1, epochs=30, random_state=0)
search = GridSearchCV(
    quick, {"latent_dim": [1, 2, 4, 8, 16]}, scoring=roc_auc_scorer, cv=splits, refit=False
)
search.fit(X, is_anomaly)
_ = ParameterSweepDisplay.from_estimator(search)

# %%
# The band is one standard deviation over the splits, each way: values whose bands overlap may well
# be equally good.
#
# Weights of two losses
# ---------------------
# The picture goes along one parameter and has a line for each value of the other. Networks can be
# searched as well: an architecture, such as ``MLP(hidden_dims=(32,))``, is a value like any other.

grid = {"reconstruction_weight": [0.5, 5, 50], "latent_weight": [1, 10]}
quick.set_params(latent_dim=search.best_params_["latent_dim"])
search = GridSearchCV(quick, grid, scoring=roc_auc_scorer, cv=splits, refit=False)
search.fit(X, is_anomaly)
_ = ParameterSweepDisplay.from_estimator(search, "reconstruction_weight")

# %%
# The best of them all, as a search says it:

print(f"AUROC {search.best_score_:.3f} with {search.best_params_}")

# %%
# A search that is judged by labelled anomalies prefers what finds *those*. An AUROC measured on
# the same anomalies is too high: measure it on others.
