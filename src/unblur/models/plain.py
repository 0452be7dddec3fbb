"""`plain_cnn` and `plain_resnet`: system 2's baselines that never leave full resolution."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from unblur.models.base import RestorationModel
from unblur.models.initial import copy_image
from unblur.models.registry import ConfigError, register


@register("plain_cnn")
class PlainCNN(RestorationModel):
    """Convolutions with large kernels and ReLU, no pooling, no skip.

    width: channels of the hidden layers; depth: their number; kernel_size: odd side of all kernels.
    """

    def __init__(self, width: int = 64, depth: int = 3, kernel_size: int = 9) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(f"plain_cnn's kernel_size must be odd, got {kernel_size}")
        reach = kernel_size // 2
        layers: list[nn.Module] = [nn.Conv2d(3, width, kernel_size, padding=reach), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Conv2d(width, width, kernel_size, padding=reach), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.output = nn.Conv2d(width, 3, kernel_size, padding=reach)
        copy_image(*[each for each in layers if isinstance(each, nn.Conv2d)], self.output)

    def restore(self, x: Tensor) -> Tensor:
        return self.output(self.body(x))


class PlainResBlock(nn.Module):
    """x + conv(relu(conv(x))) with 3×3 kernels.

    hidden: channels between the convolutions; as many as outside unless given.
    """

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = channels if hidden is None else hidden
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


@register("plain_resnet")
class PlainResNet(RestorationModel):
    """Residual blocks at full resolution, no pooling, no normalisation, global residual.

    width: channels; num_blocks: number of residual blocks.
    """

    def __init__(self, width: int = 64, num_blocks: int = 8) -> None:
        super().__init__()
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*[PlainResBlock(width) for _ in range(num_blocks)])
        self.output = nn.Conv2d(width, 3, 3, padding=1)

    def restore(self, x: Tensor) -> Tensor:
        return x + self.output(self.body(F.relu(self.intro(x))))
