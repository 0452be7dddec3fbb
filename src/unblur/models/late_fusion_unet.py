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

    refine_depth: number of 64→64 convolutions of the refinement run. Five give the published
        total of 10,577,667 parameters, six the published layer table's 10,614,595.
    """

    size_multiple = 8

    def __init__(self, refine_depth: int = 5) -> None:
        super().__init__()
        self.enc1 = conv_run(3, 64, 64)
        self.enc2 = conv_run(64, 128, 128)
        self.enc3 = conv_run(128, 256, 256)
        self.bottleneck = conv_run(256, 512, 512, 512)
        self.up3 = nn.ConvTranspose2d(512, 256, 2, 2)
        self.dec3 = conv_run(512, 256, 256)
        self.up2 = nn.ConvTranspose2d(256, 128, 2, 2)
        self.dec2 = conv_run(256, 128, 128, 128)
        self.up1 = nn.ConvTranspose2d(128, 64, 2, 2)
        self.dec1 = conv_run(128, 64)
        self.refine = conv_run(64, *[64] * refine_depth)
        self.fusion = conv_run(64 + 3, 128, 128)
        self.output = nn.Conv2d(128, 3, 1)
        copy_image(*convolutions(self.fusion), self.output, source=64)

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
