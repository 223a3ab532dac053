"""How networks learn: the loop, callbacks, and what a training came to."""

from gandetect.training.loop import TrainingRun, TrainingSamples, current_run, update

__all__ = ["TrainingRun", "TrainingSamples", "current_run", "update"]
