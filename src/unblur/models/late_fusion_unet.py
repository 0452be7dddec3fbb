"""`late_fusion_unet`: system 2's U-Net, which sees the input image again before its last layers."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.initial import copy_image
from unblur.models.registry import register


def conv_run(*channels: int) -> nn.Sequential:
    """3×3 convolutions with ReLU through the listed channel counts."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def convolutions(run: nn.Module) -> list[nn.Conv2d]:
    """Those of a `conv_run`."""
    return [layer for layer in run.children() if isinstance(layer, nn.Conv2d)]


@register("late_fusion_unet")
class LateFusionUNet(RestorationModel):
    """U-Net with max pooling, a refinement run at full resolution and late fusion of the input.

    width: channels at full resolution, doubled at each of the three levels below.
    refine_depth: number of width→width convolutions of the refinement run. Five give the published
        total of 10,577,667 parameters, six the published layer table's 10,614,595.
    """

    size_multiple = 8

    def __init__(self, refine_depth: int = 5, width: int = 64) -> None:
        super().__init__()
        self.enc1 = conv_run(3, width, width)
        self.enc2 = conv_run(width, 2 * width, 2 * width)
        self.enc3 = conv_run(2 * width, 4 * width, 4 * width)
        self.bottleneck = conv_run(4 * width, 8 * width, 8 * width, 8 * width)
        self.up3 = nn.ConvTranspose2d(8 * width, 4 * width, 2, 2)
        self.dec3 = conv_run(8 * width, 4 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.dec2 = conv_run(4 * width, 2 * width, 2 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.dec1 = conv_run(2 * width, width)
        self.refine = conv_run(width, *[width] * refine_depth)
        self.fusion = conv_run(width + 3, 2 * width, 2 * width)
        self.output = nn.Conv2d(2 * width, 3, 1)
        copy_image(*convolutions(self.fusion), self.output, source=width)

    def restore(self, x: Tensor) -> Tensor:
        skip1 = self.enc1(x)
        skip2 = self.enc2(F.max_pool2d(skip1, 2))
        skip3 = self.enc3(F.max_pool2d(skip2, 2))
        features = self.bottleneck(F.max_pool2d(skip3, 2))
        features = self.dec3(torch.cat([self.up3(features), skip3], dim=1))
        features = self.dec2(torch.cat([self.up2(features), skip2], dim=1))
        features = self.dec1(torch.cat([self.up1(features), skip1], dim=1))
        features = self.refine(features)
        return self.output(self.fusion(torch.cat([features, x], dim=1)))
