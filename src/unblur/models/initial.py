"""First weights with which a network without a global skip nearly copies its input.

What a restoration network is asked for differs little from what it is given; one that begins with
noise spends most of a short training on learning to copy.
"""

from __future__ import annotations

import torch
from torch import nn

_OTHERS = 0.01  # what is left of the other weights: gradients still reach everything
_MEAN, _SPREAD = 0.45, 0.27  # of the values of photos in [0, 1]

Conv = nn.Conv2d | nn.ConvTranspose2d


@torch.no_grad()
def copy_image(*convs: nn.Conv2d, source: int = 0) -> None:
    """Let the first three outputs of each convolution of a chain copy an image that the first one
    finds in its inputs `source`, `source + 1` and `source + 2`.

    After S. Zagoruyko and N. Komodakis' Dirac initialisation ("DiracNets", 2017), of three
    channels only: the others keep their random weights. ReLU in between changes nothing, as the
    image is not negative.
    """
    for conv in convs:
        copy_channels(conv, 3, source)
        source = 0


@torch.no_grad()
def copy_channels(conv: Conv, channels: int, source: int = 0) -> None:
    """Let a convolution's first outputs be its inputs from `source` on (0 if it is transposed)."""
    quieten(conv, channels)
    height, width = conv.kernel_size
    for channel in range(channels):
        conv.weight[channel, source + channel, height // 2, width // 2] = 1.0


@torch.no_grad()
def fold(conv: Conv, channels: int) -> None:
    """Let a 3×3 convolution of stride 2 put 2×2 pixels of its first `channels` inputs into four
    times as many outputs; a transposed one takes them apart again.
    """
    transposed = isinstance(conv, nn.ConvTranspose2d)
    quieten(conv, channels if transposed else 4 * channels)
    for corner, (row, column) in enumerate(((1, 1), (1, 2), (2, 1), (2, 2))):
        for channel in range(channels):
            conv.weight[corner * channels + channel, channel, row, column] = 1.0


@torch.no_grad()
def quieten(conv: Conv, channels: int) -> None:
    """Leave little of what makes the first outputs."""
    outputs = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
    conv.weight.narrow(outputs, 0, channels).mul_(_OTHERS)
    if conv.bias is not None:
        conv.bias[:channels] = 0.0


@torch.no_grad()
def pass_photos(norm: nn.BatchNorm2d, channels: int) -> None:
    """Let a normalisation's first channels pass on those of photos all but unchanged."""
    for values, number in (
        (norm.weight, _SPREAD),
        (norm.bias, _MEAN),
        (norm.running_mean, _MEAN),
        (norm.running_var, _SPREAD**2),
    ):
        assert values is not None  # noqa: S101  (it has statistics and is affine)
        values[:channels] = number


def damp(norm: nn.BatchNorm2d) -> None:
    """Let a residual block begin near the identity by its last normalisation's scale.

    After P. Goyal et al., "Accurate, large minibatch SGD", 2017.
    """
    nn.init.constant_(norm.weight, _OTHERS)


@torch.no_grad()
def keep_variance(conv: nn.Conv2d, slope: float = 1.0) -> None:
    """Let a convolution, with the leaky ReLU of that slope after it, pass on the variance it gets.

    For networks without normalisation: with PyTorch's own weights, ten layers leave a thousandth.
    After K. He et al., "Delving deep into rectifiers", 2015.
    """
    nn.init.kaiming_normal_(conv.weight, a=slope)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
