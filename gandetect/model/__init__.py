"""The fitted model: one object that maps a sample in the units of X to its score and label."""

from gandetect.model.fitted import Model, limited_to, own_torch_settings
from gandetect.model.statistics import Part, value_of

__all__ = ["Model", "Part", "limited_to", "own_torch_settings", "value_of"]
