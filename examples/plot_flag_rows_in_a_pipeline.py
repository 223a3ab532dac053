"""
Which rows of a table are unusual?
==================================

A detector is an estimator like any other. In a pipeline it follows the steps that prepare the
table. It is fitted on rows that are normal as far as you know, and flags new ones.

The table is the breast cancer data that ships with scikit-learn. Benign tumours are the normal
rows; malignant ones are to be flagged. As in many tables, some values are missing: here a tenth.
"""

# %%
# Normal rows for training, and new rows
# --------------------------------------
# The detector is fitted on half of the benign rows, without labels. Of the other rows, 15 % are
# malignant.

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.impute import KNNImputer
from sklearn.pipeline import make_pipeline

from gandetect import GANomalyDetector
from gandetect.datasets import one_class_rows_split
from gandetect.metrics import roc_auc_scorer
from gandetect.plotting import ReconstructionDisplay, ScoreHistogramDisplay

data = load_breast_cancer(as_frame=True)
is_malignant = 1 - data.target
missing = np.random.default_rng(0).random(data.data.shape) < 0.1
X_train, X_new, y_new = one_class_rows_split(
    data.data.mask(missing),
    is_malignant,
    outlier_fraction=0.15,
    random_state=0,
)
print(f"{len(X_train)} normal rows for training, {len(X_new)} new rows")

# %%
# The pipeline
# ------------
# The imputer fills the gaps. The detector scales its input itself, so no scaler is needed.

pipeline = make_pipeline(
    KNNImputer(), GANomalyDetector(epochs=150, random_state=0)
)
pipeline.fit(X_train)

# %%
# A threshold from an expected share of outliers
# ----------------------------------------------
# ``fit`` sets a threshold from the training rows. If the share of outliers in a batch is known, the
# threshold can be set with it: here half of the new rows, and 15 %. The detector is the last step
# of the pipeline, so that it takes the rows after the other steps.

half = len(X_new) // 2
X_batch, X_later, y_later = X_new[:half], X_new[half:], y_new[half:]
imputer, detector = pipeline[:-1], pipeline[-1]
detector.infer_threshold(imputer.transform(X_batch), outlier_perc=15)

# %%
# Flag the rest
# -------------
# ``predict`` gives -1 for outliers and +1 for inliers.

flagged = pipeline.predict(X_later) == -1
print(
    f"flagged {flagged.mean():.1%} of {len(X_later)} rows, expected 15.0%"
)
print(
    f"{flagged[y_later == 1].mean():.0%} of the malignant rows are among "
    "them"
)
print(
    f"{flagged[y_later == 0].mean():.0%} of the benign rows are false "
    "alarms"
)

# %%
# A score without a threshold is judged by the area under the ROC curve. The scorers of
# `gandetect.metrics` know that 1 means an anomaly here; scikit-learn's ``"roc_auc"`` would take the
# opposite sign.

print(f"AUROC {roc_auc_scorer(pipeline, X_later, y_later):.3f}")

# %%
# The picture shows what the threshold does: everything to its right is flagged.

_ = ScoreHistogramDisplay.from_estimator(
    pipeline, X_later, y_later, bins=20
)

# %%
# Why was a row flagged?
# ----------------------
# The detector reconstructs each row. The features with the largest reconstruction errors are those
# that deviate from normal rows, here for the three rows with the highest scores.

worst = np.argsort(pipeline.score_samples(X_later))[:3]
_ = ReconstructionDisplay.from_estimator(
    detector,
    imputer.transform(X_later.iloc[worst]),
    feature_names=X_later.columns,
)
