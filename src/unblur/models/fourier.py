"""Fourier transforms of windows as matrix products: every runtime multiplies matrices well.

FFT layers do not survive conversion to other runtimes; a 256-point transform as a product of
matrices costs less than one 3×3 convolution of 32 channels. Training takes PyTorch's own
FFT, with which a step takes three fifths of the time.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Real and imaginary parts, …×frequencies×(frequencies/2+1).
Spectrum = tuple[Tensor, Tensor]


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Spectra are sums of many products that nearly cancel: not in a training's half precision."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def single(x: Tensor) -> Tensor:
    """In float32, if it came in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class WindowTransform(nn.Module):
    """The 2-D discrete Fourier transform of real images, at `frequencies` of them a side.

    first, count: the images hold the positions first … first+count−1 of a period along each axis.
    """

    cosine: Tensor
    sine: Tensor
    half_cosine: Tensor
    half_sine: Tensor
    back_cosine: Tensor
    back_sine: Tensor

    def __init__(self, frequencies: int, first: int, count: int) -> None:
        super().__init__()
        self.frequencies, self.first, self.count = frequencies, first, count
        positions = torch.arange(first, first + count, dtype=torch.float64)
        half = frequencies // 2 + 1
        turns = torch.outer(torch.arange(frequencies), positions)
        angles = 2 * math.pi / frequencies * turns
        shares = half_spectrum_shares(frequencies)[:, None] / frequencies**2
        matrices = {
            "cosine": angles.cos(),
            "sine": angles.sin(),
            "half_cosine": angles[:half].cos().T,
            "half_sine": angles[:half].sin().T,
            "back_cosine": angles[:half].cos() * shares,
            "back_sine": angles[:half].sin() * shares,
        }
        for name, matrix in matrices.items():
            self.register_buffer(name, matrix.float().contiguous(), persistent=False)

    def forward(self, image: Tensor) -> Spectrum:
        """…×count×count → its spectrum."""
        if self.training:
            if self.count < self.frequencies:
                image = F.pad(image, (0, self.frequencies - self.count) * 2)
            spectrum = torch.fft.rfft2(_moved(image, self.first))
            return spectrum.real, spectrum.imag
        cosine, sine = image @ self.half_cosine, image @ self.half_sine
        return self.cosine @ cosine - self.sine @ sine, -(self.sine @ cosine + self.cosine @ sine)

    def inverse(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """A spectrum → the …×count×count values at the positions."""
        if self.training:
            shape = (self.frequencies, self.frequencies)
            whole = torch.fft.irfft2(torch.complex(real, imaginary), shape)
            return _moved(whole, -self.first)[..., : self.count, : self.count]
        cosine, sine = self.cosine.T, self.sine.T
        rows = cosine @ real - sine @ imaginary, cosine @ imaginary + sine @ real
        return rows[0] @ self.back_cosine - rows[1] @ self.back_sine


def _moved(period: Tensor, by: int) -> Tensor:
    return period.roll((by, by), (-2, -1)) if by else period


def half_spectrum_shares(frequencies: int) -> Tensor:
    """Of an even number of frequencies, how many each column of half a spectrum stands for."""
    shares = torch.full((frequencies // 2 + 1,), 2.0, dtype=torch.float64)
    shares[0] = shares[-1] = 1.0
    return shares


def cross(first: Spectrum, second: Spectrum) -> Spectrum:
    """conj(first)·second, summed over both maps of the pairs."""
    (a, b), (c, d) = first, second
    return (a * c + b * d).sum(-3), (a * d - b * c).sum(-3)


def power(pair: Spectrum) -> Tensor:
    return (pair[0] ** 2 + pair[1] ** 2).sum(-3)


def cut_windows(x: Tensor, side: int, hop: int) -> Tensor:
    """N×C×H×W, sides multiples of hop → N×rows×columns×C×side×side, one every hop.

    side: from one hop to two. As many as lie in the image whole, with what is left of a last hop.
    """
    batch, channels, height, width = x.shape
    more = side - hop
    x = x.reshape(batch, channels, height // hop, hop, width // hop, hop)
    x = torch.cat([x[:, :, :-1], x[:, :, 1:, :more]], 3)
    x = torch.cat([x[:, :, :, :, :-1], x[:, :, :, :, 1:, :more]], 5)
    return x.permute(0, 2, 4, 1, 3, 5)


def cut_apart(x: Tensor, side: int) -> Tensor:
    """N×C×H×W → N×⌈H/side⌉×⌈W/side⌉×C×side×side, side by side.

    The last ones are filled up with zeros.
    """
    batch, channels, height, width = x.shape
    rows, columns = how_many(height, side), how_many(width, side)
    x = filled_up(x, side).reshape(batch, channels, rows, side, columns, side)
    return x.permute(0, 2, 4, 1, 3, 5)


def how_many(length: int, side: int) -> int:
    """Parts of that side a length is cut into, the last one of what is left."""
    return (length + side - 1) // side


def filled_up(x: Tensor, multiple: int) -> Tensor:
    """…×H×W, with zeros at its lower and right edges up to multiples."""
    below, right = (how_many(length, multiple) * multiple - length for length in x.shape[-2:])
    return F.pad(x, (0, right, 0, below))


def mirrored(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """The positions start…stop−1 of an axis that is mirrored at its ends, as in `unblur.padding`.

    They lie within three times its length. Unlike there, that may be left open in a graph.
    """
    last = x.shape[axis] - 1
    places = torch.arange(start, stop, device=x.device).abs()
    return x.index_select(axis, (last - (places - last).abs()).abs())


def spread(windows: Tensor, rows: int, columns: int) -> Tensor:
    """Of windows side by side, as `cut_apart` has them, the rows × columns that overlap by half.

    One that lies between two has their mean.
    """
    for axis, count in ((1, rows), (2, columns)):
        last = windows.shape[axis] - 1
        following = windows.narrow(axis, 1, last), windows.narrow(axis, last, 1)
        between = (windows + torch.cat(following, axis)) / 2
        windows = torch.stack([windows, between], axis + 1).flatten(axis, axis + 1)
        windows = windows.narrow(axis, 0, count)
    return windows


def join_windows(windows: Tensor, hop: int) -> Tensor:
    """N×rows×columns×side×side, one every hop → N×1×rows·hop×columns·hop.

    Each window fades into the next where they overlap. At the edges of the image half as much of
    the outermost ones is left out.
    """
    batch, rows, columns = windows.shape[:3]
    for along, axis in ((1, 3), (2, 4)):
        windows = _faded_into_neighbours(windows, along, axis, hop)
    return windows.permute(0, 1, 3, 2, 4).reshape(batch, 1, rows * hop, columns * hop)


def _faded_into_neighbours(windows: Tensor, along: int, axis: int, hop: int) -> Tensor:
    """Windows' `hop` values in the middle of an axis; `along` another one they are neighbours."""
    half = (windows.shape[axis] - hop) // 2
    count = windows.shape[along]

    def of(first: int, number: int, start: int, length: int) -> Tensor:
        return windows.narrow(along, first, number).narrow(axis, start, length)

    # The outermost ones stand for the neighbours they have not.
    before = torch.cat([of(0, 1, half, half), of(0, count - 1, hop + half, half)], along)
    behind = torch.cat([of(1, count - 1, 0, half), of(count - 1, 1, hop, half)], along)
    share = 1 - _ramps(4 * half, 2 * half, windows.device)[half : 2 * half]  # of them: 1/2 … 0
    shape = [1] * windows.ndim
    shape[axis] = half
    share = share.reshape(shape)
    first, last = of(0, count, half, half), of(0, count, hop, half)
    inner = of(0, count, 2 * half, hop - 2 * half)
    first = first + (before - first) * share
    last = last + (behind - last) * share.flip(axis)
    return torch.cat([first, inner, last], axis)


def with_neighbours(windows: Tensor) -> Tensor:
    """N×rows×columns×…, each with its neighbours by weights of 1, 4, 1 along either axis.

    They add up to 4 along each.
    """
    x = with_border(windows)
    x = (x[:, :-2] + 4 * x[:, 1:-1] + x[:, 2:]) * (2 / 3)
    return (x[:, :, :-2] + 4 * x[:, :, 1:-1] + x[:, :, 2:]) * (2 / 3)


def with_border(windows: Tensor) -> Tensor:
    """N×rows×columns×…, those at the edges once more around them."""
    windows = torch.cat([windows[:, :1], windows, windows[:, -1:]], 1)
    return torch.cat([windows[:, :, :1], windows, windows[:, :, -1:]], 2)


def between(windows: Tensor) -> Tensor:
    """N×rows×columns×… → N×rows−1×columns−1×…, the mean of each and those below and right of it."""
    windows = (windows[:, :-1] + windows[:, 1:]) / 2
    return (windows[:, :, :-1] + windows[:, :, 1:]) / 2


def fade(side: int, share: float) -> Tensor:
    """side×side: 1 inside, falling to 0 along a raised cosine over `share` of each edge."""
    edge = _ramps(side, share * side)
    return torch.outer(edge, edge)


def fade_at_edges(x: Tensor, pixels: int) -> Tensor:
    """…×H×W, falling to 0 along a raised cosine over that many pixels at each edge."""
    rows, columns = (_ramps(length, pixels, x.device) for length in x.shape[-2:])
    return x * rows[:, None] * columns


def _ramps(length: int, pixels: float, device: torch.device | None = None) -> Tensor:
    places = torch.arange(length, dtype=torch.float32, device=device) + 0.5
    distance = torch.minimum(places, length - places)
    return 0.5 - 0.5 * torch.cos(math.pi * (distance / pixels).clamp(max=1))


def slopes(x: Tensor) -> Tensor:
    """N×1×H×W → N×2×H×W: differences to the next pixel on the right and below."""
    right = F.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1))
    below = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, below], 1)
