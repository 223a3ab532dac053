"""Adversarial anomaly detection behind scikit-learn's interface."""

from gandetect.callbacks import Checkpoint, EarlyStopping, ExponentialMovingAverage
from gandetect.detectors import GANomalyDetector

__version__ = "0.1.0.dev0"

__all__ = ["Checkpoint", "EarlyStopping", "ExponentialMovingAverage", "GANomalyDetector"]
