"""How networks learn: the loop, several processes, callbacks, and what a training came to."""

from gandetect.training.loop import update

__all__ = ["update"]
