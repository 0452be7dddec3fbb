"""What all restoration networks share: any image size goes in, the same size comes out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.padding import padded_length, reflected_indices
from unblur.registry import ConfigError


def pad_to_multiple(x: Tensor, multiple: int, minimum: int = 1) -> Tensor:
    """Mirror N×C×H×W at its lower and right edges up to the next accepted size."""
    for axis in (-2, -1):
        length = x.shape[axis]
        target = padded_length(length, multiple, minimum)
        if target != length:
            indices = torch.from_numpy(reflected_indices(0, target, length)).to(x.device)
            x = x.index_select(axis, indices)
    return x


class RestorationModel(nn.Module):
    """A network N×3×H×W → N×3×H×W; subclasses implement `restore` for sizes they accept.

    draft: where it is not 0, `restore` takes three more channels, a draft: what the network itself
        makes of the image at half its size, where the shorter side has at least so many pixels
        then, and so on; elsewhere the image again. Of wide blur more is to be seen from further
        away.

    size_multiple: height and width given to `restore` are multiples of it,
    min_size: and at least this.
    value_range: the values of black and white, of its input and its output.
    begins_with: other architectures whose weights `begin_with` takes.
    own_losses: names of losses that its `restore_and_compare` returns beside the restored images.
    bf16: whether that is precise enough to run it.
    float_sections: stay in float32 where other convolutions are computed in int8; rounding shows
        in them most.
    hidden_options: of options that give the hidden channels of residual blocks, one by one, the
        section that they lie in. "": in all of it.
    """

    draft: int = 0
    size_multiple: int = 1
    min_size: int = 1
    value_range: tuple[float, float] = (0.0, 1.0)
    begins_with: tuple[str, ...] = ()
    own_losses: tuple[str, ...] = ()
    bf16: bool = True
    float_sections: tuple[str, ...] = ()
    hidden_options: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def options_from(cls, weights: dict[str, Tensor]) -> dict[str, Any] | None:
        """The options of the network that public weights belong to, None for another network's."""
        return None

    def begin_with(self, trained: RestorationModel) -> None:
        """Take the weights of a trained network of the same architecture.

        Raises ConfigError when they do not fit.
        """
        self.take(trained.state_dict())

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Have these weights, all of its own. Raises ConfigError when they do not fit."""
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            raise ConfigError("was trained with other options") from error

    def restore(self, x: Tensor) -> Tensor:
        """Map a batch whose size is accepted to its restored version of the same size."""
        raise NotImplementedError

    def restore_and_compare(
        self, blurred: Tensor, sharp: Tensor, restores: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(restored, own losses) of a batch; without `restores` for the losses alone."""
        return self(blurred), {}

    @property
    def grid(self) -> int:
        """A shift of an image by so many pixels shifts what is made of it, and no more."""
        return self.size_multiple

    @property
    def channels(self) -> int:
        """Of what `restore` takes."""
        return 6 if self.draft else 3

    def with_draft(self, x: Tensor) -> Tensor:
        """An image N×3×H×W as `restore` takes it, but for its size."""
        if not self.draft:
            return x
        height, width = x.shape[-2:]
        half = F.avg_pool2d(x, 2, ceil_mode=True)
        if min(half.shape[-2:]) < self.draft:
            return torch.cat([x, x], 1)
        with torch.no_grad():
            change = self(half).clamp(*self.value_range) - half
        # Weights that were cast without gradients would be taken from there with them.
        torch.clear_autocast_cache()
        change = F.interpolate(change, scale_factor=2, mode="bilinear")[..., :height, :width]
        return torch.cat([x, x + change], 1)

    def padded(self, x: Tensor) -> Tensor:
        """A batch, mirrored at its edges up to the next size that is accepted."""
        return pad_to_multiple(x, self.size_multiple, self.min_size)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return self.restore(self.padded(self.with_draft(x)))[..., :height, :width]


class MultiScaleModel(RestorationModel):
    """A network that restores smaller images on the way, which are trained with sharp ones too."""

    def scales(self, x: Tensor) -> tuple[Tensor, ...]:
        """What is restored of a batch whose size is accepted: the smallest first, its own last."""
        raise NotImplementedError

    def restore(self, x: Tensor) -> Tensor:
        return self.scales(x)[-1]


class SurveyingModel(RestorationModel):
    """A network that looks at a photo before it restores it, from as far as it needs to.

    What it sees is seen once of a large photo, and told to the tiles that are restored.

    survey_size: how many numbers it notes of each cell of `cell` × `cell` pixels, a multiple of
    `size_multiple`; of what is left of one at the lower and right edges, too.
    """

    survey_size: int
    cell: int

    @property
    def grid(self) -> int:
        return self.cell

    def survey(self, x: Tensor) -> Tensor:
        """Of a batch whose size is accepted, N×rows×columns×survey_size."""
        raise NotImplementedError

    def restore_surveyed(self, x: Tensor, survey: Tensor) -> Tensor:
        """Map a batch to its restored version, with what was seen of its cells."""
        raise NotImplementedError

    def restore(self, x: Tensor) -> Tensor:
        return self.restore_surveyed(x, self.survey(x))
