"""Plots of detectors and their results, as scikit-learn's Display objects.

They need matplotlib: ``pip install "gandetect[plot]"``.
"""

from gandetect.plotting.animation import animate
from gandetect.plotting.f1_over_tau import F1OverTauDisplay
from gandetect.plotting.feature_attribution import FeatureAttributionDisplay
from gandetect.plotting.feature_embedding import FeatureEmbeddingDisplay
from gandetect.plotting.operating_point import PrecisionRecallDisplay, RocDisplay
from gandetect.plotting.parameter_sweep import ParameterSweepDisplay
from gandetect.plotting.reconstruction import ReconstructionDisplay
from gandetect.plotting.score_histogram import ScoreHistogramDisplay
from gandetect.plotting.training_curve import TrainingCurveDisplay, draw_losses

__all__ = [
    "F1OverTauDisplay",
    "FeatureAttributionDisplay",
    "FeatureEmbeddingDisplay",
    "ParameterSweepDisplay",
    "PrecisionRecallDisplay",
    "ReconstructionDisplay",
    "RocDisplay",
    "ScoreHistogramDisplay",
    "TrainingCurveDisplay",
    "animate",
    "draw_losses",
]
