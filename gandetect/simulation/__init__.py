"""Simulated anomalies: Perlin masks filled with textures on images, corrupted cells in rows.

Everything draws from torch's generator, which a fit borrows with its own seed and a checkpoint
stores: a training that is taken up again goes on with the anomalies that it would have seen.
"""

from gandetect.simulation.anomalies import ImageAnomalies
from gandetect.simulation.cells import corrupt_cells
from gandetect.simulation.perlin import perlin_masks, perlin_noise
from gandetect.simulation.textures import procedural_textures, texture_pool

__all__ = [
    "ImageAnomalies",
    "corrupt_cells",
    "perlin_masks",
    "perlin_noise",
    "procedural_textures",
    "texture_pool",
]
