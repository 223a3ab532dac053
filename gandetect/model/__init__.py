"""What a fit learns: one object from a sample in the user's units to its score and label."""

from gandetect.model.fitted import Model, limited_to, own_torch_settings
from gandetect.model.statistics import Part, value_of

__all__ = ["Model", "Part", "limited_to", "own_torch_settings", "value_of"]
