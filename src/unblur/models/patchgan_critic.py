"""`patchgan_critic`: the WGAN critic of system 5."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import pad_to_multiple
from unblur.models.registry import register


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _same_size(x: Tensor) -> Tensor:
    """Zeros around a map so that a 4×4 stride-1 convolution keeps its size, as in Keras."""
    return F.pad(x, (1, 2, 1, 2))


@register("patchgan_critic")
class PatchGANCritic(nn.Module):
    """N×3×H×W in [−1, 1] → N scores, each the mean of a map of patch scores.

    4×4 convolutions to 64/2, 128/2, 256/2 and 512/1 channels/stride with LayerNorm and
    LeakyReLU(0.2), then 4×4 to one map. 2,766,657 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        steps = [(3, 64), (64, 128), (128, 256)]
        self.convs = nn.ModuleList([nn.Conv2d(i, o, 4, 2, padding=1) for i, o in steps])
        self.convs.append(nn.Conv2d(256, 512, 4))
        self.norms = nn.ModuleList([ChannelLayerNorm(o) for o in (64, 128, 256, 512)])
        self.output = nn.Conv2d(512, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = pad_to_multiple(x, 8)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            features = _same_size(features) if conv.stride == (1, 1) else features
            features = F.leaky_relu(norm(conv(features)), 0.2)
        return self.output(_same_size(features)).mean(dim=(1, 2, 3))
