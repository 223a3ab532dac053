"""
Which threshold gives the false-alarm rate that I need?
=======================================================

Each alarm costs time. If one normal sample in twenty may raise one, 5 % is the false-alarm rate.
The threshold for it is found with normal samples that the detector was not fitted on. No anomaly is
needed.

The table is the breast cancer data of scikit-learn; benign tumours are the normal rows.
"""

# %%
# Three kinds of normal rows
# --------------------------
# The detector is fitted on the first, the threshold is set with the second, and the third measures
# the false-alarm rate. Malignant rows are for the evaluation alone.

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from gandetect import GANomalyDetector
from gandetect.plotting import (
    PrecisionRecallDisplay,
    RocDisplay,
    ScoreHistogramDisplay,
)

X, y = load_breast_cancer(return_X_y=True)
X_benign, X_malignant = X[y == 1], X[y == 0]
X_train, X_rest = train_test_split(
    X_benign, train_size=157, random_state=0
)
X_kept, X_new = train_test_split(X_rest, test_size=0.5, random_state=0)

detector = GANomalyDetector(epochs=100, random_state=0).fit(X_train)
print(
    f"{len(X_train)} rows for training, {len(X_kept)} for the threshold, "
    f"{len(X_new)} to test"
)

# %%
# Training rows score lower than new ones
# ---------------------------------------
# ``fit`` lets the threshold flag a tenth of the training rows (``contamination=0.1``). These score
# lower than new rows, so that more than a tenth of these is flagged.


def false_alarm_rate(X):
    """The share of normal rows that is flagged."""
    return (detector.predict(X) == -1).mean()


print(f"training rows flagged: {false_alarm_rate(X_train):.1%}")
print(f"new benign rows flagged: {false_alarm_rate(X_new):.1%}")

# %%
# Rows that were kept from training
# ---------------------------------
# ``infer_threshold`` moves the threshold so that 5 % of the rows it is given are flagged. On rows
# that were kept from training, this is the rate to expect for new ones. With a hundred rows a rate
# is known to within some percentage points; more rows make it more precise.

for percentage in (20, 10, 5, 2):
    detector.infer_threshold(X_kept, outlier_perc=percentage)
    print(
        f"{percentage:2d} % requested: {false_alarm_rate(X_new):5.1%} of "
        "the new benign rows are "
        f"flagged, {(detector.predict(X_malignant) == -1).mean():.1%} of "
        "the malignant ones"
    )

# %%
# False alarms and detected anomalies
# -----------------------------------
# The fewer false alarms, the fewer anomalies are detected. The ROC curve shows all thresholds, the
# point on it this one.

detector.infer_threshold(X_kept, outlier_perc=5)
X_judged = [*X_new, *X_malignant]
y_judged = [0] * len(X_new) + [1] * len(X_malignant)
_ = RocDisplay.from_estimator(detector, X_judged, y_judged)

# %%
# The same threshold in the distribution of the scores.

_ = ScoreHistogramDisplay.from_estimator(detector, X_judged, y_judged)

# %%
# The false-alarm rate does not depend on how many anomalies there are. How many of the alarms are
# true does: here two rows in three are malignant, far more than in most applications.

_ = PrecisionRecallDisplay.from_estimator(detector, X_judged, y_judged)
