"""What a network costs and how far it sees: parameters, MACs, receptive field, needed overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from unblur.models.base import RestorationModel
from unblur.models.deploy import DeployedModel
from unblur.models.light_unet import DSConv
from unblur.padding import padded_length

_SIDE = 256


@dataclass(frozen=True)
class Section:
    """A top-level part of a network.

    channels: of its output; scale: its output's side per input side, e.g. 0.5;
    macs_per_pixel: multiply-accumulates of its convolutions and matrix products per pixel of the
        photo.
    """

    name: str
    operation: str
    channels: int
    scale: float
    parameters: int
    macs_per_pixel: float


@dataclass(frozen=True)
class Summary:
    """The cost of a network; `parameters` are the trained ones."""

    sections: list[Section]
    parameters: int
    running_statistics: int
    macs_per_pixel: float
    receptive_field: int | None


def count_parameters(model: nn.Module) -> int:
    """Trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_running_statistics(model: nn.Module) -> int:
    """BatchNorm's running means and variances, which Keras' totals include."""
    return sum(b.numel() for name, b in model.named_buffers() if "running_" in name)


def summarize(model: nn.Module, with_field: bool = True) -> Summary:
    """Add up what the sections of a network cost for a 256×256 image, or a larger one.

    It is larger for networks that accept none so small, or mirror much of one that is.
    with_field: also find the receptive field, which takes seconds.
    """
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        last = output[-1] if isinstance(output, tuple) else output
        shapes[module] = tuple(last.shape)

    side = _side(model)
    with FlopCounterMode(display=False) as counter:
        _trace(model, model.modules(), note)
    flops = {name: sum(each.values()) for name, each in counter.get_flop_counts().items()}

    def macs(part: nn.Module, name: str) -> int:
        """Of a module, or of its children where others than it call them."""
        if name in flops:
            return flops[name] // 2
        return sum(macs(child, f"{name}.{own}") for own, child in part.named_children())

    sections = []
    for name, part in _sections(model):
        shape = shapes.get(part)
        if shape is None:  # never called itself: take its last child that was
            shape = next((shapes[m] for m in reversed(list(part.modules())) if m in shapes), None)
        cost = macs(part, f"{type(model).__name__}.{name}")
        if shape is None or not (cost or count_parameters(part)):
            continue
        sections.append(
            Section(
                name,
                _operation(part),
                shape[1] if len(shape) > 1 else 1,
                shape[-1] / side if len(shape) == 4 else 0.0,
                count_parameters(part),
                cost / side**2,
            )
        )
    return Summary(
        sections,
        count_parameters(model),
        count_running_statistics(model),
        flops["Global"] / 2 / side**2,
        receptive_field(model) if with_field and isinstance(model, RestorationModel) else None,
    )


def _side(model: nn.Module) -> int:
    """Of the image that costs are counted for."""
    # Many grids, and none cut off: what is filled up would count, too.
    return max(_SIDE, 8 * model.grid) if isinstance(model, RestorationModel) else _SIDE


def _trace(
    model: nn.Module,
    modules: Iterable[nn.Module],
    note: Callable[[nn.Module, tuple[Tensor, ...], Any], None],
) -> None:
    """Call `note(module, inputs, output)` as an image of `_side` passes through `modules`.

    On PyTorch's meta device: tensors have shapes and no values, so that nothing is calculated.
    """
    tensors = chain(model.named_parameters(), model.named_buffers())
    valueless = {name: torch.empty_like(each, device="meta") for name, each in tensors}
    side = _side(model)
    image = torch.empty(1, 3, side, side, device="meta")
    hooks = [module.register_forward_hook(note) for module in modules]
    training = model.training
    try:
        with torch.no_grad():
            functional_call(model.eval(), valueless, (image,))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()


def _sections(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Top-level parts, lists taken apart."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            parts += [(f"{name}.{index}", part) for index, part in enumerate(child)]
        else:
            parts.append((name, child))
    return parts


def _operation(part: nn.Module) -> str:
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
        kind = "conv" if isinstance(part, nn.Conv2d) else "transposed conv"
        kernel = "×".join(str(side) for side in part.kernel_size)
        stride = f", stride {part.stride[0]}" if part.stride[0] > 1 else ""
        return f"{kind} {kernel}{stride}"
    if type(part) is nn.Sequential:
        names = [_operation(child) for child in part if count_parameters(child)]
        runs: list[tuple[str, int]] = []
        for name in names:
            if runs and runs[-1][0] == name:
                runs[-1] = (name, runs[-1][1] + 1)
            else:
                runs.append((name, 1))
        return " → ".join(f"{count} × {name}" if count > 1 else name for name, count in runs)
    return type(part).__name__


@dataclass(frozen=True)
class SeparableCost:
    """What a network's depthwise separable convolutions cost, and what standard ones would."""

    separable_parameters: int
    standard_parameters: int
    separable_macs_per_pixel: float
    standard_macs_per_pixel: float


def separable_cost(model: nn.Module) -> SeparableCost | None:
    """Compare all DSConvs with standard 3×3 convolutions of the same channels; None without any."""
    separable, standard, separable_macs, standard_macs = 0, 0, 0.0, 0.0
    parts = [module for module in model.modules() if isinstance(module, DSConv)]

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal separable, standard, separable_macs, standard_macs
        assert isinstance(module, DSConv)  # noqa: S101 (registered for DSConv only)
        own = module.depthwise.weight.numel() + module.pointwise.weight.numel()
        full = 9 * module.pointwise.weight.numel()
        share = output.shape[-1] * output.shape[-2] / _side(model) ** 2
        separable, standard = separable + own, standard + full
        separable_macs, standard_macs = separable_macs + own * share, standard_macs + full * share

    if not parts:
        return None
    _trace(model, parts, note)
    return SeparableCost(separable, standard, separable_macs, standard_macs)


def receptive_field(model: RestorationModel, limit: int = 4096) -> int | None:
    """The side in pixels of the square of input that can change one output pixel.

    None when it exceeds `limit` or is the whole image (global statistics). Found by feeding a row
    of NaN: arithmetic carries it exactly as far as the network sees, whatever its weights are.
    """
    dtypes = next(model.parameters()).dtype
    # Convolutions of float64 go through plain matrix products; float32 ones may use Winograd
    # tiles or blocked layouts, which smear NaN past the true field.
    model = model.double()
    training, multiple = model.training, model.grid
    model.eval()
    side = max(256, 4 * multiple)
    width = padded_length(1, multiple, max(model.min_size, 2 * multiple))
    try:
        with torch.no_grad():
            while side <= limit:
                reach = 0
                centre = padded_length(side // 2, multiple)
                # What a pixel influences depends on its place in the downsampling grid.
                for offset in (0, multiple - 1):
                    row = centre + offset
                    height = padded_length(side, multiple)
                    x = torch.zeros(1, model.channels, height, width).double()
                    x[:, :, row] = torch.nan
                    touched = model.restore(x).isnan().any(dim=1).any(dim=2)[0].nonzero()
                    first, last = int(touched.min()), int(touched.max())
                    if first == 0 or last == x.shape[2] - 1:
                        break
                    reach = max(reach, row - first, last - row)
                else:
                    return 2 * reach + 1
                side *= 2
    finally:
        model.to(dtypes).train(training)
    return None


def largest_feature_bytes(model: RestorationModel) -> float:
    """Bytes of the largest feature map per pixel of the photo, in float32."""
    return 4 * max(_feature_sizes(model, list(model.modules()))) / _side(model) ** 2


def training_feature_bytes(model: RestorationModel) -> float:
    """Bytes per pixel of a batch that the layers' outputs take in training, in float32.

    They are kept for the backward pass. An estimate: what functions outside of layers make is
    not counted, nor what a layer keeps besides its output.
    """
    layers = [module for module in model.modules() if not list(module.children())]
    return 4 * sum(_feature_sizes(model, layers)) / _side(model) ** 2


def _feature_sizes(model: RestorationModel, modules: list[nn.Module]) -> list[int]:
    """Numbers of values that modules return for an image of `_side`."""
    sizes: list[int] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    _trace(model, modules, note)
    return sizes


def needed_overlap(
    model: RestorationModel, sample: Callable[[int, int], Tensor], tolerance: float = 0.25 / 255
) -> int:
    """Pixels from a cut edge on from which a tile agrees with the whole image within `tolerance`.

    Measured on `sample(height, width)` (1×3×H×W), as it is and mirrored, at 99.9 % of the pixels:
    theoretical receptive fields of U-Nets are several times what their weights make use of. A
    multiple of the network's grid, of 16 where that is larger; at least 16, unless no pixel is seen
    from so far.
    """
    multiple = model.grid
    height = padded_length(256, multiple, model.min_size)
    width = padded_length(768, multiple, model.min_size)
    half = width // 2 // multiple * multiple
    field = receptive_field(model, limit=1024)
    seen = half if field is None else padded_length(math.ceil(field / 2), multiple)
    if seen <= 16:
        return seen
    image = sample(height, width)
    image = torch.cat([image] * (model.channels // 3), 1)
    # How far a network looks depends on what is at the cut: one of them alone says too little.
    mirrored = [image.flip(axes) for axes in ([], [2], [3], [2, 3])]
    # What the cut can change, and all that this can see, lies in these columns: no more are run.
    first = max(0, half - padded_length(2 * seen, multiple, model.min_size))
    last = min(width, half + seen)
    deployed = DeployedModel(model)
    reach = max(
        _reach(deployed, each[..., first:last], half - first, tolerance) for each in mirrored
    )
    return min(seen, padded_length(max(reach, 16), min(multiple, 16)))


def _reach(deployed: DeployedModel, image: Tensor, half: int, tolerance: float) -> int:
    """Pixels from a cut at column `half` on from which the part on its left is as in the whole."""
    with torch.no_grad():
        whole = deployed(image)
        left = image[..., :half]
        if deployed.survey_size:
            columns = half // deployed.network.grid
            part = deployed.restore_surveyed(left, whole[1][:, :, :columns])
        else:
            rest = (whole[1], torch.tensor(1.0)) if deployed.statistics else ()
            part = deployed(left, *rest)[0]
    difference = (part - whole[0][..., :half]).abs().amax(dim=(0, 1))
    worst = difference.kthvalue(max(1, math.floor(0.999 * image.shape[2])), dim=0).values
    beyond = (worst > tolerance).nonzero()
    return half - int(beyond.min()) if len(beyond) else 0
