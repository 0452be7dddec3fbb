"""Networks that begin as smaller ones that are trained."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unblur.models.plain import PlainResBlock
from unblur.models.registry import ConfigError


def grow(network: nn.Module, known: Mapping[str, Tensor]) -> None:
    """Have a network take the weights of a trained one, which may have fewer channels and blocks.

    It then does exactly what that one does: what is new starts at random, but nothing old reads
    from it, and new residual blocks pass on what they get (T. Chen et al., "Net2Net", ICLR 2016).
    That inputs and outputs, and all else that is no channel and no block, are the same is for the
    caller to see to. Raises ConfigError when the other one is not smaller.
    """
    own = network.state_dict()
    for name, source in known.items():
        target = own.get(name)
        if (
            target is None
            or target.ndim != source.ndim
            or any(map(operator.lt, target.shape, source.shape))
        ):
            raise ConfigError(f"was trained with more, or other, channels and blocks: {name}")
    with torch.no_grad():
        for name, target in own.items():
            section, _, kind = name.rpartition(".")
            if name not in known:  # new scales are zero already
                block, _, layer = section.rpartition(".")
                if layer == "conv2" and isinstance(network.get_submodule(block), PlainResBlock):
                    target.zero_()  # new gated blocks pass on what they get as they are
                continue
            source = known[name]
            if kind != "weight" or source.ndim == 1:
                target[: len(source)] = source
            else:
                turned = isinstance(network.get_submodule(section), nn.ConvTranspose2d)
                new, old = (w.transpose(0, 1) if turned else w for w in (target, source))
                outputs, inputs = old.shape[:2]
                new[:outputs, inputs:] = 0
                new[:outputs, :inputs] = old
