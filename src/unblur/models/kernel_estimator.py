"""By what kernels parts of a photo were blurred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.fourier import (
    Spectrum,
    WindowTransform,
    cross,
    cut_apart,
    cut_windows,
    fade,
    fade_at_edges,
    filled_up,
    full_precision,
    power,
    single,
    slopes,
    with_neighbours,
)
from unblur.models.unshuffle_unet import UnshuffleTrunk, residual_block
from unblur.registry import ConfigError

EDGE_FACTOR = 4  # of the pixel-unshuffle
_MIDDLE_BLOCKS = 2  # of the head, at half its resolution
_BALANCE = 0.05  # first share of an edge map's variance that is added before dividing by it
_FLAT = 1e-5  # sum of squared slopes of a window that shows nothing
_FLOOR = 1e-4  # of a power spectrum, as a share of its mean, before its logarithm
_TARGET_BALANCE, _TARGET_LEAST = 5e-3, 0.05
_NOISE = 5e-3  # first weight against noise
_LOG_NOISES = -11.0, 3.0  # with less, filters of no use have gradients beyond all numbers


class Estimate(NamedTuple):
    """What is known of the blur in each window.

    guesses: N×rows×columns×guesses×2·reach×2·reach, equally likely kernels, each of sum 1, whose
        centre is at (reach, reach).
    balance: N×rows×columns, the weight of a slope's power against noise.
    """

    guesses: Tensor
    balance: Tensor


class KernelEstimator(nn.Module):
    """Luma N×1×H×W → an Estimate for windows that lie side by side, N×⌈H/window⌉×⌈W/window⌉.

    Each window counts with its neighbours, which are mostly blurred alike: more edges say more.

    widths, encoder_blocks, decoder_blocks: of the U-Net that finds edges. maps: pairs of edge maps
    that it makes, horizontal and vertical ones. head, head_blocks: channels and blocks of the
    network that makes kernels of their correlations with the photo. guesses: how many. hidden:
    channels inside each residual block of the U-Net, then of the other network. hints: planes
    N×hints×H×W that it finds edges with beside the luma.
    """

    fade: Tensor
    target_fade: Tensor
    lag_window: Tensor
    place: Tensor

    def __init__(
        self,
        window: int,
        reach: int,
        widths: Sequence[int],
        encoder_blocks: Sequence[int],
        decoder_blocks: Sequence[int],
        maps: int,
        head: int,
        head_blocks: int,
        guesses: int,
        hidden: Sequence[int] | None = None,
        hints: int = 0,
    ) -> None:
        super().__init__()
        self.window, self.reach, self.maps = window, reach, maps
        in_edges = sum(encoder_blocks) + sum(decoder_blocks)
        if hidden is not None and len(hidden) != in_edges + head_blocks + _MIDDLE_BLOCKS:
            raise ConfigError(
                f"wiener_unet needs edge_hidden channels for {in_edges} residual blocks of its "
                f"U-Net and {head_blocks + _MIDDLE_BLOCKS} of its head, got {list(hidden)}"
            )
        self.edges = UnshuffleTrunk(
            1 + hints,
            2 * maps * EDGE_FACTOR**2,
            widths,
            encoder_blocks,
            decoder_blocks,
            EDGE_FACTOR,
            modulated=True,
            hidden=hidden and hidden[:in_edges],
        )
        self.balance = nn.Parameter(torch.full((maps, 1, 1), math.log(_BALANCE)))
        self.photos = WindowTransform(window, 0, window)
        self.lags = WindowTransform(window, -2 * reach, 4 * reach)
        self.smooth = WindowTransform(4 * reach, -2 * reach, 4 * reach)
        self.kernels = WindowTransform(4 * reach, -reach, 2 * reach)
        hann = torch.hann_window(4 * reach, periodic=True)
        self.register_buffer("lag_window", torch.outer(hann, hann), persistent=False)
        self.register_buffer("fade", fade(window, 0.0625), persistent=False)
        self.register_buffer("target_fade", fade(window, 0.25), persistent=False)
        places = (torch.arange(2 * reach) - reach).float()
        distance = torch.hypot(places[:, None], places[None]) / reach
        place = F.pixel_unshuffle(torch.stack([distance, distance**2])[None], 2)
        self.register_buffer("place", place, persistent=False)
        self.intro = nn.Conv2d(4 * (2 * maps + 4), head, 3, padding=1)
        first = head_blocks // 2
        inside = hidden[in_edges:] if hidden else [head] * (head_blocks + _MIDDLE_BLOCKS)
        blocks = [residual_block(head, each) for each in inside]
        self.before = nn.Sequential(*blocks[:first])
        self.down = nn.Conv2d(head, head, 2, 2)
        self.middle = nn.Sequential(*blocks[first : first + _MIDDLE_BLOCKS])
        self.up = nn.ConvTranspose2d(head, head, 2, 2)
        self.after = nn.Sequential(*blocks[first + _MIDDLE_BLOCKS :])
        self.output = nn.Conv2d(head, 4 * guesses, 3, padding=1)
        self.noise = nn.Linear(head, 1)
        nn.init.zeros_(self.noise.weight)
        nn.init.constant_(self.noise.bias, math.log(_NOISE))

    def forward(self, luma: Tensor, hints: Tensor | None = None) -> Estimate:
        given = luma - 0.5 if hints is None else torch.cat([luma - 0.5, hints], 1)
        edges = F.pixel_shuffle(self.edges.transform(given), EDGE_FACTOR)
        with full_precision(luma):
            seen = self._correlations(single(luma), single(edges))
            batch, rows, columns = seen.shape[:3]
            seen = F.pixel_unshuffle(seen.flatten(0, 2), 2)
            seen = torch.cat([seen, self.place.expand(seen.shape[0], -1, -1, -1)], 1)
        x = self.before(self.intro(seen))
        x = x + self.up(self.middle(self.down(x)))
        x = F.relu(self.after(x))
        logits = single(F.pixel_shuffle(self.output(x), 2))
        side = 2 * self.reach
        guesses = logits.flatten(2).softmax(2).reshape(batch, rows, columns, -1, side, side)
        noise = single(self.noise(x.mean((2, 3)))).clamp(*_LOG_NOISES).exp()
        return Estimate(guesses, noise.reshape(batch, rows, columns))

    def _spectra(self, pair: Tensor) -> Spectrum:
        """N×2×H×W → of windows side by side, N×rows×columns×2×window×(window/2+1).

        The edges of the image count little: what made them lies outside.
        """
        faded = fade_at_edges(pair, self.window // 4)
        return self.photos(cut_apart(faded, self.window) * self.fade)

    def _correlations(self, luma: Tensor, edges: Tensor) -> Tensor:
        """Of each window …×(2·maps+2)×2·reach×2·reach values, each of the maps of the same norm.

        For each pair of edge maps the kernel by least squares that makes the photo's slopes of
        them, and the correlation of both; then the photo's autocorrelation and its cepstrum.
        """
        maps, middle = self.maps, 2 * self.reach
        photo = self._spectra(slopes(luma))
        crossed, powers = [], []
        for index in range(maps):  # one after the other, for memory's sake
            pair = self._spectra(edges[:, index::maps])
            crossed.append(self.lags.inverse(*cross(pair, photo)))
            powers.append(power(pair))
        powers.append(power(photo))
        alone = [self.lags.inverse(each, torch.zeros_like(each)) for each in powers]
        correlation, own = (
            with_neighbours(torch.stack(each, -3)) * self.lag_window for each in (crossed, alone)
        )
        variance = own[..., middle : middle + 1, middle : middle + 1].clamp_min(_FLAT)
        spectrum = self.smooth(own)[0].clamp_min(0)
        divisor, whole = spectrum[..., :maps, :, :], spectrum[..., maps:, :, :]
        # Not its exponential as a factor: graphs would hold that instead of the weights themselves.
        divisor = divisor + torch.exp(torch.log(variance[..., :maps, :, :]) + self.balance)
        real, imaginary = self.smooth(correlation)
        cepstrum = torch.log(whole / variance[..., maps:, :, :] + _FLOOR)
        real = torch.cat([real / divisor, cepstrum], -3)
        imaginary = torch.cat([imaginary / divisor, torch.zeros_like(cepstrum)], -3)
        near = self.kernels.inverse(real, imaginary)
        kernels, cepstrum = near[..., :maps, :, :], near[..., maps:, :, :]
        correlations = torch.cat([correlation, own[..., maps:, :, :]], -3)
        inner = slice(middle - self.reach, middle + self.reach)
        seen = torch.cat([kernels, correlations[..., inner, inner], cepstrum], -3)
        # Norms come near to 1e-6. The root has no slope at 0, where a window shows nothing.
        norm = seen.square().sum((-2, -1), keepdim=True).clamp_min(1e-20).sqrt()
        return seen / (norm + 1e-6) * (self.reach / 2)

    def targets(self, blurred: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        """(kernels, trust) that make the one luma of the other by least squares, not negative.

        For each half-overlapping window …×2·reach×2·reach, of sum 1, and the share, 0…1, of the
        blurred slopes' energy that the kernel explains: little where there is nothing but noise.
        No gradient.
        """
        near = slice(self.reach, 3 * self.reach)
        with torch.no_grad(), full_precision(blurred):
            hop = self.window // 2
            photo, edges = (
                self.photos(
                    cut_windows(filled_up(slopes(single(x)), hop), self.window, hop)
                    * self.target_fade
                )
                for x in (blurred, sharp)
            )
            strength, both = power(edges), cross(edges, photo)
            divisor = strength + _TARGET_BALANCE * strength.mean((-2, -1), keepdim=True) + 1e-9
            lags = self.lags.inverse(both[0] / divisor, both[1] / divisor)
            kernels = lags[..., near, near].clamp_min(0)
            largest = kernels.amax((-2, -1), keepdim=True)
            kernels = kernels.where(kernels > _TARGET_LEAST * largest, 0.0)
            kernels = kernels / kernels.sum((-2, -1), keepdim=True).clamp_min(1e-9)
            # |B − K·S|² summed over frequencies, beside |B|².
            e, f = self.lags(F.pad(kernels, (self.reach,) * 4))
            energy = power(photo)
            left = energy - 2 * (e * both[0] + f * both[1]) + (e**2 + f**2) * strength
            unexplained = left.sum((-2, -1)) / energy.sum((-2, -1)).clamp_min(1e-9)
            return kernels, (1 - unexplained).clamp(0, 1)


def kernel_distance(guesses: Tensor, kernels: Tensor) -> Tensor:
    """Kullback–Leibler divergence of the mean of …×guesses×2·reach×2·reach from each kernel."""
    surprise = kernels.clamp_min(1e-8).log() - guesses.mean(-3).clamp_min(1e-8).log()
    return (kernels * surprise).sum((-2, -1))
