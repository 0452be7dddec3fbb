"""`rednet30`: system 5's residual encoder-decoder at full resolution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.registry import ConfigError, register

DEPTH = 15


@register("rednet30")
class REDNet30(RestorationModel):
    """15 convolutions and 15 transposed ones, 64 channels, symmetric skips, stride 1 throughout.

    Each layer is conv 3×3 → activation → BatchNorm; every second decoder layer adds the symmetric
    encoder layer's output before its activation. 1,080,579 parameters by Keras' count, which
    includes running statistics; 1,076,739 are trained.

    variant: "autoencoder" (ELU, images in [0, 1]) or "wgan", the generator of the WGAN
        (ReLU, tanh at the end, images in [−1, 1]).
    width: channels of every layer.
    """

    def __init__(
        self, variant: Literal["autoencoder", "wgan"] = "autoencoder", width: int = 64
    ) -> None:
        super().__init__()
        if variant not in ("autoencoder", "wgan"):
            raise ConfigError(f"rednet30's variant is 'autoencoder' or 'wgan', not {variant!r}")
        self.variant = variant
        if variant == "wgan":
            self.value_range = (-1.0, 1.0)
        self.encoder = nn.ModuleList(
            [nn.Conv2d(3 if layer == 0 else width, width, 3, padding=1) for layer in range(DEPTH)]
        )
        self.encoder_norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(DEPTH)])
        self.decoder = nn.ModuleList(
            [nn.ConvTranspose2d(width, width, 3, padding=1) for _ in range(DEPTH)]
        )
        self.decoder_norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(DEPTH)])
        self.output = nn.ConvTranspose2d(width, 3, 1)
        # It begins near the identity instead of unlearning noise that it adds to the image.
        nn.init.normal_(self.output.weight, std=1e-3)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def activation(self, x: Tensor) -> Tensor:
        return F.relu(x) if self.variant == "wgan" else F.elu(x)

    def restore(self, x: Tensor) -> Tensor:
        features, skips = x, []
        for conv, norm in zip(self.encoder, self.encoder_norms, strict=True):
            features = norm(self.activation(conv(features)))
            skips.append(features)
        for layer, (conv, norm) in enumerate(
            zip(self.decoder, self.decoder_norms, strict=True), start=1
        ):
            features = conv(features)
            if layer % 2 == 0:
                features = features + skips[DEPTH - 1 - layer]
            features = norm(self.activation(features))
        features = self.output(features) + x
        return torch.tanh(features) if self.variant == "wgan" else F.elu(features)
