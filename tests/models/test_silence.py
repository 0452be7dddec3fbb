"""Pruning: channels that pass nothing on are left out, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from unblur.models import create_model
from unblur.models.silence import residual_blocks, without_silent_channels
from unblur.registry import ConfigError

OPTIONS = {"widths": [20, 40], "encoder_blocks": [1, 2], "decoder_blocks": [1], "modulated": True}


@pytest.mark.parametrize("gated_levels", [0, 1])
def test_a_network_without_its_silent_channels_restores_as_before(gated_levels: int) -> None:
    torch.manual_seed(0)
    options = {**OPTIONS, "gated_levels": gated_levels}
    network = create_model("unshuffle_unet", **options)
    torch.nn.init.normal_(network.output.weight, std=0.1)
    blocks = residual_blocks(network, "this")
    assert len(blocks) == (2 if gated_levels else 4)
    with torch.no_grad():
        blocks[0].conv1.bias[5:] = -100  # 15 of 20 silent: one block of 16 remains
        if not gated_levels:
            blocks[1].conv1.bias[7:20] = -100  # 27 of 40 awake: two blocks
            blocks[2].conv1.bias[:] = -100  # the block does nothing but add a constant
            blocks[2].conv2.bias[:] = 0.25
    images = [torch.rand(1, 3, 33, 47), torch.rand(1, 3, 64, 32)]
    expected = [network(image) for image in images]
    photos = [image[0].numpy() for image in images]
    told, pruned = without_silent_channels(network, options, photos)
    assert told == {**options, "hidden": [16, 20] if gated_levels else [16, 32, 16, 20]}
    for image, before in zip(images, expected, strict=True):
        assert not torch.allclose(before, image, atol=1e-3)
        assert torch.allclose(pruned(image), before, atol=1e-6)
    kept = residual_blocks(pruned, "this")
    for channel in range(5):
        assert torch.equal(kept[0].conv1.weight[channel], blocks[0].conv1.weight[channel])
    # The missing channels begin anew when a training begins with it.
    whole = create_model("unshuffle_unet", **options)
    whole.begin_with(pruned)
    block = residual_blocks(whole, "this")[0]
    assert (block.conv1.weight[16:].abs().amax((1, 2, 3)) > 0).all()
    assert (block.conv2.weight[:, 16:] == 0).all()
    for image, before in zip(images, expected, strict=True):
        assert torch.allclose(whole(image), before, atol=1e-5)


def test_of_silent_channels_the_nearest_to_speaking_stay() -> None:
    options = {"widths": [40], "encoder_blocks": [1], "decoder_blocks": []}
    network = create_model("unshuffle_unet", **options)
    block = network.encoders[0][0]
    with torch.no_grad():
        block.conv1.bias[:] = -100 - torch.arange(40)
        block.conv1.bias[30] = 10
    photo = torch.rand(3, 32, 32).numpy()
    told, pruned = without_silent_channels(network, options, [photo])
    assert told == {**options, "hidden": [16]}
    stay = [*range(15), 30]
    assert torch.equal(pruned.encoders[0][0].conv1.weight, block.conv1.weight[stay])
    assert torch.equal(pruned.encoders[0][0].conv2.weight, block.conv2.weight[:, stay])


def test_what_cannot_be_pruned_is_said() -> None:
    for name, options in (("unet16", {"width": 4}), ("plain_resnet", {"width": 4})):
        with pytest.raises(ConfigError, match="unshuffle_unet"):
            without_silent_channels(create_model(name, **options), options, [])
    for hidden in ([8, 8], [8, 8, 0, 8], [8] * 5):
        with pytest.raises(ConfigError, match="hidden channels for 4 residual blocks"):
            create_model("unshuffle_unet", **OPTIONS, hidden=hidden)
    widths = [3, 5, 7, 2]
    network = create_model("unshuffle_unet", **OPTIONS, hidden=widths)
    found = residual_blocks(network, "this")
    assert [block.conv1.out_channels for block in found] == widths
