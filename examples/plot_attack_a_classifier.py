"""
Can an attack on a classifier be detected and corrected?
========================================================

A classifier that is right on 97 of 100 digits can be made wrong on nearly all of them by changes
that are hardly visible. A detector in front of it detects such inputs, and gives the answer of the
classifier without the attack.

The detector needs the classifier and clean samples, and no examples of attacks.
"""

# %%
# A classifier
# ------------
# Any torch network or scikit-learn classifier would do. This one is a perceptron.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from gandetect import AdversarialVAEDetector
from gandetect.attacks import projected_gradient
from gandetect.plotting import ScoreHistogramDisplay

X, y = load_digits(return_X_y=True)
X_train, X_rest, y_train, y_rest = train_test_split(
    X, y, test_size=600, random_state=0
)
X_clean, X_test, y_test = X_rest[:300], X_rest[300:], y_rest[300:]
classifier = MLPClassifier((64,), early_stopping=True, random_state=0).fit(
    X_train, y_train
)
print(f"accuracy on clean digits: {classifier.score(X_test, y_test):.1%}")

# %%
# An attack
# ---------
# Projected gradient descent changes every pixel by at most 2 of 16 grey levels, in the direction
# that makes the classifier most wrong.

attacked = projected_gradient(
    classifier, X_test, y_test, eps=2.0, clip=(0, 16)
)
print(
    "accuracy on attacked digits: "
    f"{classifier.score(attacked, y_test):.1%}"
)

figure, axes = plt.subplots(2, 8, figsize=(9, 2.8), layout="constrained")
for column in range(8):
    for row, images in enumerate([X_test, attacked]):
        axes[row, column].imshow(
            images[column].reshape(8, 8), cmap="gray_r", vmin=0, vmax=16
        )
        axes[row, column].set_axis_off()
        axes[row, column].set_title(
            classifier.predict(images[column : column + 1])[0]
        )

# %%
# A defence
# ---------
# ``FrozenEstimator`` keeps the classifier fitted where scikit-learn clones the detector. The
# threshold comes from clean digits that neither was fitted on: 5 % of them may be flagged.

detector = AdversarialVAEDetector(
    classifier=FrozenEstimator(classifier), epochs=60, random_state=0
).fit(X_train)
detector.infer_threshold(X_clean, outlier_perc=5)

answer = detector.correct(attacked)["data"]
fooled = answer["no_defense"] != y_test
print(
    f"detected: {answer['is_adversarial'][fooled].mean():.1%} of the "
    "successful attacks"
)
print(
    "false alarms: "
    f"{detector.detect(X_test)['data']['is_adversarial'].mean():.1%}"
)
print(
    "accuracy after correction: "
    f"{np.mean(answer['corrected'] == y_test):.1%}"
)

# %%
# Clean and attacked digits by their scores; all to the right of the line is flagged.

_ = ScoreHistogramDisplay.from_predictions(
    np.repeat([0, 1], [len(X_test), len(attacked)]),
    np.concatenate(
        [detector.anomaly_score(X_test), detector.anomaly_score(attacked)]
    ),
    threshold=detector.threshold_,
    bins=30,
)

# %%
# This attack does not take the detector into account. An attacker who knows it can attack both
# together: a defence makes an attack more expensive, not impossible.
