"""Adversarial anomaly detection behind scikit-learn's interface."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gandetect.archive import ArchiveError
    from gandetect.base import BaseDetector
    from gandetect.detectors import (
        AdversarialVAEDetector,
        ALOCCDetector,
        BiGANDetector,
        GANomalyDetector,
        RDNADetector,
    )
    from gandetect.loading import load
    from gandetect.networks import MLP, ConvNet
    from gandetect.training.callbacks import (
        Checkpoint,
        EarlyStopping,
        ExponentialMovingAverage,
        TensorBoardLog,
    )
    from gandetect.training.report import TrainingWarning
    from gandetect.training.run_folder import RunFolder
    from gandetect.versions import show_versions

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "ALOCCDetector",
    "AdversarialVAEDetector",
    "ArchiveError",
    "BaseDetector",
    "BiGANDetector",
    "Checkpoint",
    "ConvNet",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "GANomalyDetector",
    "RDNADetector",
    "RunFolder",
    "TensorBoardLog",
    "TrainingWarning",
    "load",
    "show_versions",
]

# The module of each public name. It is imported on first access, so that importing gandetect does
# not import torch.
_MODULES = {
    "gandetect.archive": ("ArchiveError",),
    "gandetect.base": ("BaseDetector",),
    "gandetect.detectors": (
        "ALOCCDetector",
        "AdversarialVAEDetector",
        "BiGANDetector",
        "GANomalyDetector",
        "RDNADetector",
    ),
    "gandetect.loading": ("load",),
    "gandetect.networks": ("MLP", "ConvNet"),
    "gandetect.training.callbacks": (
        "Checkpoint",
        "EarlyStopping",
        "ExponentialMovingAverage",
        "TensorBoardLog",
    ),
    "gandetect.training.report": ("TrainingWarning",),
    "gandetect.training.run_folder": ("RunFolder",),
    "gandetect.versions": ("show_versions",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
# The public modules, which are available without a separate import statement.
_SUBMODULES = (
    "attacks",
    "conformal",
    "datasets",
    "detectors",
    "export",
    "losses",
    "metrics",
    "networks",
    "plotting",
    "reporting",
    "selection",
    "simulation",
    "training",
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return import_module(f"gandetect.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
