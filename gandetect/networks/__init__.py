"""Architectures: immutable descriptions of networks, bound to the shape of X in `fit`."""

from gandetect.networks.conv import ConvNet
from gandetect.networks.members import (
    Autoencoder,
    Discriminator,
    Network,
    NetworkMaker,
    Transform,
)
from gandetect.networks.mlp import MLP

Architecture = MLP | ConvNet

ARCHITECTURES = (MLP, ConvNet)

__all__ = [
    "ARCHITECTURES",
    "MLP",
    "Architecture",
    "Autoencoder",
    "ConvNet",
    "Discriminator",
    "Network",
    "NetworkMaker",
    "Transform",
]
