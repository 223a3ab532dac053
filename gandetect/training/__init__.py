"""Training: the loop, callbacks, and training diagnostics."""

from gandetect.training.loop import TrainingRun, TrainingSamples, current_run, update

__all__ = ["TrainingRun", "TrainingSamples", "current_run", "update"]
