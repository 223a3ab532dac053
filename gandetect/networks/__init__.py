"""Architectures: frozen descriptions of networks, bound to the shape of X when a detector fits."""

from gandetect.networks.conv import ConvNet
from gandetect.networks.mlp import MLP

Architecture = MLP | ConvNet

ARCHITECTURES = (MLP, ConvNet)

__all__ = ["ARCHITECTURES", "MLP", "Architecture", "ConvNet", "default_architecture"]


def default_architecture(input_shape: tuple[int, ...]) -> Architecture:
    """The architecture for samples of this shape: rows (d,) or images (C, H, W)."""
    return MLP() if len(input_shape) == 1 else ConvNet()
