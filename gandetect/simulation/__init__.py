"""Simulated anomalies: Perlin masks filled with textures on images, corrupted cells in rows.

Everything draws from a `torch.Generator` that is passed along, never from torch's global one. A fit
passes its own, which a checkpoint stores: a training that is resumed continues with the anomalies
that it would have seen. Without one, the numbers are new at each call.
"""

from gandetect.simulation.anomalies import ImageAnomalies
from gandetect.simulation.cells import corrupt_cells, moved_cells
from gandetect.simulation.perlin import perlin_masks, perlin_noise
from gandetect.simulation.textures import procedural_textures, texture_pool

__all__ = [
    "ImageAnomalies",
    "corrupt_cells",
    "moved_cells",
    "perlin_masks",
    "perlin_noise",
    "procedural_textures",
    "texture_pool",
]
