"""`nafnet`: the nonlinear-activation-free network, the strongest simple public design."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unblur.models.base import RestorationModel
from unblur.models.registry import ConfigError, register
from unblur.models.statistics import GlobalMean


class LayerNorm2d(nn.Module):
    """Normalisation over the channels of each pixel, its sums in float32 (fp16 overflows)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        centred = wide - wide.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        normalized = (centred * torch.rsqrt(variance + self.eps)).to(x.dtype)
        return normalized * self.weight[:, None, None] + self.bias[:, None, None]


def gate(x: Tensor) -> Tensor:
    """SimpleGate: one half of the channels times the other."""
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """Depthwise convolution with channel attention, then a gated pointwise pair, both residual.

    kernel_size: of the depthwise convolution. attention: without it, the block is local.
    """

    def __init__(self, channels: int, kernel_size: int = 3, attention: bool = True) -> None:
        super().__init__()
        wide = 2 * channels
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, kernel_size, padding=kernel_size // 2, groups=wide)
        self.sca: nn.Module | None = None
        if attention:
            self.sca = nn.Sequential(GlobalMean(), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.norm1 = LayerNorm2d(channels)
        self.norm2 = LayerNorm2d(channels)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = gate(self.conv2(self.conv1(self.norm1(x))))
        if self.sca is not None:
            features = features * self.sca(features)
        x = x + self.conv3(features) * self.beta
        return x + self.conv5(gate(self.conv4(self.norm2(x)))) * self.gamma


@register("nafnet")
class NAFNet(RestorationModel):
    """U-Net of NAF blocks (L. Chen et al., "Simple baselines for image restoration", ECCV 2022).

    width: channels at full resolution, doubled at every level.
    encoder_blocks, middle_blocks, decoder_blocks: blocks at each level on the way down, at the
        bottom, and on the way up from the coarsest level. The default is the published GoPro
        network of width 32.

    Parameter names are those of the public checkpoints.
    """

    def __init__(
        self,
        width: int = 32,
        encoder_blocks: Sequence[int] = (1, 1, 1, 28),
        middle_blocks: int = 1,
        decoder_blocks: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        if len(encoder_blocks) != len(decoder_blocks):
            raise ConfigError(
                "nafnet needs as many encoder_blocks as decoder_blocks, got "
                f"{list(encoder_blocks)} and {list(decoder_blocks)}"
            )
        self.size_multiple = 2 ** len(encoder_blocks)

        def blocks(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(*[NAFBlock(channels) for _ in range(count)])

        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        channels = width
        for count in encoder_blocks:
            self.encoders.append(blocks(channels, count))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, 2))
            channels *= 2
        self.middle_blks = blocks(channels, middle_blocks)
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        for count in decoder_blocks:
            self.ups.append(
                nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2))
            )
            channels //= 2
            self.decoders.append(blocks(channels, count))

    @classmethod
    def options_from(cls, weights: dict[str, Tensor]) -> dict[str, Any] | None:
        if not {"intro.weight", "ending.weight", "middle_blks.0.beta"} <= weights.keys():
            return None

        def blocks(prefix: str) -> int:
            return sum(key.startswith(prefix) and key.endswith(".beta") for key in weights)

        levels = sum(key.startswith("downs.") and key.endswith(".weight") for key in weights)
        return {
            "width": weights["intro.weight"].shape[0],
            "encoder_blocks": [blocks(f"encoders.{level}.") for level in range(levels)],
            "middle_blocks": blocks("middle_blks."),
            "decoder_blocks": [blocks(f"decoders.{level}.") for level in range(levels)],
        }

    def restore(self, x: Tensor) -> Tensor:
        features = self.intro(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.middle_blks(features)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            features = decoder(up(features) + skips.pop())
        return x + self.ending(features)
