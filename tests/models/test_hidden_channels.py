"""Pruning: channels that do little are left out, and next to nothing else changes."""

from __future__ import annotations

import pytest
import torch

from tests.models.test_networks import LIGHT, perturbed
from unblur.inference.describe import synthetic_photo
from unblur.models import create_model
from unblur.models.hidden_channels import residual_blocks, without_idle_channels
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
    told, pruned = without_idle_channels(network, "unshuffle_unet", options, photos, share=0)
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
    told, pruned = without_idle_channels(network, "unshuffle_unet", options, [photo], 0.01)
    assert told == {**options, "hidden": [16]}
    stay = [*range(15), 30]
    assert torch.equal(pruned.encoders[0][0].conv1.weight, block.conv1.weight[stay])
    assert torch.equal(pruned.encoders[0][0].conv2.weight, block.conv2.weight[:, stay])


def test_awake_channels_that_add_little_go_and_their_means_stay() -> None:
    torch.manual_seed(0)
    options = {"widths": [40], "encoder_blocks": [1], "decoder_blocks": []}
    network = create_model("unshuffle_unet", **options)
    torch.nn.init.normal_(network.output.weight, std=0.1)
    block = network.encoders[0][0]
    with torch.no_grad():
        block.conv2.weight[:, 32:] *= 1e-3
        block.conv1.weight[32:36] = 0  # always the same: whatever is made of it, it adds nothing
        block.conv1.bias[32:36] = 2.0
        block.conv2.weight[:, 32:36] *= 1e3
    photos = [torch.rand(3, 64, 64) for _ in range(3)]
    arrays = [each.numpy() for each in photos]
    told, pruned = without_idle_channels(network, "unshuffle_unet", options, arrays, 0.01)
    assert told == {**options, "hidden": [32]}
    left = pruned.encoders[0][0]
    assert torch.equal(left.conv1.weight, block.conv1.weight[:32])
    assert torch.equal(left.conv2.weight, block.conv2.weight[:, :32])
    for photo in photos:
        before, after = network(photo[None]), pruned(photo[None])
        assert (before - photo).abs().mean() > 0.1
        # At the border, where convolutions see zeros, a mean is too much.
        assert torch.allclose(before[..., 6:-6, 6:-6], after[..., 6:-6, 6:-6], atol=1e-3)
    with torch.no_grad():
        left.conv2.bias[:] = block.conv2.bias
        assert not torch.allclose(pruned(photo[None]), before, atol=1e-2)
    told, _ = without_idle_channels(network, "unshuffle_unet", options, arrays, 0.0)
    assert told == {**options, "hidden": [40]}
    told, _ = without_idle_channels(network, "unshuffle_unet", options, arrays, 0.9)
    assert told == {**options, "hidden": [16]}


def test_a_network_that_sees_kernels_is_pruned_in_both_its_parts() -> None:
    widths = {"widths": [24, 8], "edge_widths": [20, 4], "head": 40}
    options = {**LIGHT["wiener_unet"], **widths}
    network = perturbed("wiener_unet", **options).eval()
    blocks = residual_blocks(network, "this")
    outside = [block.conv1.out_channels for block in blocks]
    estimator = len(residual_blocks(network.estimator, "this"))  # type: ignore[arg-type]
    with torch.no_grad():
        for block in blocks:
            block.conv1.bias[3:] = -100
    photo = synthetic_photo(64, 96)
    told, pruned = without_idle_channels(network, "wiener_unet", options, [photo[0].numpy()], 0)
    hidden = [min(16, channels) for channels in outside]
    assert told == {**options, "edge_hidden": hidden[:estimator], "hidden": hidden[estimator:]}
    with torch.no_grad():
        assert torch.allclose(pruned(photo), network(photo), atol=1e-5)
    kept = residual_blocks(pruned, "this")
    assert [block.conv1.out_channels for block in kept] == hidden


def test_what_cannot_be_pruned_is_said() -> None:
    for name, options in (("unet16", {"width": 4}), ("plain_resnet", {"width": 4})):
        with pytest.raises(ConfigError, match="unshuffle_unet"):
            without_idle_channels(create_model(name, **options), name, options, [], 0.01)
    for hidden in ([8, 8], [8, 8, 0, 8], [8] * 5):
        with pytest.raises(ConfigError, match="hidden channels for 4 residual blocks"):
            create_model("unshuffle_unet", **OPTIONS, hidden=hidden)
    widths = [3, 5, 7, 2]
    network = create_model("unshuffle_unet", **OPTIONS, hidden=widths)
    found = residual_blocks(network, "this")
    assert [block.conv1.out_channels for block in found] == widths
