"""Checkpoints: our own, the public layouts, and hostile files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from unblur.models import create_model
from unblur.models.checkpoint import (
    CheckpointError,
    filled_network,
    load_checkpoint,
    read_training,
    save_checkpoint,
)

NAFNET = {"width": 8, "encoder_blocks": [1, 2], "middle_blocks": 3, "decoder_blocks": [2, 1]}


def same_output(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    x = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        return torch.equal(first.eval()(x), second.eval()(x))


def test_public_nafnet_layout(tmp_path: Path) -> None:
    model = create_model("nafnet", **NAFNET)
    names = model.state_dict().keys()
    # Names as in the public checkpoints of https://github.com/megvii-research/NAFNet
    assert {
        "intro.weight",
        "ending.bias",
        "encoders.0.0.conv1.weight",
        "encoders.1.1.sca.1.weight",
        "encoders.0.0.norm1.weight",
        "encoders.0.0.beta",
        "middle_blks.2.gamma",
        "ups.0.0.weight",
        "downs.1.bias",
        "decoders.1.0.conv5.bias",
    } <= names
    assert "ups.0.0.bias" not in names
    torch.save({"params": model.state_dict()}, tmp_path / "naf.pth")
    name, options, loaded = load_checkpoint(tmp_path / "naf.pth")
    assert (name, options) == ("nafnet", NAFNET)
    assert same_output(model, loaded)


@pytest.mark.parametrize("norm", ["instance", None])
def test_public_light_unet_layout(tmp_path: Path, norm: str | None) -> None:
    model = create_model("light_unet", start_filters=6, norm=norm)
    names = model.state_dict().keys()
    assert {
        "enc1.conv.depthwise.weight",
        "enc1.res.conv2.pointwise.weight",
        "enc4.downsample.weight",
        "bottleneck.0.depthwise.weight",
        "bottleneck.1.conv1.pointwise.weight",
        "dec4.conv.depthwise.weight",
        "dec1.res.conv2.pointwise.weight",
        "output.weight",
        "output.bias",
    } <= names
    content = {"epoch": 3, "model_state_dict": model.state_dict(), "val_psnr": 31.15}
    torch.save(content, tmp_path / "best.pth")
    name, options, loaded = load_checkpoint(tmp_path / "best.pth")
    assert (name, options) == ("light_unet", {"start_filters": 6, "norm": norm})
    assert same_output(model, loaded)


def test_safetensors_rebuild_their_network(tmp_path: Path) -> None:
    model = create_model("unet16", width=4)
    save_checkpoint(tmp_path / "m.safetensors", "unet16", {"width": 4}, model)
    name, options, loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert (name, options) == ("unet16", {"width": 4})
    assert same_output(model, loaded)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_no_code_is_run_from_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"evil{suffix}"
    torch.save({"params": {"intro.weight": torch.zeros(1)}, "x": Bomb()}, path)
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_unusable_checkpoints_say_why(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(path)
    torch.save({"params": {"some.weight": torch.zeros(2)}}, path)
    with pytest.raises(CheckpointError, match=r"some\.weight"):
        load_checkpoint(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="list"):
        load_checkpoint(path)
    state = create_model("unet16", width=4).state_dict()
    torch.save({"architecture": "unet16", "options": {"width": 8}, "state_dict": state}, path)
    with pytest.raises(CheckpointError, match="does not fit unet16"):
        load_checkpoint(path)
    torch.save({"architecture": "unet17", "options": {}, "state_dict": state}, path)
    with pytest.raises(CheckpointError, match="Did you mean 'unet16'"):
        load_checkpoint(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


NAFNET_KEYS = ("intro.weight", "ending.weight", "middle_blks.0.beta")


@pytest.mark.parametrize(
    "content",
    [
        {"weights_prefix": 1, "state_dict": {"a": torch.zeros(1)}},
        {"architecture": "unet16", "state_dict": {1: torch.zeros(1)}},
        {"architecture": ["unet16"], "options": 3, "state_dict": {"a": torch.zeros(1)}},
        {"params": {key: torch.tensor(0.0) for key in NAFNET_KEYS}},
        # Says that it holds a thousand million weights, and holds one.
        {
            "architecture": "plain_cnn",
            "options": {"width": 1024, "depth": 2},
            "state_dict": {"a": torch.zeros(1).expand(10**9)},
        },
    ],
)
def test_hostile_checkpoints_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "x.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"x\.pt"):
        load_checkpoint(path)


def test_options_are_numbers(tmp_path: Path) -> None:
    options = {"hidden": [float("nan")], "encoder_blocks": [10**6, 1, 1, 1]}
    with pytest.raises(ValueError, match="implausibly large"):
        filled_network("unshuffle_unet", options, {"a": torch.zeros(1)})


@pytest.mark.parametrize("names", [5, "abc", [1], {"a": 1}])
def test_what_was_trained_on_is_a_list_of_names(tmp_path: Path, names: object) -> None:
    path = tmp_path / "x.safetensors"
    network = create_model("unet16", width=4)
    save_checkpoint(path, "unet16", {"width": 4}, network, {"trained_on": names})
    with pytest.raises(CheckpointError, match="list of names"):
        read_training(path)
