"""Export of fitted detectors to files that run without gandetect: ONNX and torch.export.

A file contains all computations from a sample in the user's units to its anomaly score and label,
and a certificate of their agreement with the detector.
"""

from gandetect.export.certificate import (
    Certificate,
    ExportedScorer,
    ParityError,
    ParityWarning,
    load_onnx,
    load_torch_export,
    to_onnx,
    to_torch_export,
)

__all__ = [
    "Certificate",
    "ExportedScorer",
    "ParityError",
    "ParityWarning",
    "load_onnx",
    "load_torch_export",
    "to_onnx",
    "to_torch_export",
]
