"""`res_unet`: system 4's small U-Net/ResNet hybrid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.registry import register


class ResBlock(nn.Module):
    """Conv 3×3 → BN → ReLU → conv 3×3 → BN, plus a 1×1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


@register("res_unet")
class ResUNet(RestorationModel):
    """Two pooled levels that see the first features again, two residual blocks, two upsamplings.

    972,739 parameters by the published table, which counts BatchNorm's running statistics too
    (971,715 of them are trained).

    width: channels of the second convolution; others are a quarter of it or twice as many.
    """

    size_multiple = 4

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 4, 3, padding=1)
        self.conv2 = nn.Conv2d(width // 4 + 3, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width + width // 4, 2 * width, 3, padding=1)
        self.block1 = ResBlock(2 * width + width // 4, 2 * width)
        self.block2 = ResBlock(2 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, 2 * width, 3, 2, padding=1, output_padding=1)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 3, 2, padding=1, output_padding=1)
        self.output = nn.Conv2d(width, 3, 3, padding=1)

    def restore(self, x: Tensor) -> Tensor:
        first = F.relu(self.conv1(x))
        features = F.relu(self.conv2(torch.cat([first, x], dim=1)))
        first = F.max_pool2d(first, 2)
        features = F.relu(self.conv3(torch.cat([F.max_pool2d(features, 2), first], dim=1)))
        first = F.max_pool2d(first, 2)
        features = self.block1(torch.cat([F.max_pool2d(features, 2), first], dim=1))
        features = self.block2(features)
        return self.output(F.relu(self.up2(F.relu(self.up1(features)))))
