"""
How does the network reconstruct an image of another kind?
==========================================================

A detector of images learns to reconstruct normal ones. An anomaly is reconstructed with errors, and
the errors show where it is.

The images are scikit-learn's digits. The detector is fitted on eights alone; every other digit is
an anomaly.
"""

# %%
# Fit on one digit
# ----------------
# Images are arrays (n, height, width), or (n, height, width, channels).

import numpy as np
from sklearn.datasets import load_digits

from gandetect import GANomalyDetector
from gandetect.datasets import one_class_split
from gandetect.plotting import (
    ReconstructionDisplay,
    ScoreHistogramDisplay,
    TrainingCurveDisplay,
)

digits = load_digits()
X_train, X_test, y_test = one_class_split(
    digits.images,
    digits.target,
    normal_class=8,
    n_train=100,
    random_state=0,
)
detector = GANomalyDetector(
    epochs=200, validation_fraction=0.1, random_state=0
).fit(X_train)
print(f"fitted to {len(X_train)} images of {X_train.shape[1:]} pixels")

# %%
# A tenth of the images was kept from training. Their reconstruction error falls too, and is nearly
# that of the others: the network does not overfit.

_ = TrainingCurveDisplay.from_estimator(
    detector, losses=["reconstruction", "validation_reconstruction"]
)

# %%
# Input, reconstruction and map
# -----------------------------
# Five eights that were not in the training, and five other digits. The reconstructions of these
# resemble eights, and the anomaly map is bright where the two differ.

shown = np.concatenate(
    [np.flatnonzero(y_test == label)[:5] for label in (0, 1)]
)
_ = ReconstructionDisplay.from_estimator(detector, X_test[shown])

# %%
# How well do the scores separate eights from the rest?
# -----------------------------------------------------
# Half of the remaining eights set a threshold that flags 5 % of them. The other half measures the
# false alarms.

eights = X_test[y_test == 0]
half = len(eights) // 2
detector.infer_threshold(eights[:half], outlier_perc=5)

X_judged = np.concatenate([eights[half:], X_test[y_test == 1]])
y_judged = np.repeat([0, 1], [len(eights) - half, np.sum(y_test == 1)])
flagged = detector.predict(X_judged) == -1
print(
    f"{flagged[y_judged == 1].mean():.0%} of the other digits are flagged"
)
print(
    f"{flagged[y_judged == 0].mean():.0%} of the eights are false alarms"
)

_ = ScoreHistogramDisplay.from_estimator(detector, X_judged, y_judged)

# %%
# The anomalies that are not flagged
# ----------------------------------
# These are the anomalies with the lowest scores. The images show why they are missed:
# most are thick strokes or nearly closed loops, which make eights in so few pixels.

scores = detector.anomaly_score(X_judged)
missed = np.argsort(np.where(y_judged == 1, scores, np.inf))[:6]
_ = ReconstructionDisplay.from_estimator(detector, X_judged[missed])
