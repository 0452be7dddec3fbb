"""`wiener_unet`: sees how a photo was blurred, undoes that by a Wiener filter, mends the rest.

What a plain network has to learn from hundreds of gigapixels, that a blur is a convolution, is
built in. An estimator compares a photo with what it takes for its sharp edges, window by window,
and says by which kernel the one became the other (S. Cho and S. Lee, "Fast motion deblurring",
SIGGRAPH Asia 2009, with learned edges as in C. J. Schuler et al., "Learning to deblur", TPAMI
2016). It makes several guesses. The window is divided by their spectra (N. Wiener, 1949) as far as
they agree: what it is not sure of stays as it is. That can be looked at once more, beside the
photo: edges are easier to see where most of the blur is gone already (in stages, as in the latter).
A U-Net sees the photo beside the result and chooses. A photo that is sharp has a kernel of one
point, which changes nothing. Kernels belong to windows, so blur may vary over the photo, and tiles
agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel, SurveyingModel
from unblur.models.fourier import (
    Spectrum,
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
_FLAT = 1e-5  # sum of squared slopes of a window that shows nothing
_FLOOR = 1e-4  # of a power spectrum, as a share of its mean, before its logarithm
_TARGET_BALANCE, _TARGET_LEAST = 5e-3, 0.05
_GAMMAS = (1.0, 2.2)  # luma is filtered as it is, and taken to that power, roughly as light
_LARGEST_WINDOW = 1024
_NOISE = 5e-3  # first weight against noise
_LOG_NOISES = -11.0, 3.0  # with less, filters of no use have gradients beyond all numbers
_UNCHANGED = 1e-3  # errors below this root mean square, of white, are not worth a loss


class Estimate(NamedTuple):
    """What is known of the blur in each window.

    guesses: N×rows×columns×guesses×2·reach×2·reach, equally likely kernels, each of sum 1, whose
        centre is at (reach, reach).
    balance: N×rows×columns, the weight of a slope's power against noise.
    """

    guesses: Tensor
    balance: Tensor


class KernelEstimator(nn.Module):
    """Luma N×1×H×W → an Estimate for every half-overlapping window.

    Each window counts with its neighbours, which are mostly blurred alike: more edges say more.
    A second look also sees what filters by an earlier estimate change, and that estimate's guesses.

    widths, encoder_blocks, decoder_blocks: of the U-Net that finds edges. maps: pairs of edge maps
    that it makes, horizontal and vertical ones. head, head_blocks: channels and blocks of the
    network that makes kernels of their correlations with the photo. guesses: how many.
    changes: what a second look sees beside the luma, N×changes×H×W; 0 for a first look.
    """

    fade: Tensor
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
        changes: int = 0,
    ) -> None:
        super().__init__()
        self.window, self.reach, self.maps = window, reach, maps
        self.edges = UnshuffleTrunk(
            1 + changes,
            2 * maps * _EDGE_FACTOR**2,
            widths,
            encoder_blocks,
            decoder_blocks,
            _EDGE_FACTOR,
            modulated=True,
        )
        self.balance = nn.Parameter(torch.full((maps, 1, 1), math.log(_BALANCE)))
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
        known = guesses if changes else 0
        self.intro = nn.Conv2d(4 * (2 * maps + 4 + known), head, 3, padding=1)
        first = head_blocks // 2
        self.before = nn.Sequential(*[residual_block(head) for _ in range(first)])
        self.down = nn.Conv2d(head, head, 2, 2)
        self.middle = nn.Sequential(*[residual_block(head) for _ in range(2)])
        self.up = nn.ConvTranspose2d(head, head, 2, 2)
        self.after = nn.Sequential(*[residual_block(head) for _ in range(head_blocks - first)])
        self.output = nn.Conv2d(head, 4 * guesses, 3, padding=1)
        self.noise = nn.Linear(head, 1)
        nn.init.zeros_(self.noise.weight)
        nn.init.constant_(self.noise.bias, math.log(_NOISE))

    def forward(self, luma: Tensor, before: tuple[Tensor, Estimate] | None = None) -> Estimate:
        """before: for a second look, what filters changed, and by which estimate."""
        pictures = [luma - 0.5] if before is None else [luma - 0.5, before[0]]
        edges = F.pixel_shuffle(self.edges.transform(torch.cat(pictures, 1)), _EDGE_FACTOR)
        with full_precision(luma):
            seen = self._correlations(single(luma), single(edges))
            batch, rows, columns = seen.shape[:3]
            inputs = [F.pixel_unshuffle(seen.flatten(0, 2), 2)]
            inputs.append(self.place.expand(inputs[0].shape[0], -1, -1, -1))
            if before is not None:
                known = self._of_one_norm(before[1].guesses).flatten(0, 2)
                inputs.append(F.pixel_unshuffle(known, 2))
        x = self.before(self.intro(torch.cat(inputs, 1)))
        x = x + self.up(self.middle(self.down(x)))
        x = F.relu(self.after(x))
        logits = single(F.pixel_shuffle(self.output(x), 2))
        side = 2 * self.reach
        guesses = logits.flatten(2).softmax(2).reshape(batch, rows, columns, -1, side, side)
        noise = single(self.noise(x.mean((2, 3)))).clamp(*_LOG_NOISES).exp()
        balance = noise.reshape(batch, rows, columns)
        return Estimate(guesses, balance)

    def _spectra(self, pair: Tensor) -> Spectrum:
        """N×2×H×W → N×rows×columns×2×window×(window/2+1)."""
        return self.photos(cut_windows(pair, self.window) * self.fade)

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
            crossed.append(self.lags.inverse(*_cross(pair, photo)))
            powers.append(_power(pair))
        powers.append(_power(photo))
        alone = [self.lags.inverse(power, torch.zeros_like(power)) for power in powers]
        correlation, own = (
            _with_neighbours(torch.stack(each, -3)) * self.lag_window for each in (crossed, alone)
        )
        variance = own[..., middle : middle + 1, middle : middle + 1].clamp_min(_FLAT)
        power = self.smooth(own)[0].clamp_min(0)
        divisor, whole = power[..., :maps, :, :], power[..., maps:, :, :]
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
        return self._of_one_norm(
            torch.cat([kernels, correlations[..., inner, inner], cepstrum], -3)
        )

    def _of_one_norm(self, maps: Tensor) -> Tensor:
        # Their norms come near to 1e-6. The root has no slope at 0, where a window shows nothing.
        norm = maps.square().sum((-2, -1), keepdim=True).clamp_min(1e-20).sqrt()
        return maps / (norm + 1e-6) * (self.reach / 2)

    @torch.no_grad()
    def grow_out_of(self, first: KernelEstimator) -> None:
        """Take the weights of a first look, whose guesses this one makes, too, from now on.

        Raises ConfigError when they do not fit.
        """
        self.edges.grow_out_of(first.edges)
        own = self.state_dict()
        for name, source in first.state_dict().items():
            if name == "intro.weight":
                own[name].zero_()[:, : source.shape[1]] = source
            elif not name.startswith("edges."):
                own[name].copy_(source)

    def targets(self, blurred: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        """(kernels, trust) that make the one luma of the other by least squares, not negative.

        For each window …×2·reach×2·reach, of sum 1, and the share, 0…1, of the blurred slopes'
        energy that the kernel explains: little where there is nothing but noise. No gradient.
        """
        near = slice(self.reach, 3 * self.reach)
        with torch.no_grad(), full_precision(blurred):
            photo, edges = (self._spectra(slopes(single(x))) for x in (blurred, sharp))
            power, cross = _power(edges), _cross(edges, photo)
            divisor = power + _TARGET_BALANCE * power.mean((-2, -1), keepdim=True) + 1e-9
            lags = self.lags.inverse(cross[0] / divisor, cross[1] / divisor)
            kernels = lags[..., near, near].clamp_min(0)
            largest = kernels.amax((-2, -1), keepdim=True)
            kernels = kernels.where(kernels > _TARGET_LEAST * largest, 0.0)
            kernels = kernels / kernels.sum((-2, -1), keepdim=True).clamp_min(1e-9)
            # |B − K·S|² summed over frequencies, beside |B|².
            e, f = self.lags(F.pad(kernels, (self.reach,) * 4))
            energy = _power(photo)
            left = energy - 2 * (e * cross[0] + f * cross[1]) + (e**2 + f**2) * power
            unexplained = left.sum((-2, -1)) / energy.sum((-2, -1)).clamp_min(1e-9)
            return kernels, (1 - unexplained).clamp(0, 1)


def _cross(first: Spectrum, second: Spectrum) -> Spectrum:
    """conj(first)·second, summed over both maps of the pairs."""
    (a, b), (c, d) = first, second
    return (a * c + b * d).sum(-3), (a * d - b * c).sum(-3)


def _power(pair: Spectrum) -> Tensor:
    return (pair[0] ** 2 + pair[1] ** 2).sum(-3)


class WienerFilter(nn.Module):
    """Luma N×1×H×W and the estimate of its blur → N×2×H×W: what filters change, for _GAMMAS.

    The filter that is best on average over all guesses, conj(mean K) / (mean |K|² + noise): slopes
    of photos are taken to be Gaussian, alike at all scales, and noise to be white. Colours are
    nearly alike in what blur takes from them, and their mean has less noise.
    """

    before: Tensor
    behind: Tensor
    slope: Tensor
    twice: Tensor

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
        twice = torch.full((window // 2 + 1,), 2.0)
        twice[0] = twice[-1] = 1.0  # frequencies of half a spectrum that stand for themselves
        self.register_buffer("twice", twice, persistent=False)

    def forward(self, luma: Tensor, estimate: Estimate) -> Tensor:
        hop = self.window // 2
        real, imaginary = (_with_border(part) for part in self._response(estimate))
        luma = F.pad(luma, (hop, hop, hop, hop), mode="reflect")
        changes = []
        for gamma in _GAMMAS:
            light = luma if gamma == 1 else luma.clamp_min(_DARK) ** gamma
            a, b = self._spectra(light)
            windows = self.photos.inverse(a * real - b * imaginary, a * imaginary + b * real)
            light = join_windows((windows * self.behind)[:, :, :, None])
            changes.append(light if gamma == 1 else light.clamp(_DARK**gamma, 1.0) ** (1 / gamma))
        return torch.cat(changes, 1) - luma[..., hop:-hop, hop:-hop]

    def error(self, luma: Tensor, sharp: Tensor, estimate: Estimate) -> Tensor:
        """What the filter leaves of the error of each window, N×rows×columns in dB."""
        real, imaginary = self._response(estimate)
        grey = luma.mean((2, 3), keepdim=True)  # what fades at the edges is to be little
        (a, b), (c, d) = (self._spectra(image - grey) for image in (luma, sharp))
        least = (_UNCHANGED * self.window**2) ** 2

        def energy(real: Tensor, imaginary: Tensor) -> Tensor:
            return ((real**2 + imaginary**2) * self.twice).sum((-2, -1)) + least

        after = energy(a * real - b * imaginary - c, a * imaginary + b * real - d)
        return 10 * torch.log10(after / energy(a - c, b - d))

    def _spectra(self, luma: Tensor) -> Spectrum:
        return self.photos(cut_windows(luma, self.window)[:, :, :, 0] * self.before)

    def _response(self, estimate: Estimate) -> Spectrum:
        """Of each window's filter, by frequency."""
        real, imaginary = self.kernels(estimate.guesses)
        power = (real**2 + imaginary**2).mean(-3)
        power = power + estimate.balance[..., None, None] * self.slope
        return real.mean(-3) / power, -imaginary.mean(-3) / power


def _with_neighbours(windows: Tensor) -> Tensor:
    """N×rows×columns×…, each with its neighbours by weights of 1, 2, 1 along either axis."""
    x = _with_border(windows)
    x = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    return x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]


def _with_border(windows: Tensor) -> Tensor:
    """N×rows×columns×…, those at the edges once more around them."""
    windows = torch.cat([windows[:, :1], windows, windows[:, -1:]], 1)
    return torch.cat([windows[:, :, :1], windows, windows[:, :, -1:]], 2)


@register("wiener_unet")
class WienerUNet(SurveyingModel):
    """A kernel for every window, a Wiener filter with it, and a U-Net that sees both.

    For each pixel the U-Net says how far to trust each filter, and what else is to be changed.

    widths, encoder_blocks, decoder_blocks, hidden: of that U-Net, as in `unshuffle_unet`.
    window: side in pixels of the half-overlapping windows. reach: of kernels, in pixels to each
    side. edge_widths, edge_blocks: channels and, on the way down, blocks of the estimator's U-Net,
    which has one each on the way up. maps, head, head_blocks, guesses: see KernelEstimator.
    second_look: whether another estimator looks at what the filters made of the photo.
    """

    begins_with = ("unshuffle_unet",)
    own_losses = ("kernels", "filters")
    bf16 = False  # of its spectra: up to 0.13 dB on a photo, and no faster

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
        guesses: int = 4,
        second_look: bool = False,
    ) -> None:
        super().__init__()
        if reach % 4 or not 0 < 8 * reach <= window <= _LARGEST_WINDOW:
            raise ConfigError(
                f"wiener_unet's window is at most {_LARGEST_WINDOW}, its reach a multiple of 4 and "
                f"at most an eighth of that, got {window} and {reach}"
            )
        once = [1] * (len(edge_blocks) - 1)
        eyes = (window, reach, edge_widths, edge_blocks, once, maps, head, head_blocks, guesses)
        self.estimator = KernelEstimator(*eyes)
        self.second = KernelEstimator(*eyes, len(_GAMMAS)) if second_look else None
        self.wiener = WienerFilter(window, reach)
        self.refiner = UnshuffleTrunk(
            3 + len(_GAMMAS),
            (3 + len(_GAMMAS)) * _FACTOR**2,
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
        self._guesses = (guesses, 2 * reach, 2 * reach)
        self.survey_size = math.prod(self._guesses) + 1
        trunks = (self.refiner, self.estimator.edges)
        if any(self.size_multiple % trunk.size_multiple for trunk in trunks):
            raise ConfigError(
                f"half of wiener_unet's window, {self.size_multiple}, must be a multiple of "
                f"{' and '.join(str(trunk.size_multiple) for trunk in trunks)}, its U-Nets' grids"
            )

    def begin_with(self, trained: RestorationModel) -> None:
        """Take the weights of a `wiener_unet`, or let the refiner grow out of an `unshuffle_unet`:
        it then restores just as that one does. A second look that was not there begins as the
        first. Raises ConfigError."""
        if isinstance(trained, UnshuffleUNet):
            self.refiner.grow_out_of(trained)
            return
        assert isinstance(trained, WienerUNet)  # noqa: S101
        if self.second is not None and trained.second is None:
            self.second.grow_out_of(trained.estimator)
            trained.second = self.second
        super().begin_with(trained)

    def survey(self, x: Tensor) -> Tensor:
        guesses, balance = self._estimate(_luma(x))
        return torch.cat([guesses.flatten(3), balance[..., None]], 3)

    def restore_surveyed(self, x: Tensor, survey: Tensor) -> Tensor:
        guesses = survey[..., :-1].reshape(*survey.shape[:3], *self._guesses)
        return self._restore(x, _luma(x), Estimate(guesses, survey[..., -1]))

    def restore_and_compare(
        self, blurred: Tensor, sharp: Tensor, restores: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(restored, own losses) of a batch; without `restores` the blurred images come back.

        kernels: how far the last look's guesses are from the kernels that made the one image of
        the other. filters: what filters by them leave of the error in dB; mostly negative.
        """
        height, width = blurred.shape[-2:]
        x, target = self.padded(blurred), _luma(self.padded(sharp))
        luma = _luma(x)
        estimate = self._estimate(luma)
        with full_precision(x):
            kernels, trust = self.estimator.targets(luma, target)
            distance = trust * kernel_distance(estimate.guesses, kernels)
            losses = {
                "kernels": distance.sum() / trust.sum().clamp_min(1e-3),
                "filters": self.wiener.error(single(luma), single(target), estimate).mean(),
            }
        restored = self._restore(x, luma, estimate)[..., :height, :width] if restores else blurred
        return restored, losses

    def _estimate(self, luma: Tensor) -> Estimate:
        estimate = self.estimator(luma)
        if self.second is not None:
            estimate = self.second(luma, (self._changes(luma, estimate), estimate))
        return estimate

    def _changes(self, luma: Tensor, estimate: Estimate) -> Tensor:
        with full_precision(luma):
            return self.wiener(single(luma), estimate)

    def _restore(self, x: Tensor, luma: Tensor, estimate: Estimate) -> Tensor:
        changes = self._changes(luma, estimate)
        own = F.pixel_shuffle(self.refiner.transform(torch.cat([x, changes], 1)), _FACTOR)
        trusted = (own[:, 3:] * changes).sum(1, keepdim=True)
        return x + own[:, :3] + trusted


def kernel_distance(guesses: Tensor, kernels: Tensor) -> Tensor:
    """Kullback–Leibler divergence of the mean of …×guesses×2·reach×2·reach from each kernel."""
    surprise = kernels.clamp_min(1e-8).log() - guesses.mean(-3).clamp_min(1e-8).log()
    return (kernels * surprise).sum((-2, -1))


def _luma(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)
