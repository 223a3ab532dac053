"""Adversarial anomaly detection behind scikit-learn's interface."""

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

__version__ = "0.1.0.dev0"

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
]
