"""Structural similarity as losses."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from unblur.losses.base import Loss, register
from unblur.registry import ConfigError

_MS_SSIM_SMALLEST = 11 * 2**4 - 1  # an 11×11 window at the coarsest of five scales


@register("ssim")
class SSIMLoss(Loss):
    """1 − SSIM with an 11×11 Gaussian window of σ 1.5, per channel.

    Z. Wang et al., "Image quality assessment: from error visibility to structural similarity",
    IEEE Transactions on Image Processing 13(4), 2004.
    """

    unit_range = True

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        # In half precision the difference E[x²] − E[x]² is lost.
        with torch.autocast(restored.device.type, enabled=False):
            value = structural_similarity_index_measure(
                restored.float(), sharp.float(), data_range=1.0
            )
        return 1 - cast(Tensor, value)


@register("ms_ssim")
class MultiScaleSSIMLoss(Loss):
    """1 − MS-SSIM over five scales; crops must be larger than 175 pixels a side.

    Z. Wang, E. Simoncelli and A. Bovik, "Multiscale structural similarity for image quality
    assessment", Asilomar 2003.
    """

    unit_range = True

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        if min(restored.shape[-2:]) <= _MS_SSIM_SMALLEST:
            raise ConfigError(
                f"ms_ssim needs crops larger than {_MS_SSIM_SMALLEST} pixels a side, got "
                f"{restored.shape[-1]}×{restored.shape[-2]}; use ssim or a larger crop"
            )
        with torch.autocast(restored.device.type, enabled=False):
            return 1 - multiscale_structural_similarity_index_measure(
                restored.float(), sharp.float(), data_range=1.0
            )
