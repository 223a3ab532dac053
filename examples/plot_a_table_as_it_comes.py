"""
Which entry of a record is wrong?
=================================

Tables that people keep have words, gaps and sometimes two values in each other's place. A
detector takes such a table as it is, learns from its records how the columns belong together, and
names the columns that do not.

scikit-learn ships no table with words and gaps. This one is made of its diabetes data, which are
real records of 442 patients: the code of the sex becomes a word, and a tenth of the blood pressures
is taken out.
"""

# %%
# The table
# ---------
# 300 records to learn from, and 142 new ones.

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from gandetect import RDNADetector
from gandetect.plotting import FeatureAttributionDisplay

rng = np.random.default_rng(0)
patients = load_diabetes(as_frame=True, scaled=False).data
patients["sex"] = patients["sex"].map({1: "one", 2: "two"})
patients.loc[rng.random(len(patients)) < 0.1, "bp"] = np.nan
patients = patients.sample(frac=1, random_state=0, ignore_index=True)
known, new = patients[:300], patients[300:]
new.head()

# %%
# Two values in each other's place
# --------------------------------
# In a copy of each new record, two of its numbers are exchanged. Each is a value that some patient
# may well have; only beside the others it is wrong.

wrong = new.copy()
is_wrong = np.zeros(wrong.shape, dtype=bool)
numbers = ["age", "bmi", "s1", "s2", "s3", "s6"]
for row in range(len(wrong)):
    first, second = (
        patients.columns.get_loc(name)
        for name in rng.choice(numbers, 2, False)
    )
    wrong.iloc[row, [first, second]] = wrong.iloc[
        row, [second, first]
    ].to_list()
    is_wrong[row, [first, second]] = True

# %%
# Fit to the table as it is
# -------------------------
# ``columns_`` shows how each column is read. The threshold is set to flag 5 % of the correct
# records.

detector = RDNADetector(random_state=0).fit(known)
detector.infer_threshold(new, outlier_perc=5)
print(detector.columns_)

# %%
# How many are found?
# -------------------
# Beside the detector an isolation forest and the distance to the five nearest records, on the usual
# encoding: the median in the gaps, 0 and 1 for the words, all standardised.

is_found = detector.predict(wrong) == -1


def encoded(records):
    return records.assign(sex=records["sex"] == "two").fillna(
        {"bp": known["bp"].median()}
    )


scaler = StandardScaler().fit(encoded(known))
X_known, X_new, X_wrong = (
    scaler.transform(encoded(t)) for t in (known, new, wrong)
)
forest = IsolationForest(random_state=0).fit(X_known)
nearest = NearestNeighbors(n_neighbors=5).fit(X_known)
found = {"RDNA": is_found.mean()}
for name, score in {
    "isolation forest": lambda X: -forest.score_samples(X),
    "five nearest": lambda X: nearest.kneighbors(X)[0].mean(axis=1),
}.items():
    found[name] = (score(X_wrong) > np.percentile(score(X_new), 95)).mean()
for name, share in found.items():
    print(f"{name:18}{share:.0%} of the wrong records detected")

# %%
# Which columns are wrong?
# ------------------------
# ``anomaly_map`` has a number for each column of the table. Of the records that are found, the
# column with the largest is one of the two that were exchanged in most:

largest = detector.anomaly_map(wrong).argmax(axis=1)
is_named = is_wrong[np.arange(len(wrong)), largest]
print(
    f"a wrong column has the largest value: {is_named[is_found].mean():.0%}"
)

# %%
# One record, with what the detector expected in its place. Values are in the units and words of the
# table; a gap is drawn as one.

row = np.flatnonzero(is_found & is_named)[0]
print("exchanged:", *patients.columns[is_wrong[row]])
_ = FeatureAttributionDisplay.from_estimator(detector, wrong.iloc[[row]])
