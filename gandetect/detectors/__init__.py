"""The detectors: one file a published method."""

from gandetect.detectors.ganomaly import GANomalyDetector

__all__ = ["GANomalyDetector"]
