"""`unet16`: system 5's small plain U-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.initial import copy_image
from unblur.models.late_fusion_unet import conv_run, convolutions
from unblur.models.registry import register


@register("unet16")
class UNet16(RestorationModel):
    """Four levels of two 3×3 convolutions with ReLU, max pooling, 2×2 transposed convolutions.

    width: channels of the first level, doubled at each further one (16: 482,067 parameters).
    """

    size_multiple = 8

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.encoders = nn.ModuleList(
            [conv_run(i, o, o) for i, o in zip([3, *widths[:-1]], widths, strict=True)]
        )
        self.ups = nn.ModuleList(
            [nn.ConvTranspose2d(2 * o, o, 2, 2) for o in reversed(widths[:-1])]
        )
        self.decoders = nn.ModuleList([conv_run(2 * o, o, o) for o in reversed(widths[:-1])])
        self.output = nn.Conv2d(width, 3, 1)
        first, last = convolutions(self.encoders[0]), convolutions(self.decoders[-1])
        copy_image(*first)
        copy_image(*last, self.output, source=width)  # of the skip

    def restore(self, x: Tensor) -> Tensor:
        skips = []
        features = x
        for level, encoder in enumerate(self.encoders):
            features = encoder(F.max_pool2d(features, 2) if level else features)
            skips.append(features)
        skips.pop()
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            features = decoder(torch.cat([F.relu(up(features)), skips.pop()], dim=1))
        return self.output(features)
