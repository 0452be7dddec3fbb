"""`unshuffle_unet`: our own U-Net of plain 3×3 convolutions after a pixel-unshuffle, for CPUs.

All arithmetic happens at 1/2 resolution and below, in dense 3×3 convolutions, the one operation
that every CPU runtime does near its peak; there is no normalisation, no global statistic and no
element-wise gate, so it is local, cheap in memory traffic and the same in tiles as in one piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.plain import PlainResBlock
from unblur.models.registry import ConfigError, register


def _small_start(block: PlainResBlock) -> PlainResBlock:
    # Without normalisation, residual branches must start small for the sum to stay bounded
    # (H. Zhang et al., "Fixup initialization", ICLR 2019).
    nn.init.kaiming_normal_(block.conv2.weight)
    block.conv2.weight.data *= 0.3
    nn.init.zeros_(block.conv2.bias)  # type: ignore[arg-type]
    return block


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[_small_start(PlainResBlock(channels)) for _ in range(count)])


@register("unshuffle_unet")
class UnshuffleUNet(RestorationModel):
    """U-Net on 2×2 pixel-unshuffled input with additive skips and a global residual.

    widths: channels at 1/2, 1/4, 1/8, … resolution; the last is the bottleneck's.
    encoder_blocks: residual blocks at each of those levels.
    decoder_blocks: residual blocks on the way up, for each level but the last.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 128),
        encoder_blocks: Sequence[int] = (1, 2, 2, 4),
        decoder_blocks: Sequence[int] = (1, 2, 2),
    ) -> None:
        super().__init__()
        if not len(widths) == len(encoder_blocks) == len(decoder_blocks) + 1:
            raise ConfigError(
                "unshuffle_unet needs as many encoder_blocks as widths and one decoder_blocks "
                f"fewer, got {len(widths)}, {len(encoder_blocks)} and {len(decoder_blocks)}"
            )
        self.size_multiple = 2 ** len(widths)
        self.intro = nn.Conv2d(12, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(
            [_blocks(width, count) for width, count in zip(widths, encoder_blocks, strict=True)]
        )
        steps = list(itertools.pairwise(widths))
        self.downs = nn.ModuleList([nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in steps])
        self.ups = nn.ModuleList([nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in steps])
        self.decoders = nn.ModuleList(
            [
                _blocks(width, count)
                for width, count in zip(widths[:-1], decoder_blocks, strict=True)
            ]
        )
        self.output = nn.Conv2d(widths[0], 12, 3, padding=1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def restore(self, x: Tensor) -> Tensor:
        features = self.intro(F.pixel_unshuffle(x, 2))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.encoders[-1](features)
        for level in reversed(range(len(skips))):
            features = self.decoders[level](self.ups[level](features) + skips[level])
        return x + F.pixel_shuffle(self.output(features), 2)
