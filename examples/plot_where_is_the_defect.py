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
# Squares of 24 pixels. Every second column of them is for training; of the others one half is kept
# for the threshold, and the other half is new.

import matplotlib.pyplot as plt
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
        [
            photograph[top : top + 24, left : left + 24]
            for left in lefts
            for top in tops
        ]
    )


X_train, X_kept, X_new = (
    cuttings(lefts[::2]),
    cuttings(lefts[1::4]),
    cuttings(lefts[3::4]),
)
print(
    f"{len(X_train)} images for training, {len(X_kept)} for the "
    f"threshold, {len(X_new)} new"
)

# %%
# What it trains on
# -----------------
# ``simulate`` shows the defects that a fit would make, before it is run.

detector = RDNADetector(
    epochs=20, architecture=ConvNet(n_filters=8), random_state=0
)
simulated, masks = detector.simulate(X_train, random_state=0)
print(
    f"{masks.any(axis=(1, 2)).mean():.0%} of the images have a simulated "
    "defect, with a mean area of"
)
print(f"{masks[masks.any(axis=(1, 2))].mean():.0%} of the image")

# %%
# Fit, and detect defects of another kind
# ---------------------------------------
# Half of the new images get a square of inverted colours, a defect that was not in the training.

detector.fit(X_train).infer_threshold(X_kept, outlier_perc=5)

rng = np.random.default_rng(0)
has_defect = np.arange(len(X_new)) % 2 == 1
where = np.zeros(X_new.shape[:3], dtype=bool)
for i in np.flatnonzero(has_defect):
    top, left = rng.integers(2, 17, size=2)
    where[i, top : top + 5, left : left + 5] = True
X_new = np.where(where[..., None], 255 - X_new, X_new)

maps = detector.anomaly_map(X_new)
scores = detector.anomaly_score(X_new)
is_flagged = detector.predict(X_new) == -1
print(
    f"{is_flagged[has_defect].mean():.0%} of the images with a defect "
    "are flagged,"
)
print(f"{is_flagged[~has_defect].mean():.0%} of the images without one")
print(f"image-level AUROC {roc_auc_score(has_defect, scores):.2f}")
print(f"pixel-level AUROC {pixel_roc_auc(where, maps):.2f}")

# %%
# Photograph, map and verdict
# ---------------------------
# Three images without and three with a defect. The map is bright where the defects are.

shown = [
    *np.flatnonzero(~has_defect)[5:20:6],
    *np.flatnonzero(has_defect)[5:20:6],
]
figure, axes = plt.subplots(2, 6, figsize=(7.4, 2.9), layout="constrained")
for i, (above, below) in zip(shown, axes.T, strict=True):
    color, verdict = (
        ("#b04000", "✗ anomaly")
        if is_flagged[i]
        else ("#006c4c", "✓ normal")
    )
    above.imshow(X_new[i])
    below.imshow(
        maps[i], vmin=0, vmax=np.quantile(maps, 0.99), cmap="cividis"
    )
    above.set_title(verdict, color=color, fontsize=11)
    for ax in (above, below):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(color=color, linewidth=2)
axes[0, 0].set_ylabel("photograph")
_ = axes[1, 0].set_ylabel("anomaly map")

# %%
# What the network restores
# -------------------------
# The same images and their reconstructions, from which the defects are gone.

_ = ReconstructionDisplay.from_estimator(detector, X_new[shown])
