"""The detectors: one file a published method."""

from gandetect.detectors.alocc import ALOCCDetector
from gandetect.detectors.bigan import BiGANDetector
from gandetect.detectors.ganomaly import GANomalyDetector

__all__ = ["ALOCCDetector", "BiGANDetector", "GANomalyDetector"]
