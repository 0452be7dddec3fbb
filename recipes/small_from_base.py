"""A checkpoint to begin `shipped_small.yaml` with: `base`, without two thirds of its weights.

    git show 7511f31:src/unblur/weights/base.onnx > base-8.onnx
    python recipes/small_from_base.py base-8.onnx ../shared/data/sharp/bsds500/train \\
        first.safetensors

Of each residual block the hidden channels stay that add most, as with `unblur export --prune`, but
as many as `shipped_small.yaml` says. Of the filters the one in the values as they are stays, and is
trusted as both were; of four pairs of edge maps two, which stand for the others as well. The
refiner loses its coarsest level, what came of that counting as nothing, and at the finest one block
each on the way down and up.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from unblur.cli.export import blurred_photos
from unblur.inference.weights import load_network, sequences_seen
from unblur.models import create_model
from unblur.models.checkpoint import save_checkpoint
from unblur.models.hidden_channels import leave_out, look, residual_blocks, variance_added
from unblur.models.plain import PlainResBlock
from unblur.models.wiener_unet import with_one_filter
from unblur.training.recipe import read_recipe

RECIPE = Path(__file__).with_name("shipped_small.yaml")
PHOTOS = 100
MAPS = (2, 3)  # the pairs that came nearest to all four alone, of all two
# Sections of `base` that are gone, and what becomes of others. The last blocks of the way up
# become the last ones at the level that is the coarsest now.
GONE = (
    r"refiner\.(encoders|downs|ups|scales)\.3",
    r"refiner\.(downs|ups|scales)\.2",
    r"refiner\.encoders\.0\.0",
    r"refiner\.decoders\.0\.1",
)
RENAMED = {
    "refiner.encoders.0.1": "refiner.encoders.0.0",
    "refiner.decoders.2.0": "refiner.encoders.2.2",
    "refiner.decoders.2.1": "refiner.encoders.2.3",
}


def name_in_small(name: str) -> str | None:
    if any(re.match(pattern + r"(\.|$)", name) for pattern in GONE):
        return None
    for before, after in RENAMED.items():
        if name == before or name.startswith(f"{before}."):
            return after + name[len(before) :]
    return name


def with_fewer_channels(
    base: nn.Module, small: nn.Module, photos: list[Tensor]
) -> dict[str, Tensor]:
    """The weights of `base` with as many hidden channels in each block as `small` has there."""
    weights = base.state_dict()
    blocks = residual_blocks(base, "this")
    names = {block: name for name, block in base.named_modules()}
    counts = {
        name: block.conv1.out_channels
        for name, block in small.named_modules()
        if isinstance(block, PlainResBlock)
    }
    for block, seen in zip(blocks, look(base, blocks, photos), strict=True):
        name = name_in_small(names[block])
        if name is not None:
            order = variance_added(block, seen).argsort(descending=True).tolist()
            leave_out(weights, names[block], seen, order[counts[name] :])
    return weights


def with_fewer_maps(weights: dict[str, Tensor], maps: int = 4) -> None:
    """The estimator's head reads each of the maps that stay for one that goes, too."""
    weights["estimator.balance"] = weights["estimator.balance"][list(MAPS)]
    for name in ("weight", "bias"):
        made = weights[f"estimator.edges.output.{name}"]
        apart = made.unflatten(0, (2, maps, -1))  # horizontal and vertical, of 16 pixels each
        weights[f"estimator.edges.output.{name}"] = apart[:, list(MAPS)].flatten(0, 2)
    read = weights["estimator.intro.weight"]
    # Of each map a kernel and a correlation, of 4 pixels each; then what does not depend on them.
    of_maps = read[:, : 8 * maps].unflatten(1, (2, maps, 4))
    others = [each for each in range(maps) if each not in MAPS]
    stay = (of_maps[:, :, list(MAPS)] + of_maps[:, :, others]).flatten(1, 3)
    weights["estimator.intro.weight"] = torch.cat([stay, read[:, 8 * maps :]], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="a checkpoint or an .onnx file")
    parser.add_argument("photos", help="a folder or data set to look at")
    parser.add_argument("output", type=Path, help="a .safetensors file")
    args = parser.parse_args()
    network = read_recipe(RECIPE).network
    _, _, base = load_network(args.base)
    options = network.options | {"draft": base.draft}  # a training has it see drafts, if none
    small = create_model(network.name, **options)
    photos = [
        torch.from_numpy(each)[None] for each in blurred_photos("photos", args.photos, PHOTOS)
    ]
    weights = with_fewer_channels(base, small, photos)
    with_one_filter(weights, len(base.wiener.gammas))
    with_fewer_maps(weights)
    small.load_state_dict(
        {new: value for name, value in weights.items() if (new := name_in_small(name))}
    )
    seen = {"trained_on": sequences_seen(args.base)}
    save_checkpoint(args.output, network.name, options, small, seen)


if __name__ == "__main__":
    main()
