"""Loading saved detectors of the package."""

from __future__ import annotations

import os
from typing import Any

from gandetect import detectors
from gandetect.archive import ArchiveError, read_archive
from gandetect.base import BaseDetector
from gandetect.saving import SAVED, SAVED_CLASSES


def load(path: str | os.PathLike[str], **given: Any) -> BaseDetector:
    """Load a saved detector; on one machine its scores have the same bits.

    Only detectors of this package are created, and only from data: the file contains the name of
    the detector's class, which must be one of this package. For your own detector, call `load` of
    its class.

    Parameters
    ----------
    path : str or path
    **given
        The parameters that `save` left out because they are user code, such as the torch network of
        an `AdversarialVAEDetector`: ``load(path, classifier=network)``.

    Returns
    -------
    detector

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArchiveError
        If the file is damaged, or not a detector of this package.
    TypeError
        If a parameter that the file left out is not given, or another one is given.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> import gandetect
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> detector = gandetect.GANomalyDetector(epochs=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detector.save(f"{folder}/detector.safetensors")
    ...     loaded = gandetect.load(f"{folder}/detector.safetensors")
    >>> bool((loaded.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    tree = read_archive(path, SAVED_CLASSES, SAVED)
    name = tree.get("detector")
    if not isinstance(name, str) or name not in detectors.__all__:
        raise ArchiveError(
            f"{str(path)!r} contains the class {name!r}, which is not a detector of gandetect: use "
            "the method load of that class."
        )
    detector: BaseDetector = getattr(detectors, name).from_tree(tree, path, given)
    return detector
