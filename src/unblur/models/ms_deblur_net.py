"""`ms_deblur_net`: system 5's coarse-to-fine generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import MultiScaleModel
from unblur.models.initial import copy_image, damp
from unblur.models.registry import register


class ResBlock(nn.Module):
    """conv 5×5 – BN – ReLU – conv 5×5 – BN + x, no last activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 5, padding=2),
            nn.BatchNorm2d(channels),
        )
        damp(self.body[-1])  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Branch(nn.Sequential):
    """One scale: conv 5×5 → residual blocks → conv 5×5 → tanh."""

    def __init__(self, in_channels: int, num_blocks: int) -> None:
        first, last = nn.Conv2d(in_channels, 64, 5, padding=2), nn.Conv2d(64, 3, 5, padding=2)
        copy_image(first, source=in_channels - 3)  # the image is behind the coarser scale's output
        copy_image(last)
        super().__init__(first, *[ResBlock(64) for _ in range(num_blocks)], last, nn.Tanh())


@register("ms_deblur_net")
class MSDeblurNet(MultiScaleModel):
    """Three branches at 1/4, 1/2 and 1/1; each coarser output is upsampled into the next one.

    After S. Nah et al., "Deep multi-scale convolutional neural network for dynamic scene
    deblurring", CVPR 2017. Images in [−1, 1].

    num_blocks: residual blocks a branch; 19 give 11,943,553 and 5 give 3,315,073 parameters by
        Keras' count, which includes BatchNorm's running statistics.
    """

    size_multiple = 4
    value_range = (-1.0, 1.0)

    def __init__(self, num_blocks: int = 19) -> None:
        super().__init__()
        self.coarse = Branch(3, num_blocks)
        self.coarse_up = nn.ConvTranspose2d(3, 61, 5, 2, padding=2, output_padding=1)
        self.middle = Branch(61 + 3, num_blocks)
        self.middle_up = nn.ConvTranspose2d(3, 61, 5, 2, padding=2, output_padding=1)
        self.fine = Branch(61 + 3, num_blocks)

    def scales(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Restored images at 1/4, 1/2 and 1/1."""
        half = F.avg_pool2d(x, 2)
        quarter = F.avg_pool2d(half, 2)
        coarse = self.coarse(quarter)
        middle = self.middle(torch.cat([self.coarse_up(coarse), half], dim=1))
        fine = self.fine(torch.cat([self.middle_up(middle), x], dim=1))
        return coarse, middle, fine
