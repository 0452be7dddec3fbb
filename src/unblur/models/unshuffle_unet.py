"""`unshuffle_unet`: our own U-Net after a pixel-unshuffle, for CPUs.

All arithmetic happens at 1/2 resolution and below, at the fine levels in dense 3×3 convolutions,
the one operation that every CPU runtime does near its peak. At coarse levels, where memory
traffic hardly counts, gated blocks with large depthwise kernels can take their place. There is no
global statistic, so a photo is the same in tiles as in one piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.growth import grow
from unblur.models.nafnet import NAFBlock
from unblur.models.plain import PlainResBlock
from unblur.models.registry import ConfigError, register

_GATED_KERNEL = 7
_OPEN = 4.0  # sigmoid(4) = 0.98


def residual_block(channels: int, hidden: int | None = None) -> PlainResBlock:
    """A plain residual block that begins near the identity.

    Without normalisation, residual branches must start small for the sum to stay bounded
    (H. Zhang et al., "Fixup initialization", ICLR 2019).
    """
    block = PlainResBlock(channels, hidden)
    nn.init.kaiming_normal_(block.conv2.weight)
    block.conv2.weight.data *= 0.3
    nn.init.zeros_(block.conv2.bias)  # type: ignore[arg-type]
    return block


def _blocks(channels: int, count: int, gated: bool, hidden: Iterator[int]) -> nn.Sequential:
    if gated:
        return nn.Sequential(
            *[NAFBlock(channels, _GATED_KERNEL, attention=False) for _ in range(count)]
        )
    own = itertools.islice(hidden, count)
    return nn.Sequential(*[residual_block(channels, each) for each in own])


class UnshuffleTrunk(nn.Module):
    """A U-Net between pixel-unshuffled inputs and outputs that are still unshuffled.

    N×inputs×H×W → N×outputs×H/factor×W/factor. The other options are those of UnshuffleUNet;
    raises ConfigError when they do not fit together.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        encoder_blocks: Sequence[int],
        decoder_blocks: Sequence[int],
        factor: int = 2,
        gated_levels: int = 0,
        modulated: bool = False,
        hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not len(widths) == len(encoder_blocks) == len(decoder_blocks) + 1:
            raise ConfigError(
                "unshuffle_unet needs as many encoder_blocks as widths and one decoder_blocks "
                f"fewer, got {len(widths)}, {len(encoder_blocks)} and {len(decoder_blocks)}"
            )
        if factor not in (1, 2, 4, 8):
            raise ConfigError(f"unshuffle_unet's factor is 1, 2, 4 or 8, not {factor}")
        if not 0 <= gated_levels <= len(widths):
            raise ConfigError(f"unshuffle_unet has no {gated_levels} levels to be gated")
        self.factor = factor
        # What cannot grow: gated levels normalise over their channels.
        self._kind = (factor, len(widths), tuple(widths[len(widths) - gated_levels :]))
        self.size_multiple = factor * 2 ** (len(widths) - 1)
        gated = [level >= len(widths) - gated_levels for level in range(len(widths))]
        levels = [*zip(widths, encoder_blocks, gated, strict=True)]
        levels += zip(widths, decoder_blocks, gated, strict=False)
        outside = [width for width, count, gate in levels for _ in range(0 if gate else count)]
        hidden = outside if hidden is None else hidden
        if len(hidden) != len(outside) or min(hidden, default=1) < 1:
            raise ConfigError(
                f"unshuffle_unet needs hidden channels for {len(outside)} residual blocks, at "
                f"least 1 each, got {list(hidden)}"
            )
        left = iter(hidden)
        self.intro = nn.Conv2d(inputs * factor**2, widths[0], 3, padding=1)
        way_down, way_up = levels[: len(widths)], levels[len(widths) :]
        self.encoders = nn.ModuleList([_blocks(*level, left) for level in way_down])
        steps = list(itertools.pairwise(widths))
        self.downs = nn.ModuleList([nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in steps])
        self.ups = nn.ModuleList([nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in steps])
        self.scales = nn.ModuleList(
            [nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in steps if modulated]
        )
        for weights in self.scales.parameters():
            nn.init.zeros_(weights)
        self.decoders = nn.ModuleList([_blocks(*level, left) for level in way_up])
        self.output = nn.Conv2d(widths[0], outputs, 3, padding=1)

    def transform(self, x: Tensor) -> Tensor:
        """N×inputs×H×W, sides multiples of `size_multiple` → N×outputs×H/factor×W/factor."""
        features = self.intro(F.pixel_unshuffle(x, self.factor))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.encoders[-1](features)
        for level in reversed(range(len(skips))):
            skip = skips[level]
            if self.scales:
                skip = skip + skip * self.scales[level](features)
            features = self.decoders[level](self.ups[level](features) + skip)
        return self.output(features)

    def grow_out_of(self, trained: UnshuffleTrunk) -> None:
        """Do what a trained one does, which may have fewer inputs, channels and blocks (`grow`).

        Raises ConfigError when the other one is not smaller.
        """
        self.require_levels_of(trained)
        grow(self, trained.state_dict())

    def require_levels_of(self, trained: UnshuffleTrunk) -> None:
        """Raise ConfigError where the other one differs in what cannot grow."""
        if self._kind != trained._kind:
            raise ConfigError("was trained with another factor, number of levels, or gated levels")


@register("unshuffle_unet")
class UnshuffleUNet(UnshuffleTrunk, RestorationModel):
    """U-Net on pixel-unshuffled input with additive skips and a global residual.

    widths: channels at each level, such as 1/2, 1/4, 1/8 … of the resolution; the last is the
        bottleneck's.
    encoder_blocks: residual blocks at each of those levels.
    decoder_blocks: residual blocks on the way up, for each level but the last.
    factor: of the pixel-unshuffle; the first level has 1/factor of the resolution.
    gated_levels: so many of the coarsest levels consist of gated blocks.
    modulated: on the way up, the coarser level also scales the channels that come across from the
        encoder: what is seen of the blur chooses the filters that undo it.
    confidence: a map between 0 and 1, learned like all else, multiplies the residual, so that
        nothing is easier to learn than to leave a pixel alone. It begins at 0.98.
    hidden: channels inside each residual block, on the way down, then from the finest level of the
        way up to the coarsest; those of its level unless given. Pruning makes them fewer.
    """

    # A sixth of the arithmetic of the shipped models. With them in int8, too, sharp photos come
    # back 20 dB further from what they are in float32.
    float_sections = ("decoders.0",)
    hidden_options = MappingProxyType({"hidden": ""})

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 128),
        encoder_blocks: Sequence[int] = (1, 2, 2, 4),
        decoder_blocks: Sequence[int] = (1, 2, 2),
        factor: int = 2,
        gated_levels: int = 0,
        modulated: bool = False,
        confidence: bool = False,
        hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            3,
            (3 + confidence) * factor**2,
            widths,
            encoder_blocks,
            decoder_blocks,
            factor,
            gated_levels,
            modulated,
            hidden,
        )
        self.confidence = confidence
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        if confidence:  # begins open: where it has closed, nothing is learned any more
            with torch.no_grad():
                self.output.bias[3 * factor**2 :] = _OPEN  # type: ignore[index]

    def begin_with(self, trained: RestorationModel) -> None:
        """Grow out of a trained network, which may have fewer channels and blocks.

        Raises ConfigError when the other one is not smaller.
        """
        assert isinstance(trained, UnshuffleUNet)  # noqa: S101
        if self.confidence != trained.confidence:
            raise ConfigError("was trained with another confidence")
        self.grow_out_of(trained)

    def restore(self, x: Tensor) -> Tensor:
        change = F.pixel_shuffle(self.transform(x), self.factor)
        if self.confidence:
            change = change[:, :3] * torch.sigmoid(change[:, 3:])
        return x + change
