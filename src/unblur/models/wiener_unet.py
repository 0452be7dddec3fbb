"""`wiener_unet`: sees how a photo was blurred, undoes that by a Wiener filter, mends the rest.

What a plain network has to learn from hundreds of gigapixels, that a blur is a convolution, is
built in. An estimator compares a photo with what it takes for its sharp edges, window by window,
and says by which kernel the one became the other (S. Cho and S. Lee, "Fast motion deblurring",
SIGGRAPH Asia 2009, with learned edges as in C. J. Schuler et al., "Learning to deblur", TPAMI
2016). The window is divided by the kernel's spectrum (N. Wiener, 1949). A U-Net sees the photo
beside the result and chooses. A photo that is sharp has a kernel of one point, which changes
nothing. Kernels belong to windows, so blur may vary over the photo, and tiles agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.fourier import (
    WindowTransform,
    cut_windows,
    fade,
    full_precision,
    join_windows,
    single,
    slopes,
)
from unblur.models.registry import ConfigError, register
from unblur.models.unshuffle_unet import UnshuffleTrunk, UnshuffleUNet, residual_block

_FACTOR, _EDGE_FACTOR = 2, 4  # of the pixel-unshuffles
_BALANCE = 0.05  # first share of an edge map's variance that is added before dividing by it
_DARK = 1e-4  # the least luma: powers have an infinite slope at 0
_FLOOR = 1e-4  # of a power spectrum, as a share of its mean, before its logarithm
_TARGET_BALANCE, _TARGET_LEAST = 5e-3, 0.05
# (gamma, balance): luma is taken to that power, 2.2 being roughly linear light, and divided by the
# kernel's spectrum with that weight against noise. Where they differ, one of them is wrong.
_FILTERS = ((1.0, 1e-3), (1.0, 2e-2), (2.2, 5e-3))


class KernelEstimator(nn.Module):
    """Luma N×1×H×W → logits of kernels, N×rows×columns×2·reach×2·reach.

    One for every half-overlapping window; their softmax is the kernel, whose centre is at
    (reach, reach). widths, encoder_blocks, decoder_blocks: of the U-Net that finds edges. maps:
    pairs of edge maps that it makes, horizontal and vertical ones. head, head_blocks: channels and
    blocks of the network that makes a kernel of their correlations with the photo.
    """

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
    ) -> None:
        super().__init__()
        self.window, self.reach, self.maps = window, reach, maps
        self.edges = UnshuffleTrunk(
            1,
            2 * maps * _EDGE_FACTOR**2,
            widths,
            encoder_blocks,
            decoder_blocks,
            _EDGE_FACTOR,
            modulated=True,
        )
        self.balance = nn.Parameter(torch.full((maps,), math.log(_BALANCE)))
        self.photos = WindowTransform(window, 0, window)
        self.lags = WindowTransform(window, -2 * reach, 4 * reach)
        self.smooth = WindowTransform(4 * reach, -2 * reach, 4 * reach)
        self.kernels = WindowTransform(4 * reach, -reach, 2 * reach)
        hann = torch.hann_window(4 * reach, periodic=True)
        self.register_buffer("lag_window", torch.outer(hann, hann), persistent=False)
        self.register_buffer("fade", fade(window, 0.25), persistent=False)
        places = (torch.arange(2 * reach) - reach).float()
        distance = torch.hypot(places[:, None], places[None]) / reach
        place = F.pixel_unshuffle(torch.stack([distance, distance**2])[None], 2)
        self.register_buffer("place", place, persistent=False)
        self.intro = nn.Conv2d(4 * (2 * maps + 4), head, 3, padding=1)
        first = head_blocks // 2
        self.before = nn.Sequential(*[residual_block(head) for _ in range(first)])
        self.down = nn.Conv2d(head, head, 2, 2)
        self.middle = nn.Sequential(*[residual_block(head) for _ in range(2)])
        self.up = nn.ConvTranspose2d(head, head, 2, 2)
        self.after = nn.Sequential(*[residual_block(head) for _ in range(head_blocks - first)])
        self.output = nn.Conv2d(head, 4, 3, padding=1)

    def forward(self, luma: Tensor) -> Tensor:
        edges = F.pixel_shuffle(self.edges.transform(luma - 0.5), _EDGE_FACTOR)
        with full_precision(luma):
            seen = torch.cat([slopes(single(luma)), single(edges)], 1)
            seen = self._correlations(cut_windows(seen, self.window) * self.fade)
            batch, rows, columns = seen.shape[:3]
            seen = F.pixel_unshuffle(seen.flatten(0, 2), 2)
            seen = torch.cat([seen, self.place.expand(seen.shape[0], -1, -1, -1)], 1)
        x = self.before(self.intro(seen))
        x = x + self.up(self.middle(self.down(x)))
        logits = single(F.pixel_shuffle(self.output(F.relu(self.after(x))), 2))
        return logits.reshape(batch, rows, columns, 2 * self.reach, 2 * self.reach)

    def _correlations(self, windows: Tensor) -> Tensor:
        """…×(2+2·maps)×window×window → …×(2·maps+2)×2·reach×2·reach, each of the same norm.

        For each pair of edge maps the kernel by least squares that makes the photo's slopes of
        them, and the correlation of both; then the photo's autocorrelation and its cepstrum.
        """
        maps, middle = self.maps, 2 * self.reach
        real, imaginary = self.photos(windows)
        split = [2, maps, maps]
        (a, right, below), (b, right_b, below_b) = (p.split(split, -3) for p in (real, imaginary))
        cross = [
            right * a[..., :1, :, :]
            + right_b * b[..., :1, :, :]
            + below * a[..., 1:, :, :]
            + below_b * b[..., 1:, :, :],
            right * b[..., :1, :, :]
            - right_b * a[..., :1, :, :]
            + below * b[..., 1:, :, :]
            - below_b * a[..., 1:, :, :],
        ]
        own = right**2 + right_b**2 + below**2 + below_b**2
        own = torch.cat([own, (a**2 + b**2).sum(-3, keepdim=True)], -3)
        correlation = self.lags.inverse(*cross) * self.lag_window
        own = self.lags.inverse(own, torch.zeros_like(own)) * self.lag_window
        variance = own[..., middle : middle + 1, middle : middle + 1] + 1e-9
        power = self.smooth(own)[0].clamp_min(0)
        divisor, photo = power.split([maps, 1], -3)
        divisor = divisor + torch.exp(self.balance).view(-1, 1, 1) * variance[..., :maps, :, :]
        real, imaginary = self.smooth(correlation)
        cepstrum = torch.log(photo / variance[..., maps:, :, :] + _FLOOR)
        real = torch.cat([real / divisor, cepstrum], -3)
        imaginary = torch.cat([imaginary / divisor, torch.zeros_like(cepstrum)], -3)
        kernels, cepstrum = self.kernels.inverse(real, imaginary).split([maps, 1], -3)
        correlations = torch.cat([correlation, own[..., maps:, :, :]], -3)
        near = slice(middle - self.reach, middle + self.reach)
        seen = torch.cat([kernels, correlations[..., near, near], cepstrum], -3)
        norm = seen.square().sum((-2, -1), keepdim=True).sqrt()
        return seen / (norm + 1e-6) * (self.reach / 2)

    def targets(self, blurred: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        """(kernels, trust) that make the one luma of the other by least squares, not negative.

        For each window …×2·reach×2·reach, of sum 1, and the share, 0…1, of the blurred slopes'
        energy that the kernel explains: little where there is nothing but noise. No gradient.
        """
        near = slice(self.reach, 3 * self.reach)
        with torch.no_grad(), full_precision(blurred):
            pair = torch.cat([slopes(single(blurred)), slopes(single(sharp))], 1)
            real, imaginary = self.photos(cut_windows(pair, self.window) * self.fade)
            (a, c), (b, d) = (part.split(2, -3) for part in (real, imaginary))
            power = (c**2 + d**2).sum(-3)
            cross = (c * a + d * b).sum(-3), (c * b - d * a).sum(-3)
            divisor = power + _TARGET_BALANCE * power.mean((-2, -1), keepdim=True) + 1e-9
            lags = self.lags.inverse(cross[0] / divisor, cross[1] / divisor)
            kernels = lags[..., near, near].clamp_min(0)
            largest = kernels.amax((-2, -1), keepdim=True)
            kernels = kernels.where(kernels > _TARGET_LEAST * largest, 0.0)
            kernels = kernels / kernels.sum((-2, -1), keepdim=True).clamp_min(1e-9)
            # |B − K·S|² summed over frequencies, beside |B|².
            e, f = self.lags(F.pad(kernels, (self.reach,) * 4))
            energy = (a**2 + b**2).sum(-3)
            left = energy - 2 * (e * cross[0] + f * cross[1]) + (e**2 + f**2) * power
            unexplained = left.sum((-2, -1)) / energy.sum((-2, -1)).clamp_min(1e-9)
            return kernels, (1 - unexplained).clamp(0, 1)


class WienerFilter(nn.Module):
    """Luma N×1×H×W and its kernels, one a window → N×3×H×W: what each of `_FILTERS` would change.

    Slopes of photos are taken to be Gaussian, alike at all scales, the noise to be white. Colours
    are nearly alike in what blur takes from them, and their mean has less noise.
    """

    def __init__(self, window: int, reach: int) -> None:
        super().__init__()
        self.window = window
        self.photos = WindowTransform(window, 0, window)
        self.kernels = WindowTransform(window, -reach, 2 * reach)
        # What fades before the transform is not used behind it; both together are a Hann window,
        # whose halves add up to 1.
        before = fade(window, 0.125)
        self.register_buffer("before", before, persistent=False)
        self.register_buffer("behind", fade(window, 0.5) / before, persistent=False)
        rows = torch.sin(math.pi / window * torch.arange(window)) ** 2
        slope = 4 * (rows[:, None] + rows[None, : window // 2 + 1]) + 1e-4
        self.register_buffer("slope", slope, persistent=False)

    def forward(self, luma: Tensor, kernels: Tensor) -> Tensor:
        hop = self.window // 2
        kernels = torch.cat([kernels[:, :1], kernels, kernels[:, -1:]], 1)
        kernels = torch.cat([kernels[:, :, :1], kernels, kernels[:, :, -1:]], 2)
        real, imaginary = self.kernels(kernels)
        power = real**2 + imaginary**2
        luma = F.pad(luma, (hop, hop, hop, hop), mode="reflect")
        spectra: dict[float, tuple[Tensor, Tensor]] = {}
        changes = []
        for gamma, balance in _FILTERS:
            if gamma not in spectra:
                windows = cut_windows(luma.clamp_min(_DARK) ** gamma, self.window)[:, :, :, 0]
                spectra[gamma] = self.photos(windows * self.before)
            a, b = spectra[gamma]
            c, d = (part / (power + balance * self.slope) for part in (real, imaginary))
            windows = self.photos.inverse(a * c + b * d, b * c - a * d) * self.behind
            light = join_windows(windows[:, :, :, None]).clamp(_DARK**gamma, 1.0)
            changes.append(light ** (1 / gamma))
        return torch.cat(changes, 1) - luma[..., hop:-hop, hop:-hop]


@register("wiener_unet")
class WienerUNet(RestorationModel):
    """A kernel for every window, a Wiener filter with it, and a U-Net that sees both.

    For each pixel the U-Net says how far to trust each filter, and what else is to be changed.

    widths, encoder_blocks, decoder_blocks, hidden: of that U-Net, as in `unshuffle_unet`.
    window: side in pixels of the half-overlapping windows. reach: of kernels, in pixels to each
    side. edge_widths, edge_blocks: channels and, on the way down, blocks of the estimator's U-Net,
    which has one each on the way up. maps, head, head_blocks: see KernelEstimator.
    """

    begins_with = ("unshuffle_unet",)
    own_losses = ("kernels",)

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 192),
        encoder_blocks: Sequence[int] = (2, 2, 2, 4),
        decoder_blocks: Sequence[int] = (2, 2, 2),
        hidden: Sequence[int] | None = None,
        window: int = 256,
        reach: int = 16,
        edge_widths: Sequence[int] = (48, 64, 96, 128),
        edge_blocks: Sequence[int] = (2, 2, 2, 2),
        maps: int = 4,
        head: int = 96,
        head_blocks: int = 6,
    ) -> None:
        super().__init__()
        if reach % 4 or not 0 < 8 * reach <= window:
            raise ConfigError(
                f"wiener_unet's reach is a multiple of 4, at most an eighth of its window, "
                f"got {reach} and {window}"
            )
        once = [1] * (len(edge_blocks) - 1)
        self.estimator = KernelEstimator(
            window, reach, edge_widths, edge_blocks, once, maps, head, head_blocks
        )
        self.wiener = WienerFilter(window, reach)
        self.refiner = UnshuffleTrunk(
            3 + len(_FILTERS),
            (3 + len(_FILTERS)) * _FACTOR**2,
            widths,
            encoder_blocks,
            decoder_blocks,
            _FACTOR,
            modulated=True,
            hidden=hidden,
        )
        nn.init.zeros_(self.refiner.output.weight)
        nn.init.zeros_(self.refiner.output.bias)  # type: ignore[arg-type]
        self.min_size, self.size_multiple = window, window // 2
        trunks = (self.refiner, self.estimator.edges)
        if any(self.size_multiple % trunk.size_multiple for trunk in trunks):
            raise ConfigError(
                f"half of wiener_unet's window, {self.size_multiple}, must be a multiple of "
                f"{' and '.join(str(trunk.size_multiple) for trunk in trunks)}, its U-Nets' grids"
            )

    def begin_with(self, trained: RestorationModel) -> None:
        """Take the weights of a smaller `wiener_unet`, or let the refiner grow out of an
        `unshuffle_unet`: it then restores just as that one does. Raises ConfigError."""
        if isinstance(trained, UnshuffleUNet):
            self.refiner.grow_out_of(trained)
        else:
            super().begin_with(trained)

    def restore(self, x: Tensor) -> Tensor:
        luma = _luma(x)
        return self._restore(x, luma, self.estimator(luma))

    def restore_and_compare(
        self, blurred: Tensor, sharp: Tensor, restores: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(restored, {"kernels": their distance from those that made the one of the other}).

        restores: False returns the blurred image, for training the estimator alone.
        """
        height, width = blurred.shape[-2:]
        x = self.padded(blurred)
        luma = _luma(x)
        logits = self.estimator(luma)
        kernels, trust = self.estimator.targets(luma, _luma(self.padded(sharp)))
        distance = (trust * kernel_distance(logits, kernels)).sum() / trust.sum().clamp_min(1e-3)
        restored = self._restore(x, luma, logits)[..., :height, :width] if restores else blurred
        return restored, {"kernels": distance}

    def _restore(self, x: Tensor, luma: Tensor, logits: Tensor) -> Tensor:
        with full_precision(x):
            kernels = logits.flatten(-2).softmax(-1).reshape(logits.shape)
            changes = self.wiener(single(luma), kernels)
        own = F.pixel_shuffle(self.refiner.transform(torch.cat([x, changes], 1)), _FACTOR)
        trusted = (own[:, 3:] * changes).sum(1, keepdim=True)
        return x + own[:, :3] + trusted


def kernel_distance(logits: Tensor, kernels: Tensor) -> Tensor:
    """Kullback–Leibler divergence plus relative squared error of each kernel."""
    own, target = logits.flatten(-2).log_softmax(-1), kernels.flatten(-2)
    divergence = (target * (target.clamp_min(1e-8).log() - own)).sum(-1)
    error = (own.exp() - target).square().sum(-1) / target.square().sum(-1).clamp_min(1e-9)
    return divergence + error


def _luma(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)
