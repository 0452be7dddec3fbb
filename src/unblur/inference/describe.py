"""The card of a network in PyTorch: what is known of it by looking at it."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unblur.blur import convolve, gaussian_kernel
from unblur.inference.card import ModelCard, ModelError
from unblur.models import RestorationModel
from unblur.models.analysis import (
    count_parameters,
    largest_feature_bytes,
    needed_overlap,
    summarize,
)
from unblur.models.base import SurveyingModel
from unblur.models.deploy import DeployedModel

# Tiles are chosen so that no single feature map is larger than this.
_FEATURE_BUDGET = 256 * 2**20
_LARGEST_TILE, _SMALLEST_TILE = 1536, 256


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over all parameters and running statistics, by name, as little-endian float32."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def synthetic_photo(height: int, width: int) -> Tensor:
    """1×3×H×W, always the same: a 1/f texture like natural photos' with edges, slightly blurred.

    The blur gives deblurring networks something to do; on a sharp picture most would do nothing,
    and nothing would be seen of how far they look.
    """
    rng = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    planes = []
    for _ in range(3):
        spectrum = amplitude * np.fft.rfft2(rng.standard_normal((height, width)))
        plane = np.fft.irfft2(spectrum, (height, width))
        planes.append((plane - plane.min()) / np.ptp(plane))
    photo = np.stack(planes, axis=2).astype(np.float32)
    for _ in range(height * width // 2000):
        top, left = rng.integers(0, height), rng.integers(0, width)
        rows, columns = rng.integers(1, 40, 2)
        photo[top : top + rows, left : left + columns] = rng.random(3)
    return torch.from_numpy(convolve(photo, gaussian_kernel(1.2)).transpose(2, 0, 1)[None].copy())


def describe(
    name: str, architecture: str, options: dict[str, Any], network: nn.Module, **known: Any
) -> ModelCard:
    """A card with all that the engine needs; `known` adds what only people know."""
    if not isinstance(network, RestorationModel):
        raise ModelError(f"{architecture} does not restore images, so it cannot be run or exported")
    deployed = DeployedModel(network)
    overlap = needed_overlap(network, synthetic_photo)
    side = math.sqrt(_FEATURE_BUDGET / largest_feature_bytes(network))
    tile = int(min(max(side, _SMALLEST_TILE), _LARGEST_TILE)) // 64 * 64
    return ModelCard(
        name=name,
        architecture=architecture,
        options=options,
        parameters=count_parameters(network),
        macs_per_megapixel=round(1e6 * summarize(network, with_field=False).macs_per_pixel),
        size_multiple=network.size_multiple,
        min_size=network.min_size,
        overlap=overlap,
        tile=tile,
        statistics=deployed.statistics,
        survey=deployed.survey_size,
        cell=network.cell if isinstance(network, SurveyingModel) else 0,
        draft=network.draft,
        bf16=network.bf16,
        weights_sha256=weights_hash(network),
        **known,
    )
