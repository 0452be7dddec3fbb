"""First weights with which a network without a global skip nearly copies its input.

What a restoration network is asked for differs little from what it is given; one that begins with
noise spends most of a short training on learning to copy.
"""

from __future__ import annotations

import torch
from torch import nn

_OTHERS = 0.01  # what is left of the other weights: gradients still reach everything


@torch.no_grad()
def copy_image(*convs: nn.Conv2d, source: int = 0) -> None:
    """Let the first three outputs of each convolution of a chain copy an image that the first one
    finds in its inputs `source`, `source + 1` and `source + 2`.

    After S. Zagoruyko and N. Komodakis' Dirac initialisation ("DiracNets", 2017), of three
    channels only: the others keep their random weights. ReLU in between changes nothing, as the
    image is not negative.
    """
    for conv in convs:
        height, width = conv.kernel_size
        conv.weight[:3] *= _OTHERS
        for channel in range(3):
            conv.weight[channel, source + channel, height // 2, width // 2] = 1.0
        if conv.bias is not None:
            conv.bias[:3] = 0.0
        source = 0


def damp(norm: nn.BatchNorm2d) -> None:
    """Let a residual block begin near the identity by its last normalisation's scale.

    After P. Goyal et al., "Accurate, large minibatch SGD", 2017.
    """
    nn.init.constant_(norm.weight, _OTHERS)
