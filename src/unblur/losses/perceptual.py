"""Losses on the features of a classification network."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.files import atomic_path
from unblur.losses.base import Loss, register
from unblur.registry import ConfigError, unknown

# Convolutions of each block, as in K. Simonyan and A. Zisserman, "Very deep convolutional networks
# for large-scale image recognition", ICLR 2015.
_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_URLS = {
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "vgg19": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
}
_LARGEST_DOWNLOAD = 2**30
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class WeightsError(Exception):
    """Weights that are neither at hand nor can be fetched; one line for users."""


def _layers(network: str) -> dict[str, int]:
    """The index of each convolution among torchvision's `features`, by its name conv1_1 …"""
    layers, index = {}, 0
    for block, count in enumerate(_BLOCKS[network], 1):
        for convolution in range(1, count + 1):
            layers[f"conv{block}_{convolution}"] = index
            index += 2  # each is followed by a ReLU
        index += 1  # and each block by a pooling
    return layers


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "unblur"


def _fetch(network: str) -> Path:
    """The published weights, downloaded once; the hash in their name is checked."""
    url = _URLS[network]
    path = _cache() / url.rsplit("/", 1)[1]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with (
            atomic_path(path) as temporary,
            urllib.request.urlopen(url, timeout=30) as answer,  # noqa: S310  (a constant)
            temporary.open("wb") as file,
        ):
            while block := answer.read(2**20):
                size += len(block)
                if size > _LARGEST_DOWNLOAD:
                    raise WeightsError(f"{url}: is larger than it should be")
                digest.update(block)
                file.write(block)
            expected = path.stem.rsplit("-", 1)[1]
            if not digest.hexdigest().startswith(expected):
                raise WeightsError(f"{url}: arrived damaged; try again")
    except OSError as error:
        raise WeightsError(
            f"the perceptual loss needs the weights of {network}, which could not be fetched from "
            f"{url} ({error}); download the file elsewhere and name it with "
            "--losses.perceptual.weights, or leave the loss out with --losses.perceptual 0"
        ) from error
    return path


def _load(network: str, weights: Path | None) -> dict[str, Tensor]:
    path = weights or _fetch(network)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except Exception as error:  # damaged files fail in many ways
        raise WeightsError(f"{path}: cannot be read as weights of {network}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds no weights of {network}")
    return content


class VGGFeatures(nn.Module):
    """The features of VGG up to one convolution, before its ReLU; images in [0, 1].

    Its parameters are named as torchvision's, so that the published files fit, and are frozen.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: str, layer: str, weights: Path | None) -> None:
        super().__init__()
        self.network = network
        layers = _layers(network)
        if layer not in layers:
            raise unknown(f"layer of {network}", layer, layers)
        content = _load(network, weights)
        modules: list[nn.Module] = []
        widths = [3, 64, 128, 256, 512, 512]
        for (before, width), count in zip(pairwise(widths), _BLOCKS[network], strict=True):
            for convolution in range(count):
                modules.append(
                    nn.Conv2d(before if convolution == 0 else width, width, 3, padding=1)
                )
                modules.append(nn.ReLU())
            modules.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*modules[: layers[layer] + 1])
        wanted = {name: content[name] for name in self.state_dict() if name in content}
        try:
            self.load_state_dict(wanted)
        except RuntimeError as error:
            raise WeightsError(
                f"{weights or _URLS[network]}: does not fit {network} up to {layer}"
            ) from error
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        return self.features((image - self.mean) / self.deviation)

    def after_relu(self, image: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """The features of several convolutions, each after its ReLU."""
        indices = _layers(self.network)
        wanted = {indices[layer] for layer in layers}
        features, kept = (image - self.mean) / self.deviation, []
        for index, module in enumerate(self.features):
            features = module(features)
            if index in wanted:
                kept.append(F.relu(features))
        return kept


@register("perceptual")
class PerceptualLoss(Loss):
    """Mean squared difference of VGG features (J. Johnson et al., ECCV 2016).

    network: vgg19 or vgg16. layer: up to which, such as conv4_4 (VGG19) or conv3_3 (VGG16, which
        Keras calls block3_conv3). weights: torchvision's file; by default it is downloaded once to
        the user's cache.
    Raises WeightsError when they cannot be had: never does it compare random features.
    """

    unit_range = True

    def __init__(
        self, network: str = "vgg19", layer: str = "conv4_4", weights: str | None = None
    ) -> None:
        super().__init__()
        if network not in _BLOCKS:
            raise unknown("feature network", network, _BLOCKS)
        path = Path(weights).expanduser() if weights else None
        self.extractor = VGGFeatures(network, layer, path)

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        if min(restored.shape[-2:]) < 16:
            raise ConfigError("perceptual needs crops of at least 16 pixels a side")
        with torch.no_grad():
            target = self.extractor(sharp)
        return F.mse_loss(self.extractor(restored), target)
