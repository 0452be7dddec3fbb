"""`resnet16`: system 5's residual autoencoder."""

from __future__ import annotations

from torch import Tensor, nn

from unblur.models.base import RestorationModel
from unblur.models.registry import register


class ResBlock(nn.Module):
    """Two conv 3×3 + BN + ReLU; a 1×1 shortcut taken at the block's stride.

    With `transposed` the block doubles the resolution by transposed convolutions instead.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, transposed: bool = False
    ) -> None:
        super().__init__()
        first: nn.Module
        if transposed:
            first = nn.ConvTranspose2d(
                in_channels, out_channels, 3, stride, padding=1, output_padding=stride - 1
            )
            second: nn.Module = nn.ConvTranspose2d(out_channels, out_channels, 3, padding=1)
            self.shortcut: nn.Module = nn.ConvTranspose2d(
                in_channels, out_channels, 1, stride, output_padding=stride - 1
            )
        else:
            first = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
            second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)
        self.body = nn.Sequential(
            first,
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            second,
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class OutputBlock(nn.Module):
    """The last, 1×1 residual block to three channels: no normalisation, no last activation."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
        self.shortcut = nn.Conv2d(in_channels, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


@register("resnet16")
class ResNet16(RestorationModel):
    """Encoder 64, 128/2, 256/2, 512/2 and its mirror image; 7,366,034 parameters by Keras' count,
    which includes BatchNorm's running statistics.
    """

    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            ResBlock(3, 64), ResBlock(64, 128, 2), ResBlock(128, 256, 2), ResBlock(256, 512, 2)
        )
        self.decoder = nn.Sequential(
            ResBlock(512, 256, 2, transposed=True),
            ResBlock(256, 128, 2, transposed=True),
            ResBlock(128, 64, 2, transposed=True),
        )
        self.output = OutputBlock(64)

    def restore(self, x: Tensor) -> Tensor:
        return self.output(self.decoder(self.encoder(x)))
