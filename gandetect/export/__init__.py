"""Fitted detectors as files that need no gandetect to be run: ONNX and torch.export.

The file holds the whole path from a sample in the user's units to its anomaly score and label,
and a certificate of how near that comes to the detector itself.
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
