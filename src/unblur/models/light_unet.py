"""`light_unet` and `standard_unet`: system 1's U-Nets for GoPro on limited hardware."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.initial import keep_variance
from unblur.models.registry import ConfigError, register
from unblur.models.statistics import InstanceNorm

Norm = Literal["instance"] | None
_SLOPE = 0.2


class DSConv(nn.Module):
    """Depthwise 3×3 → pointwise 1×1 → InstanceNorm → LeakyReLU(0.2); biases only without norm."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        bias = norm is None
        self.depthwise = nn.Conv2d(
            in_channels,
            in_channels,
            3,
            padding=1,
            groups=in_channels,
            padding_mode="reflect",
            bias=bias,
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
        self.norm = InstanceNorm(out_channels) if norm else nn.Identity()
        if norm is None:
            keep_variance(self.depthwise)
            keep_variance(self.pointwise, _SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.pointwise(self.depthwise(x))), _SLOPE)


class LightResBlock(nn.Module):
    """x + DSConv(DSConv(x))."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = DSConv(channels, channels, norm)
        self.conv2 = DSConv(channels, channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class LightEncoder(nn.Module):
    """DSConv and residual block (the skip), then a standard 4×4 stride-2 convolution."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = DSConv(in_channels, out_channels, norm)
        self.res = LightResBlock(out_channels, norm)
        self.downsample = nn.Conv2d(
            out_channels, out_channels, 4, 2, padding=1, padding_mode="reflect", bias=False
        )
        if norm is None:
            keep_variance(self.downsample)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.res(self.conv(x))
        return skip, self.downsample(skip)


class LightDecoder(nn.Module):
    """Bilinear ×2, the skip concatenated, DSConv, residual block."""

    def __init__(self, in_channels: int, skip_channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = DSConv(in_channels + skip_channels, skip_channels, norm)
        self.res = LightResBlock(skip_channels, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.res(self.conv(torch.cat([x, skip], dim=1)))


@register("light_unet")
class LightUNet(RestorationModel):
    """U-Net of depthwise separable convolutions with a global residual (system 1).

    start_filters: channels of the first level, doubled at each of the three others and at the
        bottleneck (48: 6,754,302 parameters).
    norm: "instance", or None for the ablation without normalisation and with biases.

    Parameter names are those of the public checkpoints of
    https://github.com/gabcal07/cnn_image_deblurring.
    """

    size_multiple = 16
    min_size = 32  # reflection and instance statistics need 2×2 pixels at 1/16

    def __init__(self, start_filters: int = 48, norm: Norm = "instance") -> None:
        super().__init__()
        if norm not in ("instance", None):
            raise ConfigError(f"light_unet's norm is 'instance' or None, not {norm!r}")
        c1, c2, c3, c4 = (start_filters * factor for factor in (1, 2, 4, 8))
        bottom = start_filters * 16
        self.enc1 = LightEncoder(3, c1, norm)
        self.enc2 = LightEncoder(c1, c2, norm)
        self.enc3 = LightEncoder(c2, c3, norm)
        self.enc4 = LightEncoder(c3, c4, norm)
        self.bottleneck = nn.Sequential(
            DSConv(c4, bottom, norm), LightResBlock(bottom, norm), DSConv(bottom, bottom, norm)
        )
        self.dec4 = LightDecoder(bottom, c4, norm)
        self.dec3 = LightDecoder(c4, c3, norm)
        self.dec2 = LightDecoder(c3, c2, norm)
        self.dec1 = LightDecoder(c2, c1, norm)
        self.output = nn.Conv2d(c1, 3, 3, padding=1, padding_mode="reflect")
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    @classmethod
    def options_from(cls, weights: dict[str, Tensor]) -> dict[str, Any] | None:
        if not {"enc1.conv.pointwise.weight", "dec4.conv.depthwise.weight"} <= weights.keys():
            return None
        norm = "instance" if "enc1.conv.norm.weight" in weights else None
        return {"start_filters": weights["enc1.conv.pointwise.weight"].shape[0], "norm": norm}

    def restore(self, x: Tensor) -> Tensor:
        skip1, features = self.enc1(x)
        skip2, features = self.enc2(features)
        skip3, features = self.enc3(features)
        skip4, features = self.enc4(features)
        features = self.bottleneck(features)
        features = self.dec4(features, skip4)
        features = self.dec3(features, skip3)
        features = self.dec2(features, skip2)
        features = self.dec1(features, skip1)
        return x + self.output(features)


class ConvBlock(nn.Sequential):
    """Conv 3×3 → InstanceNorm → LeakyReLU(0.2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            InstanceNorm(out_channels),
            nn.LeakyReLU(0.2),
        )


class ResBlock(nn.Module):
    """x + norm(conv(ConvBlock(x))), nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ConvBlock(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(self.block(x)))


class StandardEncoder(nn.Module):
    """Conv block and residual block (the skip), then a 4×4 stride-2 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvBlock(in_channels, out_channels)
        self.res = ResBlock(out_channels)
        self.downsample = nn.Conv2d(out_channels, out_channels, 4, 2, padding=1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.res(self.conv(x))
        return skip, self.downsample(skip)


class StandardDecoder(nn.Module):
    """4×4 stride-2 transposed convolution, the skip concatenated, conv block, residual block."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 4, 2, padding=1, bias=False)
        self.conv = ConvBlock(in_channels + skip_channels, out_channels)
        self.res = ResBlock(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.res(self.conv(torch.cat([self.upsample(x), skip], dim=1)))


@register("standard_unet")
class StandardUNet(RestorationModel):
    """The reference U-Net of standard convolutions that `light_unet` is compared with (system 1).

    28,480,003 parameters.
    """

    size_multiple = 16
    min_size = 32  # instance statistics need 2×2 pixels at 1/16

    def __init__(self) -> None:
        super().__init__()
        self.enc1 = StandardEncoder(3, 64)
        self.enc2 = StandardEncoder(64, 128)
        self.enc3 = StandardEncoder(128, 256)
        self.enc4 = StandardEncoder(256, 512)
        self.bottleneck = nn.Sequential(ConvBlock(512, 512), ConvBlock(512, 512))
        self.dec4 = StandardDecoder(512, 512, 256)
        self.dec3 = StandardDecoder(256, 256, 128)
        self.dec2 = StandardDecoder(128, 128, 64)
        self.dec1 = StandardDecoder(64, 64, 64)
        self.output = nn.Conv2d(64, 3, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    restore = LightUNet.restore
