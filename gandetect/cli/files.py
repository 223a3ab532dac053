"""The samples of a command, by the name that other modules import."""

from gandetect.cli.data import Samples

__all__ = ["Samples"]
