"""`wiener_unet`: sees how a photo was blurred, undoes that by a Wiener filter, mends the rest.

What a plain network has to learn from hundreds of gigapixels, that a blur is a convolution, is
built in. An estimator compares a photo with what it takes for its sharp edges, window by window,
and says by which kernel the one became the other (S. Cho and S. Lee, "Fast motion deblurring",
SIGGRAPH Asia 2009, with learned edges as in C. J. Schuler et al., "Learning to deblur", TPAMI
2016). It makes several guesses. The window is divided by their spectra (N. Wiener, 1949) as far as
they agree: what it is not sure of is damped. A U-Net sees the photo beside the result and
chooses. A photo that is sharp has a kernel of one point, which changes nothing. Kernels belong to
windows, so blur may vary over the photo, and tiles agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel, SurveyingModel
from unblur.models.fourier import (
    Spectrum,
    WindowTransform,
    between,
    cut_windows,
    fade,
    full_precision,
    how_many,
    join_windows,
    mirrored,
    single,
    spread,
    with_border,
)
from unblur.models.growth import grow
from unblur.models.kernel_estimator import (
    EDGE_FACTOR,
    Estimate,
    KernelEstimator,
    kernel_distance,
)
from unblur.models.registry import ConfigError, register
from unblur.models.unshuffle_unet import UnshuffleTrunk, UnshuffleUNet

_FACTOR = 2  # of the refiner's pixel-unshuffle
_DARK = 1e-4  # the least luma: powers have an infinite slope at 0
_LARGEST_WINDOW = 1024
_LEAST_DRAFT = 16
_UNCHANGED = 1e-3  # errors below this root mean square, of white, are not worth a loss


class WienerFilter(nn.Module):
    """Luma N×1×H×W and the estimate of its blur → N×gammas×H×W: what filters change.

    Of each cell of hop × hop pixels there is an estimate, by which a window with the cell in its
    middle is filtered. Filters see the luma to the power of each of gammas: 1 for values as they
    are, 2.2 roughly for light.

    The filter that is best on average over all guesses, conj(mean K) / (mean |K|² + noise): slopes
    of photos are taken to be Gaussian, alike at all scales, and noise to be white. Colours are
    nearly alike in what blur takes from them, and their mean has less noise.
    """

    before: Tensor
    behind: Tensor
    slope: Tensor

    def __init__(self, window: int, hop: int, reach: int, gammas: Sequence[float]) -> None:
        super().__init__()
        self.window, self.hop, self.gammas = window, hop, tuple(gammas)
        self.photos = WindowTransform(window, 0, window)
        self.kernels = WindowTransform(window, -reach, 2 * reach)
        # Edges that fade do not ring. They come back behind the filter, of little use by then, and
        # fade into those of the neighbours.
        before = fade(window, 0.125)
        self.register_buffer("before", before, persistent=False)
        self.register_buffer("behind", 1 / before, persistent=False)
        rows = torch.sin(math.pi / window * torch.arange(window)) ** 2
        slope = 4 * (rows[:, None] + rows[None, : window // 2 + 1]) + 1e-4
        self.register_buffer("slope", slope, persistent=False)

    def forward(self, luma: Tensor, estimate: Estimate) -> Tensor:
        height, width = luma.shape[-2:]
        real, imaginary = self._response(estimate)
        changes = []
        for gamma in self.gammas:
            light = luma if gamma == 1 else luma.clamp_min(_DARK) ** gamma
            a, b = self._spectra(light)
            windows = self.photos.inverse(a * real - b * imaginary, a * imaginary + b * real)
            light = join_windows(windows * self.behind, self.hop)[..., :height, :width]
            changes.append(light if gamma == 1 else light.clamp(_DARK**gamma, 1.0) ** (1 / gamma))
        return torch.cat(changes, 1) - luma

    def error(self, luma: Tensor, sharp: Tensor, changes: Tensor) -> Tensor:
        """What the filters leave of the error of each cell, N×gammas×rows×columns, in dB."""

        def energy(error: Tensor) -> Tensor:
            return F.avg_pool2d(error.square(), self.hop, ceil_mode=True) + _UNCHANGED**2

        return 10 * torch.log10(energy(luma + changes - sharp) / energy(luma - sharp))

    def _spectra(self, luma: Tensor) -> Spectrum:
        """Of windows that reach half of what they overlap past the image, mirrored there."""
        outside = (self.window - self.hop) // 2
        for axis in (2, 3):
            cells = how_many(luma.shape[axis], self.hop)
            # The rest of the last hop is cut off again: the mirror image has to hold it.
            luma = mirrored(luma, axis, -outside, (cells + 1) * self.hop - outside)
        windows = cut_windows(luma, self.window, self.hop)
        return self.photos(windows[:, :, :, 0] * self.before)

    def _response(self, estimate: Estimate) -> Spectrum:
        """Of each window's filter, by frequency."""
        real, imaginary = self.kernels(estimate.guesses)
        power = (real**2 + imaginary**2).mean(-3)
        power = power + estimate.balance[..., None, None] * self.slope
        return real.mean(-3) / power, -imaginary.mean(-3) / power


@register("wiener_unet")
class WienerUNet(SurveyingModel):
    """A kernel for every window, a Wiener filter with it, and a U-Net that sees both.

    For each pixel the U-Net says how far to trust each filter, and what else is to be changed.

    widths, encoder_blocks, decoder_blocks, hidden: of that U-Net, as in `unshuffle_unet`.
    window: side in pixels of the windows, side by side, that kernels are seen in; each cell of half
    of it is filtered in a window of three quarters. reach: of kernels, in pixels to each side.
    edge_widths, edge_blocks: channels and, on the way down, blocks of the estimator's U-Net, which
    has one each on the way up. edge_hidden: channels inside the estimator's residual blocks.
    maps, head, head_blocks, guesses: see KernelEstimator. gammas: see WienerFilter. draft: see
    RestorationModel; how far to trust it is learned as for filters.
    """

    begins_with = ("unshuffle_unet",)
    own_losses = ("kernels", "filters")
    hidden_options = MappingProxyType({"hidden": "refiner", "edge_hidden": "estimator"})
    # What sees kernels divides by small numbers; the refiner's first convolution and level see the
    # photo and what is to be changed of it in one range; the rest as in `unshuffle_unet`.
    float_sections = ("estimator", "refiner.intro", "refiner.encoders.0", "refiner.decoders.0")
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
        edge_hidden: Sequence[int] | None = None,
        gammas: Sequence[float] = (1.0, 2.2),
        draft: int = 0,
    ) -> None:
        super().__init__()
        if not gammas or not all(1 <= gamma <= 4 for gamma in gammas):
            raise ConfigError(f"wiener_unet's gammas lie between 1 and 4, got {list(gammas)}")
        if reach % 4 or not 0 < 8 * reach <= window <= _LARGEST_WINDOW:
            raise ConfigError(
                f"wiener_unet's window is at most {_LARGEST_WINDOW}, its reach a multiple of 4 and "
                f"at most an eighth of that, got {window} and {reach}"
            )
        if draft and draft < _LEAST_DRAFT:  # at 1 there would be no end of them
            raise ConfigError(f"wiener_unet's draft is 0 or at least {_LEAST_DRAFT}, got {draft}")
        once = [1] * (len(edge_blocks) - 1)
        self.estimator = KernelEstimator(
            window,
            reach,
            edge_widths,
            edge_blocks,
            once,
            maps,
            head,
            head_blocks,
            guesses,
            edge_hidden,
            hints=1 if draft else 0,
        )
        hop = window // 2
        self.wiener = WienerFilter(hop * 3 // 2, hop, reach, gammas)
        self.draft = draft
        self.refiner = UnshuffleTrunk(
            3 + len(gammas) + (3 if draft else 0),
            (3 + len(gammas) + bool(draft)) * _FACTOR**2,
            widths,
            encoder_blocks,
            decoder_blocks,
            _FACTOR,
            modulated=True,
            hidden=hidden,
        )
        nn.init.zeros_(self.refiner.output.weight)
        nn.init.zeros_(self.refiner.output.bias)  # type: ignore[arg-type]
        trunks = (self.refiner, self.estimator.edges)
        self.size_multiple = math.lcm(*(trunk.size_multiple for trunk in trunks))
        self.cell, self.min_size = hop, hop + self.size_multiple
        self._guesses = (guesses, 2 * reach, 2 * reach)
        self.survey_size = math.prod(self._guesses) + 1
        if hop % self.size_multiple:
            raise ConfigError(
                f"half of wiener_unet's window, {hop}, must be a multiple of "
                f"{' and '.join(str(trunk.size_multiple) for trunk in trunks)}, its U-Nets' grids"
            )

    def begin_with(self, trained: RestorationModel) -> None:
        """Grow out of a `wiener_unet` with fewer channels and blocks, or the refiner out of an
        `unshuffle_unet`: it then restores just as that one does. With one filter, it stands for all
        that the other one has; a draft that the other one does not see is not trusted at first.
        Raises ConfigError."""
        if isinstance(trained, UnshuffleUNet):
            if trained.confidence:
                raise ConfigError("was trained with confidence, which wiener_unet has not")
            self.refiner.grow_out_of(trained)
            return
        weights = trained.state_dict()
        assert isinstance(trained, WienerUNet)  # noqa: S101  (what else is named in begins_with)
        filters, sees_draft = len(trained.wiener.gammas), bool(trained.draft)
        if len(self.wiener.gammas) == 1:
            with_one_filter(weights, filters)
            filters = 1
        if self.draft and not sees_draft:
            _with_draft(weights)
            sees_draft = True
        # What cannot grow.
        own, other = (
            (each.estimator.window, each.estimator.maps, *each._guesses) for each in (self, trained)
        )
        if (len(self.wiener.gammas), bool(self.draft), *own) != (filters, sees_draft, *other):
            raise ConfigError("was trained with other options")
        self.refiner.require_levels_of(trained.refiner)
        self.estimator.edges.require_levels_of(trained.estimator.edges)
        grow(self, weights)

    def survey(self, x: Tensor) -> Tensor:
        guesses, balance = _of_cells(self._estimate(x))
        return torch.cat([guesses.flatten(3), balance[..., None]], 3)

    def restore_surveyed(self, x: Tensor, survey: Tensor) -> Tensor:
        guesses = survey[..., :-1].reshape(*survey.shape[:3], *self._guesses)
        return self._refine(x, self._filter(_luma(x), Estimate(guesses, survey[..., -1])))

    def restore_and_compare(
        self, blurred: Tensor, sharp: Tensor, restores: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(restored, own losses) of a batch; without `restores` the blurred images come back.

        kernels: how far the guesses are from the kernels that made the one image of
        the other. filters: what the filters leave of the error in dB; mostly negative.
        """
        height, width = blurred.shape[-2:]
        x, target = self.padded(self.with_draft(blurred)), _luma(self.padded(sharp))
        luma = _luma(x)
        estimate = self._estimate(x)
        changes = self._filter(luma, _of_cells(estimate))
        with full_precision(x):
            kernels, trust = self.estimator.targets(luma, target)
            distance = trust * kernel_distance(estimate.guesses, kernels)
            losses = {
                "kernels": distance.sum() / trust.sum().clamp_min(1e-3),
                "filters": self.wiener.error(single(luma), single(target), changes).mean(),
            }
        restored = self._refine(x, changes)[..., :height, :width] if restores else blurred
        return restored, losses

    def _estimate(self, x: Tensor) -> Estimate:
        """Of half-overlapping windows: those that lie side by side are looked at."""
        luma = _luma(x)
        changes = x[:, 3:].mean(1, keepdim=True) - luma if self.draft else None
        guesses, balance = self.estimator(luma, changes)
        rows, columns = (how_many(side, self.cell) - 1 for side in x.shape[2:])
        return Estimate(spread(guesses, rows, columns), spread(balance, rows, columns))

    def _filter(self, luma: Tensor, estimate: Estimate) -> Tensor:
        with full_precision(luma):
            changes: Tensor = self.wiener(single(luma), estimate)
        return changes

    def _refine(self, x: Tensor, changes: Tensor) -> Tensor:
        photo, draft = x[:, :3], x[:, 3:]
        seen = [photo, changes] + ([draft - photo] if self.draft else [])
        own = F.pixel_shuffle(self.refiner.transform(torch.cat(seen, 1)), _FACTOR)
        filters = len(self.wiener.gammas)
        trusted = (own[:, 3 : 3 + filters] * changes).sum(1, keepdim=True)
        if self.draft:
            trusted = trusted + own[:, 3 + filters :] * (draft - photo)
        return photo + own[:, :3] + trusted


def with_one_filter(weights: dict[str, Tensor], filters: int) -> None:
    """Have a `wiener_unet`'s refiner read the first of its filters for all, and trust it as it did
    all."""
    reads = "refiner.intro.weight"
    for name, axis in ((reads, 1), ("refiner.output.weight", 0), ("refiner.output.bias", 0)):
        # Four pixels each of red, green and blue, then of every filter, then of a draft.
        ends = [3 * _FACTOR**2, (3 + filters) * _FACTOR**2]
        colours, own, draft = weights[name].tensor_split(ends, axis)
        one = torch.stack(torch.split(own, _FACTOR**2, axis)).sum(0)
        weights[name] = torch.cat([colours, one, draft], axis)


def _with_draft(weights: dict[str, Tensor]) -> None:
    """Have a `wiener_unet`'s U-Nets see a draft, too, and make nothing of it."""
    news = (
        ("refiner.intro.weight", 1, 3 * _FACTOR**2),
        ("refiner.output.weight", 0, _FACTOR**2),
        ("refiner.output.bias", 0, _FACTOR**2),
        ("estimator.edges.intro.weight", 1, EDGE_FACTOR**2),
    )
    for name, axis, planes in news:
        new = torch.zeros_like(weights[name].narrow(axis, 0, planes))
        weights[name] = torch.cat([weights[name], new], axis)


def _of_cells(estimate: Estimate) -> Estimate:
    """Of half-overlapping windows the mean of those that hold each cell of half their side."""
    guesses, balance = (between(with_border(each)) for each in estimate)
    return Estimate(guesses, balance)


def _luma(x: Tensor) -> Tensor:
    """Of an image, without its draft."""
    return x[:, :3].mean(1, keepdim=True)
