"""Pictures of detectors and what they say, as scikit-learn's Display objects.

They need matplotlib: ``pip install "gandetect[plot]"``.
"""

from gandetect.plotting.reconstruction import ReconstructionDisplay
from gandetect.plotting.score_histogram import ScoreHistogramDisplay
from gandetect.plotting.training_curve import TrainingCurveDisplay

__all__ = ["ReconstructionDisplay", "ScoreHistogramDisplay", "TrainingCurveDisplay"]
