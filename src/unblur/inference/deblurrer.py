"""`Deblurrer`: photos of any size through a model, in tiles, within bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unblur.imaging import Photo
from unblur.inference.card import ModelCard, ModelError
from unblur.inference.draft import Draft, halved
from unblur.inference.models import find_model
from unblur.inference.orientations import ORIENTATIONS
from unblur.inference.runtimes import TileMemoryError, load_runtime
from unblur.inference.survey import Survey
from unblur.inference.tiles import Span, assemble, cut, fitting_overlap, plan_tiles, smallest_tile
from unblur.padding import padded_length

Progress = Callable[[float], None]
Pixels = TypeVar("Pixels", bound=NDArray[Any])

# Side of the patches that whole-image averages are taken from; of the size networks train on.
STATISTICS_PATCH = 256
# At most so many of them along each axis: docs/models.md says what fewer cost.
STATISTICS_ACROSS = 6

# Of the work: a quarter of the pixels, then all of them.
_DRAFT_SHARE = 0.2

MAX_THREADS = 256
LEAST_OVERLAP = 16  # pixels; with less, even small tiles are not worth their seams


class Deblurrer:
    """A loaded model that restores photos; immutable, so threads may share one.

    model: the name of a shipped model or the path of a model file (.onnx or a checkpoint).
    runtime: "auto", "onnxruntime", "openvino", "openvino-bf16" or "torch" (for checkpoints).
    device: "auto", "cpu", "cuda", "mps", or one that `unblur info` lists.
    tile: tiles have at most as many pixels as a square of this side; None leaves it to the model's
        card. At less than 3 of its overlaps and 4 of its grid they overlap less, and may differ a
        little at their seams.
    threads: processor threads for one photo; None leaves it to the runtime.
    best: restore every tile in its 8 orientations and take the mean, which gains a little and takes
        8 times as long ("geometric self-ensemble", B. Lim et al., CVPRW 2017).
    Raises ModelError for a model, runtime or device that is not there.
    """

    def __init__(
        self,
        model: str | Path = "small",
        runtime: str = "auto",
        device: str = "auto",
        tile: int | None = None,
        threads: int | None = None,
        best: bool = False,
    ) -> None:
        self.best = best
        self._orientations = ORIENTATIONS if best else ORIENTATIONS[:1]
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise ModelError(f"threads must be between 1 and {MAX_THREADS}, got {threads}")
        self._runtime = load_runtime(find_model(model), runtime, device, threads)
        card = self._runtime.card
        least_overlap = min(card.overlap, LEAST_OVERLAP)
        least = smallest_tile(least_overlap, card.grid, card.min_size)
        if tile is not None and tile < least:
            raise ModelError(f"tile must be at least {least} for {card.name}, got {tile}")
        self._tile, self._smallest_tile = max(tile or card.tile, least), least

    @property
    def card(self) -> ModelCard:
        return self._runtime.card

    @property
    def runtime(self) -> str:
        return self._runtime.name

    @property
    def device(self) -> str:
        return self._runtime.device

    @property
    def tile(self) -> int:
        return self._tile

    def restore_photo(
        self, photo: Photo, strength: float = 1.0, progress: Progress | None = None
    ) -> Photo:
        """A restored copy of a photo; alpha, metadata and everything else stay as they are."""
        return photo.with_pixels(self.restore_pixels(photo.pixels, strength, progress))

    def restore_pixels(
        self, pixels: Pixels, strength: float = 1.0, progress: Progress | None = None
    ) -> Pixels:
        """Restore H×W×3 or H×W (grey) pixels of type uint8, uint16, or float in [0, 1].

        strength: 0 returns the input, 1 the restored image, between them a blend.
        progress: called with the finished share, 0…1, after every tile.
        The result has the same shape and type. Raises ValueError for other shapes or types.
        """
        check_pixels(pixels)
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be between 0 and 1, got {strength}")
        if strength == 0:
            return pixels.copy()
        tile = self._tile
        while True:
            try:
                return self._restore(pixels, strength, tile, progress)
            except (TileMemoryError, MemoryError):
                if tile <= self._smallest_tile:
                    raise MemoryError(
                        f"not enough memory for tiles of as many pixels as {tile}×{tile}, "
                        f"the smallest that {self.card.name} can use"
                    ) from None
                tile = max(tile // 2, self._smallest_tile)

    def _restore(
        self, pixels: Pixels, strength: float, tile: int, progress: Progress | None
    ) -> Pixels:
        card = self.card
        height, width = pixels.shape[:2]
        overlap = fitting_overlap(tile, card.overlap, card.grid)
        plan = plan_tiles(
            height, width, tile, overlap, card.grid, card.min_size, card.size_multiple
        )
        image = pixels if pixels.ndim == 3 else pixels[:, :, None]
        is_integer = np.issubdtype(pixels.dtype, np.integer)
        white = np.float32(np.iinfo(str(pixels.dtype)).max if is_integer else 1)
        draft, progress = self._draft(image, tile, progress)

        def batch(rows: Span, columns: Span) -> NDArray[np.float32]:
            # Turned to planes while values have a byte or two, and a draft a quarter of them.
            part = np.ascontiguousarray(cut(image, rows, columns).transpose(2, 0, 1))
            seen = np.empty((1, card.channels, *part.shape[1:]), np.float32)
            colours, laid = seen[0, :3], seen[0, 3:]
            np.divide(part, white, out=colours, casting="same_kind", dtype=np.float32)
            laid[:] = colours[: len(laid)]
            if draft:
                change = draft.change(rows, columns)
                change /= white
                laid += change
            return seen

        statistics: NDArray[np.float32] | None = None
        survey = Survey(card, height, width, tile) if card.survey and plan.count > 1 else None
        done, calls = 0, plan.count + (len(survey.tiles) if survey else 0)

        def advance() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done / calls)

        if card.statistics and plan.count > 1:
            patches = sample_patches(height, width, tile, card.size_multiple)
            statistics = self._runtime.run(np.concatenate([batch(*patch) for patch in patches]))[1]

        if survey:
            for part in survey.tiles:
                blurred = batch(*part)
                for orientation in self._orientations:
                    seen = self._runtime.survey(orientation.turn(blurred))
                    survey.note(*part, orientation, seen)
                advance()

        def restore_tile(rows: Span, columns: Span) -> NDArray[np.float32]:
            blurred = batch(rows, columns)
            restored = np.zeros_like(blurred[:, :3])
            for orientation in self._orientations:
                told = survey.of(rows, columns, orientation) if survey else statistics
                laid = orientation.turn_back(self._runtime.run(orientation.turn(blurred), told)[0])
                if laid.shape != restored.shape or not np.isfinite(laid).all():
                    raise ModelError(
                        f"{card.name}: returned {laid.shape} for {restored.shape}, or values that "
                        "are no numbers; the model is unusable"
                    )
                restored += laid / np.float32(len(self._orientations))
            if strength < 1:
                restored = blurred[:, :3] + np.float32(strength) * (restored - blurred[:, :3])
            advance()
            colours = restored[0].transpose(1, 2, 0)
            return colours if image.shape[2] == 3 else colours.mean(axis=2, keepdims=True)

        result = np.empty(image.shape, pixels.dtype)
        for start, strip in assemble(plan, restore_tile):
            strip = np.clip(strip, 0, 1, out=strip)
            if is_integer:
                strip = np.rint(strip * white)
            result[start : start + len(strip)] = strip
        return result.reshape(pixels.shape)  # type: ignore[return-value]

    def _draft(
        self, image: NDArray[Any], tile: int, progress: Progress | None
    ) -> tuple[Draft | None, Progress | None]:
        """What the model makes of an image at half its size, if it takes that and it is not too
        small, and the progress of what is left to do."""
        height, width = image.shape[:2]
        if not self.card.draft or (min(height, width) + 1) // 2 < self.card.draft:
            return None, progress

        def first(done: float) -> None:
            if progress:
                progress(_DRAFT_SHARE * done)

        def rest(done: float) -> None:
            if progress:
                progress(_DRAFT_SHARE + (1 - _DRAFT_SHARE) * done)

        half = halved(image)
        return Draft(height, width, half, self._restore(half, 1.0, tile, first)), rest


def sample_patches(height: int, width: int, tile: int, multiple: int) -> list[tuple[Span, Span]]:
    """Patches spread evenly over an image, together at most as many pixels as four tiles.

    A network with global averages sees them as one batch, which yields the averages for all tiles.
    """
    side = padded_length(min(STATISTICS_PATCH, tile), multiple)
    across = min(max(1, 2 * tile // side), STATISTICS_ACROSS)

    def axis(length: int) -> list[Span]:
        room = max(0, padded_length(length, multiple) - side)
        count = min(across, -(-room // side) + 1)
        starts = [
            room * index // max(1, count - 1) // multiple * multiple for index in range(count)
        ]
        return [Span(start, start + side) for start in starts]

    return [(rows, columns) for rows in axis(height) for columns in axis(width)]


def check_pixels(pixels: NDArray[np.generic]) -> None:
    """Raise ValueError unless the array is an image that can be restored."""
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"an image is H×W or H×W×3, got an array of shape {pixels.shape}")
    if 0 in pixels.shape:
        raise ValueError(f"the image is empty: its shape is {pixels.shape}")
    if pixels.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        return
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"pixels are uint8, uint16 or float, not {pixels.dtype}")
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise ValueError("float pixels must lie in [0, 1]")
