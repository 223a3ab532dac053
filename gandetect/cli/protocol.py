"""What a command scores, by the name that other modules import."""

from gandetect.cli.data import samples_to_score

__all__ = ["samples_to_score"]
