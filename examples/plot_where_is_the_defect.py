"""
Where is the defect?
====================

A camera above a production line takes thousands of images of pieces without a defect. Defects are
rare and of unknown kinds, but they should be detected and located.

RDNA simulates defects: it puts blobs of texture onto normal images, and learns to remove them and
to locate them. The images here are cuttings of a photograph that scikit-learn ships.
"""

# %%
# Normal images
# -------------
# Squares of 24 pixels. Every second column of them is for training, the others are new.

import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

from gandetect import ConvNet, RDNADetector
from gandetect.metrics import pixel_roc_auc
from gandetect.plotting import ReconstructionDisplay

photograph = load_sample_images().images[1][::3, ::3]
lefts = np.arange(0, photograph.shape[1] - 23, 24)


def cuttings(lefts):
    tops = range(0, photograph.shape[0] - 23, 5)
    return np.stack(
        [photograph[top : top + 24, left : left + 24] for left in lefts for top in tops]
    )


X_train, X_new = cuttings(lefts[::2]), cuttings(lefts[1::2])
print(f"{len(X_train)} images for training, {len(X_new)} new ones")

# %%
# What it trains on
# -----------------
# ``simulate`` shows the defects that a fit would make, before it is run.

detector = RDNADetector(epochs=20, architecture=ConvNet(n_filters=8), random_state=0)
simulated, masks = detector.simulate(X_train, random_state=0)
print(f"{masks.any(axis=(1, 2)).mean():.0%} of the images got a defect, which covers")
print(f"{masks[masks.any(axis=(1, 2))].mean():.0%} of the image")

# %%
# Fit, and detect defects of another kind
# ---------------------------------------
# Half of the new images get a square of inverted colours, a defect that was not in the training.

detector.fit(X_train)

rng = np.random.default_rng(0)
has_defect = np.arange(len(X_new)) % 2 == 1
where = np.zeros(X_new.shape[:3], dtype=bool)
for i in np.flatnonzero(has_defect):
    top, left = rng.integers(2, 17, size=2)
    where[i, top : top + 5, left : left + 5] = True
X_new = np.where(where[..., None], 255 - X_new, X_new)

maps = detector.anomaly_map(X_new)
scores = detector.anomaly_score(X_new)
print(f"AUROC of the images {roc_auc_score(has_defect, scores):.2f}")
print(f"AUROC of the pixels {pixel_roc_auc(where, maps):.2f}")

# %%
# Input, reconstruction and map
# -----------------------------
# Three images without and three with a defect, their reconstructions, and the maps, which are
# bright where the defects are.

shown = [*np.flatnonzero(~has_defect)[10:40:10], *np.flatnonzero(has_defect)[10:40:10]]
_ = ReconstructionDisplay.from_estimator(detector, X_new[shown])
