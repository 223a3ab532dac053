"""The detectors: one file for each published method."""

from gandetect.detectors.adversarial_vae import AdversarialVAEDetector
from gandetect.detectors.alocc import ALOCCDetector
from gandetect.detectors.bigan import BiGANDetector
from gandetect.detectors.ganomaly import GANomalyDetector
from gandetect.detectors.rdna import RDNADetector

__all__ = [
    "ALOCCDetector",
    "AdversarialVAEDetector",
    "BiGANDetector",
    "GANomalyDetector",
    "RDNADetector",
]
