"""By what kernels parts of a photo were blurred: seen at once by a network, or found in turns."""

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
    full_precision,
    power,
    single,
    slope_powers,
    slopes,
    with_neighbours,
)
from unblur.models.unshuffle_unet import UnshuffleTrunk, residual_block

_EDGE_FACTOR = 4  # of the pixel-unshuffle
_BALANCE = 0.05  # first share of an edge map's variance that is added before dividing by it
_FLAT = 1e-5  # sum of squared slopes of a window that shows nothing
_FLOOR = 1e-4  # of a power spectrum, as a share of its mean, before its logarithm
_TARGET_BALANCE, _TARGET_LEAST = 5e-3, 0.05
_NOISE = 5e-3  # first weight against noise
_LOG_NOISES = -11.0, 3.0  # with less, filters of no use have gradients beyond all numbers

# Of the turns in which kernels are found. An edge is a slope whose square exceeds _EDGE ÷ how
# closely the image follows its edges, which it does more and more; to the kernel those count that
# exceed _STRONG means. Of a kernel, values below _LEAST of its largest are noise.
_TURNS, _EDGE, _CLOSENESS, _STRONG = 6, 3e-3, (0.015, 0.15), 2.0
_EDGE_BALANCE, _LEAST = 2e-2, 0.07


class Estimate(NamedTuple):
    """What is known of the blur in each window.

    guesses: N×rows×columns×guesses×2·reach×2·reach, equally likely kernels, each of sum 1, whose
        centre is at (reach, reach).
    balance: N×rows×columns, the weight of a slope's power against noise.
    """

    guesses: Tensor
    balance: Tensor


class KernelFit(nn.Module):
    """Kernels by least squares: those that make, of the edges in a window, what the photo shows.

    Each window counts with its neighbours, which are mostly blurred alike: more edges say more.
    """

    fade: Tensor
    lag_window: Tensor

    def __init__(self, window: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.photos = WindowTransform(window, 0, window)
        self.lags = WindowTransform(window, -2 * reach, 4 * reach)
        self.smooth = WindowTransform(4 * reach, -2 * reach, 4 * reach)
        self.kernels = WindowTransform(4 * reach, -reach, 2 * reach)
        hann = torch.hann_window(4 * reach, periodic=True)
        self.register_buffer("lag_window", torch.outer(hann, hann), persistent=False)
        self.register_buffer("fade", fade(window, 0.0625), persistent=False)
        self.border = window // 4

    def spectra(self, image: Tensor) -> Spectrum:
        """N×C×H×W → of windows side by side, N×rows×columns×C×window×(window/2+1).

        Edges of an image count little: there is its mirror image in what it is filled up with, of
        which mirrored kernels would be seen.
        """
        return self.photos(
            cut_apart(fade_at_edges(image, self.border), self.photos.count) * self.fade
        )

    def correlation(self, spectrum: Spectrum) -> Tensor:
        """Of N×rows×columns×… spectra, with their neighbours, …×4·reach×4·reach at small lags."""
        return with_neighbours(self.lags.inverse(*spectrum)) * self.lag_window

    def autocorrelation(self, spectra: Tensor) -> Tensor:
        return self.correlation((spectra, torch.zeros_like(spectra)))

    def solve(self, correlation: Tensor, own: Tensor, added: Tensor) -> Tensor:
        """The kernel between edges of autocorrelation `own` and what correlates with them.

        added: to the edges' power, against what is divided by next to nothing.
        """
        divisor = self.smooth(own)[0].clamp_min(0) + added
        real, imaginary = self.smooth(correlation)
        return self.kernels.inverse(real / divisor, imaginary / divisor)

    def variance(self, own: Tensor) -> Tensor:
        """Of edges or slopes of an autocorrelation: its value at no lag, …×1×1."""
        middle = slice(2 * self.reach, 2 * self.reach + 1)
        return own[..., middle, middle].clamp_min(_FLAT)


class KernelHead(nn.Module):
    """Maps of each window, N×rows×columns×maps×2·reach×2·reach → an Estimate of its blur.

    maps: how many. channels, blocks: of this network. guesses: how many it makes.
    """

    place: Tensor

    def __init__(self, reach: int, maps: int, channels: int, blocks: int, guesses: int) -> None:
        super().__init__()
        places = (torch.arange(2 * reach) - reach).float()
        distance = torch.hypot(places[:, None], places[None]) / reach
        place = F.pixel_unshuffle(torch.stack([distance, distance**2])[None], 2)
        self.register_buffer("place", place, persistent=False)
        self.intro = nn.Conv2d(4 * (maps + 2), channels, 3, padding=1)
        first = blocks // 2
        self.before = nn.Sequential(*[residual_block(channels) for _ in range(first)])
        self.down = nn.Conv2d(channels, channels, 2, 2)
        self.middle = nn.Sequential(*[residual_block(channels) for _ in range(2)])
        self.up = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.after = nn.Sequential(*[residual_block(channels) for _ in range(blocks - first)])
        self.output = nn.Conv2d(channels, 4 * guesses, 3, padding=1)
        self.noise = nn.Linear(channels, 1)
        nn.init.zeros_(self.noise.weight)
        nn.init.constant_(self.noise.bias, math.log(_NOISE))

    def forward(self, maps: Tensor) -> Estimate:
        batch, rows, columns, _, side, _ = maps.shape
        seen = F.pixel_unshuffle(maps.flatten(0, 2), 2)
        seen = torch.cat([seen, self.place.expand(seen.shape[0], -1, -1, -1)], 1)
        x = self.before(self.intro(seen))
        x = x + self.up(self.middle(self.down(x)))
        x = F.relu(self.after(x))
        logits = single(F.pixel_shuffle(self.output(x), 2))
        guesses = logits.flatten(2).softmax(2).reshape(batch, rows, columns, -1, side, side)
        noise = single(self.noise(x.mean((2, 3)))).clamp(*_LOG_NOISES).exp()
        return Estimate(guesses, noise.reshape(batch, rows, columns))

    @torch.no_grad()
    def grow_out_of(self, trained: KernelHead) -> None:
        """Take the weights of one that sees the first of these maps: its estimate, from now on."""
        own, places = self.state_dict(), self.place.shape[1]
        for name, source in trained.state_dict().items():
            if name == "intro.weight":
                own[name].zero_()[:, : source.shape[1] - places] = source[:, :-places]
                own[name][:, -places:] = source[:, -places:]
            elif name in own:
                own[name].copy_(source)


class KernelEstimator(KernelHead):
    """Sees at once, of a photo's luma, N×1×H×W, by which kernels windows side by side were blurred.

    widths, encoder_blocks, decoder_blocks: of the U-Net that finds edges. edge_maps: pairs of maps
    of them that it makes, horizontal and vertical ones. channels, blocks, guesses: of KernelHead.
    """

    target_fade: Tensor

    def __init__(
        self,
        window: int,
        reach: int,
        widths: Sequence[int],
        encoder_blocks: Sequence[int],
        decoder_blocks: Sequence[int],
        edge_maps: int,
        channels: int,
        blocks: int,
        guesses: int,
    ) -> None:
        super().__init__(reach, 2 * edge_maps + 2, channels, blocks, guesses)
        self.window, self.reach, self.edge_maps = window, reach, edge_maps
        self.edges = UnshuffleTrunk(
            1,
            2 * edge_maps * _EDGE_FACTOR**2,
            widths,
            encoder_blocks,
            decoder_blocks,
            _EDGE_FACTOR,
            modulated=True,
        )
        self.balance = nn.Parameter(torch.full((edge_maps, 1, 1), math.log(_BALANCE)))
        self.fit = KernelFit(window, reach)
        self.register_buffer("target_fade", fade(window, 0.25), persistent=False)

    def look(self, luma: Tensor) -> Tensor:
        """What is seen of each window, N×rows×columns×maps×2·reach×2·reach, all of one norm.

        For each pair of edge maps the kernel by least squares that makes the photo's slopes of
        them, and the correlation of both; then the photo's autocorrelation and its cepstrum.
        """
        edges = F.pixel_shuffle(self.edges.transform(luma - 0.5), _EDGE_FACTOR)
        with full_precision(luma):
            return self._correlations(single(luma), single(edges))

    def _correlations(self, luma: Tensor, edges: Tensor) -> Tensor:
        fit, reach = self.fit, self.reach
        photo = fit.spectra(slopes(luma))
        crossed, owns = [], []
        for index in range(self.edge_maps):  # one after the other, for memory's sake
            spectra = fit.spectra(edges[:, index :: self.edge_maps])
            crossed.append(fit.correlation(cross(spectra, photo)))
            owns.append(fit.autocorrelation(power(spectra)))
        correlation, own = torch.stack(crossed, -3), torch.stack(owns, -3)
        # Not its exponential as a factor: graphs would hold that instead of the weights themselves.
        added = torch.exp(torch.log(fit.variance(own)) + self.balance)
        kernels = fit.solve(correlation, own, added)
        whole = fit.autocorrelation(power(photo))[..., None, :, :]
        spectrum = fit.smooth(whole)[0].clamp_min(0) / fit.variance(whole)
        cepstrum = torch.log(spectrum + _FLOOR)
        cepstrum = fit.kernels.inverse(cepstrum, torch.zeros_like(cepstrum))
        near = slice(reach, 3 * reach)
        correlations = torch.cat([correlation, whole], -3)[..., near, near]
        return of_one_norm(torch.cat([kernels, correlations, cepstrum], -3))

    def targets(self, blurred: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        """(kernels, trust) that make the one luma of the other by least squares, not negative.

        For each half-overlapping window …×2·reach×2·reach, of sum 1, and the share, 0…1, of the
        blurred slopes' energy that the kernel explains: little where there is nothing but noise.
        No gradient.
        """
        fit, near = self.fit, slice(self.reach, 3 * self.reach)
        with torch.no_grad(), full_precision(blurred):
            photo, edges = (
                fit.photos(cut_windows(slopes(single(x)), self.window) * self.target_fade)
                for x in (blurred, sharp)
            )
            strength, both = power(edges), cross(edges, photo)
            divisor = strength + _TARGET_BALANCE * strength.mean((-2, -1), keepdim=True) + 1e-9
            lags = fit.lags.inverse(both[0] / divisor, both[1] / divisor)
            kernels = without_noise(lags[..., near, near], _TARGET_LEAST)
            # |B − K·S|² summed over frequencies, beside |B|².
            e, f = fit.lags(F.pad(kernels, (self.reach,) * 4))
            energy = power(photo)
            left = energy - 2 * (e * both[0] + f * both[1]) + (e**2 + f**2) * strength
            unexplained = left.sum((-2, -1)) / energy.sum((-2, -1)).clamp_min(1e-9)
            return kernels, (1 - unexplained).clamp(0, 1)


class Alternation(nn.Module):
    """Finds, in turns, what is sharp in a window by its kernel, and the kernel by what is sharp.

    The image has few edges, and is flat between them (L. Xu, S. Zheng and J. Jia, "Unnatural L0
    sparse representation for natural image deblurring", CVPR 2013); its spectrum follows from
    that of the photo, the kernel's, and its edges'. Nothing in this is learned.
    """

    fade: Tensor
    slope: Tensor

    def __init__(self, window: int, reach: int) -> None:
        super().__init__()
        self.window = window
        self.spectra = WindowTransform(window, -reach, 2 * reach)
        self.register_buffer("fade", fade(window, 0.125), persistent=False)
        self.register_buffer("slope", slope_powers(window), persistent=False)

    @torch.no_grad()
    def forward(self, fit: KernelFit, luma: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """N×1×H×W, and kernels to begin with, N×rows×columns×2·reach×2·reach, of sum 1.

        Returns those of the last turn, and the fit that they were taken from, noise and all.
        """
        photo = cut_apart(luma, self.window, mirrored=True)
        windows = (*photo.shape[:3], 2, self.window, self.window)
        photo = photo.flatten(0, 2)
        image = (photo - photo.mean((-2, -1), keepdim=True)) * self.fade
        a, b = fit.photos(image[:, 0])
        # What the edges of the image hold counts little.
        inside = cut_apart(fade_at_edges(torch.ones_like(luma), fit.border), self.window)
        inside = inside.flatten(0, 2) * fit.fade
        seen = fit.spectra(slopes(luma))
        fitted = kernels
        for _ in range(_TURNS):
            e, f = (part.flatten(0, 2) for part in self.spectra(kernels))
            real, imaginary = e * a + f * b, e * b - f * a
            strength = e**2 + f**2 + 1e-6
            for closeness in _CLOSENESS:
                edges = slopes(image)
                edges = edges * (_square(edges) > _EDGE / closeness)
                c, d = fit.photos(_against(edges))
                divisor = strength + closeness * self.slope
                c, d = (real + closeness * c) / divisor, (imaginary + closeness * d) / divisor
                image = fit.photos.inverse(c, d)[:, None]
            edges = slopes(image) * inside
            strengths = _square(edges)
            strong = strengths > _STRONG * strengths.mean((-2, -1), keepdim=True)
            spectra = fit.photos((edges * strong).reshape(windows))
            own = fit.autocorrelation(power(spectra))
            added = _EDGE_BALANCE * fit.variance(own)
            fitted = fit.solve(fit.correlation(cross(spectra, seen)), own, added)
            kernels = without_noise(fitted, _LEAST)
        return kernels, fitted


def _square(edges: Tensor) -> Tensor:
    return edges.square().sum(1, keepdim=True)


def _against(edges: Tensor) -> Tensor:
    """What `slopes` is to be multiplied by from the other side: N×2×H×W → N×H×W."""
    right, below = edges[:, 0, :, :-1], edges[:, 1, :-1]
    along = F.pad(right, (1, 0)) - F.pad(right, (0, 1))
    return along + F.pad(below, (0, 0, 1, 0)) - F.pad(below, (0, 0, 0, 1))


def without_noise(kernels: Tensor, least: float) -> Tensor:
    """Kernels without what is less than a share of their largest value, of sum 1 then."""
    kernels = kernels.clamp_min(0)
    kernels = kernels * (kernels > least * kernels.amax((-2, -1), keepdim=True))
    return kernels / kernels.sum((-2, -1), keepdim=True).clamp_min(1e-9)


def of_one_norm(maps: Tensor) -> Tensor:
    """…×side×side, of root mean square ½."""
    # Their norms come near to 1e-6. The root has no slope at 0, where a window shows nothing.
    norm = maps.square().sum((-2, -1), keepdim=True).clamp_min(1e-20).sqrt()
    return maps / (norm + 1e-6) * (maps.shape[-1] / 4)


def kernel_distance(guesses: Tensor, kernels: Tensor) -> Tensor:
    """Kullback–Leibler divergence of the mean of …×guesses×2·reach×2·reach from each kernel."""
    surprise = kernels.clamp_min(1e-8).log() - guesses.mean(-3).clamp_min(1e-8).log()
    return (kernels * surprise).sum((-2, -1))
