"""`resnet16`: system 5's residual autoencoder."""

from __future__ import annotations

from torch import Tensor, nn

from unblur.models.base import RestorationModel
from unblur.models.initial import (
    Conv,
    copy_channels,
    damp,
    fold,
    pass_photos,
    quieten,
)
from unblur.models.registry import register


class ResBlock(nn.Module):
    """Two conv 3×3 + BN + ReLU; a 1×1 shortcut taken at the block's stride.

    With `transposed` the block doubles the resolution by transposed convolutions instead.
    copied: how many channels, at the finer resolution, it begins by passing on.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        transposed: bool = False,
        *,
        copied: int,
    ) -> None:
        super().__init__()
        first, second, shortcut = (
            self._transposed(in_channels, out_channels, stride)
            if transposed
            else self._plain(in_channels, out_channels, stride)
        )
        norms = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
        self.body = nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU())
        self.shortcut = shortcut
        if stride == 1:
            copy_channels(shortcut, copied)
            damp(norms[1])
        else:
            outputs = copied if transposed else 4 * copied
            fold(first, copied)
            copy_channels(second, outputs)
            quieten(shortcut, outputs)
            for norm in norms:
                pass_photos(norm, outputs)

    @staticmethod
    def _plain(inputs: int, outputs: int, stride: int) -> tuple[Conv, Conv, Conv]:
        return (
            nn.Conv2d(inputs, outputs, 3, stride, padding=1),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.Conv2d(inputs, outputs, 1, stride),
        )

    @staticmethod
    def _transposed(inputs: int, outputs: int, stride: int) -> tuple[Conv, Conv, Conv]:
        more = stride - 1
        return (
            nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=more),
            nn.ConvTranspose2d(outputs, outputs, 3, padding=1),
            nn.ConvTranspose2d(inputs, outputs, 1, stride, output_padding=more),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class OutputBlock(nn.Module):
    """The last, 1×1 residual block to three channels: no normalisation, no last activation."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(3, 3, 1)
        self.body = nn.Sequential(nn.Conv2d(in_channels, 3, 1), nn.ReLU(), last)
        self.shortcut = nn.Conv2d(in_channels, 3, 1)
        copy_channels(self.shortcut, 3)
        quieten(last, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


@register("resnet16")
class ResNet16(RestorationModel):
    """Encoder 64, 128/2, 256/2, 512/2 and its mirror image; 7,366,034 parameters by Keras' count,
    which includes BatchNorm's running statistics.

    It begins by folding pixels into channels on the way down and taking them apart on the way up.
    """

    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            ResBlock(3, 64, copied=3),
            ResBlock(64, 128, 2, copied=3),
            ResBlock(128, 256, 2, copied=12),
            ResBlock(256, 512, 2, copied=48),
        )
        self.decoder = nn.Sequential(
            ResBlock(512, 256, 2, transposed=True, copied=48),
            ResBlock(256, 128, 2, transposed=True, copied=12),
            ResBlock(128, 64, 2, transposed=True, copied=3),
        )
        self.output = OutputBlock(64)

    def restore(self, x: Tensor) -> Tensor:
        return self.output(self.decoder(self.encoder(x)))
