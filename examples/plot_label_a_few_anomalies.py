"""
What do a few labels add, and which samples should I label?
===========================================================

A detector trained on normal samples only finds samples far from them. With ``labels="learn"`` it
also learns from known anomalies, and `query` returns the samples to label next. The data are
scikit-learn's tumours: benign ones are normal, malignant ones are anomalies.
"""

# %%
# Normal rows, a pool without labels, and a test set
# --------------------------------------------------
# Two hundred benign tumours are known to be normal. The pool contains unlabelled tumours of both
# kinds. The test set measures the effect of labels.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from gandetect import AdversarialVAEDetector

X, y = load_breast_cancer(return_X_y=True)
is_malignant = y == 0
benign = np.flatnonzero(~is_malignant)
rest = np.setdiff1d(np.arange(len(X)), benign[:200])
pool, test = train_test_split(
    rest, stratify=is_malignant[rest], random_state=0
)
print(
    f"{len(pool)} tumours in the pool, {is_malignant[pool].mean():.0%} of them malignant"
)

# %%
# Round the loop five times
# -------------------------
# In each round five tumours of the pool are labelled: tumours near the threshold that differ from
# each other. They are then in ``rows``, and their labels in ``labels``. With ``warm_start`` the
# training continues from the current networks. For comparison, the same detector gets labels of
# randomly drawn tumours.


def aurocs_of_loop(choose):
    """The AUROC on the test set before the first label, and after each five."""
    rows, labels, left = X[benign[:200]], np.full(200, False), pool
    detector = AdversarialVAEDetector(
        labels="learn", warm_start=True, epochs=20, random_state=0
    )
    detector.set_params(labels="exclude").fit(rows, labels)
    found = [
        roc_auc_score(is_malignant[test], detector.anomaly_score(X[test]))
    ]
    for _ in range(5):
        asked = left[choose(detector, X[left])]
        rows = np.concatenate([rows, X[asked]])
        labels = np.concatenate([labels, is_malignant[asked]])
        left = np.setdiff1d(left, asked)
        detector.set_params(labels="learn", epochs=2).fit(rows, labels)
        found.append(
            roc_auc_score(
                is_malignant[test], detector.anomaly_score(X[test])
            )
        )
    print(
        f"{labels.sum()} malignant tumours among 25 labels: {np.round(found, 3)}"
    )
    return found


rng = np.random.default_rng(0)
by_query = aurocs_of_loop(lambda detector, pool: detector.query(pool, n=5))
at_random = aurocs_of_loop(
    lambda detector, pool: rng.choice(len(pool), 5, replace=False)
)

# %%
# What labels add
# ---------------

fig, ax = plt.subplots()
ax.plot(range(0, 30, 5), by_query, marker="o", label="chosen by query")
ax.plot(range(0, 30, 5), at_random, marker="s", label="drawn at random")
ax.set(xlabel="labels", ylabel="AUROC on the test set")
_ = ax.legend()

# %%
# One pool and one seed are too few to compare the two ways of choosing; they do show that labels
# help. Labels improve the detection of kinds of anomaly that are similar to the labelled ones.
# Evaluate also on kinds that were not labelled, if you have some.
