"""Simulated anomalies: Perlin masks filled with textures on images, corrupted cells in rows.

All random numbers are drawn from a `torch.Generator` that is passed as an argument, never from
torch's global generator. A fit passes its own generator and stores it in checkpoints, so that a
resumed training draws the same anomalies as an uninterrupted one. Without a generator, a new seed
is used at each call.
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
