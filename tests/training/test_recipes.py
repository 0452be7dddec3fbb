"""Recipes: what they say, how they are overridden, and that every one of them learns."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner, Result

from tests.models.test_networks import LIGHT
from unblur.blur import BlurError
from unblur.cli import app
from unblur.data import read_split
from unblur.imaging import Photo, write_photo
from unblur.inference.card import CARD_KEY
from unblur.inference.describe import weights_hash
from unblur.inference.export import export_model
from unblur.inference.models import find_model
from unblur.inference.runtimes.onnx import read_card
from unblur.inference.weights import load_network, sequences_seen
from unblur.models import create_model
from unblur.models.analysis import count_parameters
from unblur.models.checkpoint import load_checkpoint, read_training, save_checkpoint
from unblur.registry import ConfigError
from unblur.training import Recipe, TrainingError, read_recipe, train, write_recipe
from unblur.training.checkpoints import newest_whole
from unblur.training.config import DataConfig, NetworkConfig, SplitConfig
from unblur.training.data import prepare_pairs
from unblur.training.recipe import overridden
from unblur.training.reports import read_metrics
from unblur.training.restoration import build_network

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
RECIPES = sorted(p.stem for p in FOLDER.glob("*.yaml") if p.stem != "common")
# These have the largest networks, or train a critic as well.
HEAVY = {"gopro_standard_unet", "frames_plain_cnn", "cifar10_ms_wgan", "reds_ms_wgan",
         "reds_rednet30_wgan", "frames_plain_unet", "reds_resnet16", "gopro_light_unet_v2",
         "gopro_light_unet_v4", "reds_rednet30", "cifar10_rednet30_wgan"}  # fmt: skip


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def recipe(name: str, *overrides: str) -> Recipe:
    return read_recipe(FOLDER / f"{name}.yaml", overrides)


def test_what_system_one_says() -> None:
    v3 = recipe("gopro_light_unet")
    assert v3.network.options == {"start_filters": 48}
    assert v3.losses == {"charbonnier": {"weight": 1.0, "epsilon": 1e-3}}
    assert (v3.optimizer.name, v3.optimizer.lr, v3.optimizer.weight_decay) == ("adamw", 2e-4, 1e-3)
    assert (v3.schedule.name, v3.schedule.final_lr) == ("cosine", 1e-6)
    assert (v3.data.crop, v3.data.batch_size, v3.data.jitter) == (256, 8, 0.1)
    assert (v3.trainer.max_epochs, v3.trainer.gradient_clip, v3.trainer.early_stopping) == (
        150, 1.0, 20,
    )  # fmt: skip
    v1, v2, v4 = (recipe(f"gopro_light_unet_{n}") for n in ("v1", "v2", "v4"))
    assert v1.network.options == {"start_filters": 32}
    assert v1.schedule.name == "plateau"
    assert v1.data.split.kind == v2.data.split.kind == "original"
    assert (v4.seed, v4.data.split.seed, v4.data.split.kind) == (123, 123, "sequence")
    assert recipe("gopro_light_unet_no_norm").network.options["norm"] is None
    assert recipe("gopro_standard_unet").network.name == "standard_unet"


def test_what_the_other_systems_say() -> None:
    frames = recipe("frames_late_fusion")
    assert frames.data.epoch_length == 64 * frames.data.batch_size == 640
    assert frames.data.resize == [256, 448]
    assert frames.data.split.frames == [1, 40, 80]
    assert frames.network.max_parameters == 15_000_000
    image = recipe("one_image_deblur_net")
    assert image.losses["perceptual"]["layer"] == "conv4_4"
    assert image.trainer.max_epochs == 20_000
    mixed = recipe("mixed_res_unet")
    assert (mixed.optimizer.name, mixed.optimizer.rho, mixed.losses) == (
        "rmsprop", 0.9, {"l1": 1.0},
    )  # fmt: skip
    wgan = recipe("cifar10_rednet30_wgan")
    assert wgan.adversarial is not None
    assert (wgan.adversarial.critic_steps, wgan.adversarial.penalty) == (5, 10.0)
    assert (wgan.optimizer.lr, wgan.optimizer.betas, wgan.trainer.max_epochs) == (
        2e-4, [0.5, 0.9], 350,
    )  # fmt: skip
    assert recipe("reds_ms_wgan").data.resize == [144, 256]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in RECIPES]
)
def test_every_recipe_learns(name: str, photos: Path, tmp_path: Path) -> None:
    one_image = name.startswith("one_image")
    plan = recipe(name)
    critic_steps = 1 if plan.adversarial is None else plan.adversarial.critic_steps
    # Small, and in every epoch the same samples, so that losses can be compared.
    settings = {
        "data.train": f"image:{photos / 'p3.png'}" if one_image else f"sharp:{photos}",
        "data.blur": "gaussian:sigma=2",
        "data.resize": "[32, 48]",
        "data.crop": "null",
        "data.val_crop": "null",
        "data.patches": "null",
        "data.subset": "null",
        "data.val": "null",
        "data.flips": "false",
        "data.rotations": "false",
        "data.jitter": "0",
        "data.scale": "1.0",
        "data.batch_size": "2",
        "data.epoch_length": str(8 * critic_steps),
        "data.workers": "0",
        "data.val_length": "2",
        "trainer.max_epochs": "4",
        "trainer.max_steps": "16",
        "trainer.log_every": "1",
        "trainer.pictures": "1",
        "output": str(tmp_path / "runs"),
        "tensorboard": "false",
    }
    if not one_image:
        settings |= {
            "data.split.kind": "sequence",
            "data.split.ratio": "0.8",
            "data.split.frames": "null",
        }
    if plan.network.name == "ms_deblur_net":
        settings["network.options.num_blocks"] = "2"
    if "perceptual" in plan.losses:
        settings["losses.perceptual"] = "0"
    overrides = [word for key, value in settings.items() for word in (f"--{key}", value)]
    folder = train(read_recipe(FOLDER / f"{name}.yaml", overrides, quickly=True))
    rows = read_metrics(folder / "metrics.csv")
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 16
    if plan.adversarial is None:
        assert sum(losses[-4:]) < sum(losses[:4])
    else:  # its steps see other images in every epoch
        validated = [row["val/psnr"] for row in rows if "val/psnr" in row]
        assert validated[-1] > validated[0]
    for file in ("recipe.yaml", "environment.json", "curves.png", "summary.json"):
        assert (folder / file).stat().st_size > 100
    assert (folder / "split.json").is_file() != one_image
    assert list((folder / "pictures").glob("epoch-*.png"))
    assert list((folder / "pictures" / "last").glob("*/restored.png"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 16
    assert summary["psnr_input"] > 10
    network = load_checkpoint(folder / "checkpoints" / "best.safetensors")
    assert network[0] == plan.network.name
    assert load_checkpoint(next((folder / "checkpoints").glob("*.ckpt")))[0] == plan.network.name


def test_the_split_is_in_the_weights(recipe_file: Callable[..., Path]) -> None:
    folder = train(read_recipe(recipe_file(), ["--trainer.max_epochs", "1"]))
    known = read_training(folder / "checkpoints" / "best.safetensors")
    split = read_split(folder / "split.json")
    assert known["split"] == split.digest
    assert known["trained_on"] == sorted(split.train)
    for path in (folder / "checkpoints").glob("*.ckpt"):
        assert torch.load(path, weights_only=True)["split"] == split.digest


def test_the_resolved_recipe_is_saved_and_read_back(tmp_path: Path) -> None:
    for name in RECIPES:
        first = recipe(name)
        write_recipe(first, tmp_path / "r.yaml")
        assert read_recipe(tmp_path / "r.yaml") == first


def test_quick_keeps_the_shape() -> None:
    for name in RECIPES:
        whole, short = recipe(name), read_recipe(FOLDER / f"{name}.yaml", quickly=True)
        assert short.network == whole.network
        assert short.losses == whole.losses
        assert short.optimizer == whole.optimizer
        assert short.schedule.name == whole.schedule.name
        assert short.adversarial == whole.adversarial
        assert (short.trainer.max_steps or 0) <= 2000
    explicit = read_recipe(FOLDER / "gopro_light_unet.yaml", ["--data.crop", "64"], quickly=True)
    assert explicit.data.crop == 64
    # Smaller crops would be filled up with their mirror image.
    windows = read_recipe(FOLDER / "shipped_base.yaml", quickly=True).data
    assert (windows.crop, windows.val_crop) == (160, 192)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--trainer.max_epoch", "3"], "no part 'max_epoch'.*Did you mean 'max_epochs'"),
        (["--nothing", "3"], "Valid: adversarial, data"),
        (["--trainer.max_epochs", "many"], "trainer.max_epochs.*int"),
        (["--trainer.precision", "8"], "trainer.precision"),
        (["--optimizer.name", "adamx"], "unknown optimizer 'adamx'.*Valid: adam, adamw, muon"),
        (["--schedule.name", "cosin"], "unknown schedule 'cosin'.*Did you mean 'cosine'"),
        (["--network.name", "unet"], "unknown model 'unet'"),
        (["--network.options.depth", "3"], "unknown option of unet16 'depth'"),
        (["--losses.l3", "1"], "unknown loss 'l3'"),
        (["--optimizer.lr", "-1"], "must be positive"),
        (["--data.crop", "500"], "smaller than the crop"),
        (["--data.batch_size", "64"], "fewer than a batch of 64"),
        (["--network.max_parameters", "100"], "more than the budget of 100"),
        (["--data.train", "sharp:/nowhere"], "no such file"),
        (["--data.blur", "nothing"], "unknown blur"),
        (["--data.blur", "null"], "no blurred partner"),
        (["--network.weights", "/nowhere.pt"], "no such model file"),
        (["--network.revive", "true"], "network.revive is for networks of plain residual blocks"),
        (["--network.frozen", "['']"], "nothing of the network is left"),
        (["--data.val", "sharp:.", "--data.val_subset", "test"], "unknown subset of sharp"),
        (["--optimizer.full_rate_inputs", "0"], "full_rate_inputs must be at least 1, got 0"),
        (["--data.split.file", "/nowhere.json"], "cannot be read"),
        (["--trainer.max_epochs", "0"], "at least 1"),
        (["--trainer.ema", "2"], "ema must lie"),
        (["--trainer.max_steps", "-1"], "max_steps must be at least 1"),
        (["--data.batch_size", "0"], "batch_size must be at least 1"),
        (["--trainer.log_every", "0"], "log_every must be at least 1"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--trainer.accelerator", "gpuu"], "accelerator|gpuu"),
        (["--name", "../up"], "leaves the output folder"),
        (
            ["--network.name", "patchgan_critic", "--network.options", "{}"],
            "does not restore|option",
        ),
    ],
)
def test_mistakes(
    overrides: list[str], message: str, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    import re

    result = unblur("train", recipe_file(), *overrides)
    assert result.exit_code in (1, 2), result.output
    assert re.search(message, " ".join(result.output.split())), result.output
    assert "Traceback" not in result.output


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    needed = "network: {name: unet16}\nlosses: {l1: 1}"
    for content, message in (
        ("- 1", "is not a recipe"),
        ("base: self.yaml", "in a circle"),
        ("base: [1]", "base names"),
        ("a: [", "is not YAML"),
        ("name: 2024-13-01", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("losses: {a: &a [1, 1], b: [*a, *a]}", "aliases"),
        ("losses: [l1]", "losses are written"),
        (f"{needed}\ndata: {{resize: [64, 64], patches: [2]}}", "two positive numbers"),
        (f"{needed}\ndata: {{resize: [64, 0]}}", "two positive numbers"),
        ("trainer: {max_epoch: 1}", "unknown setting 'max_epoch'"),
        ("name: x", "network"),
    ):
        (tmp_path / "self.yaml").write_text(content)
        with pytest.raises(ConfigError, match=message):
            read_recipe(tmp_path / "self.yaml")
        with pytest.raises(ConfigError, match=message):
            read_recipe(tmp_path / "self.yaml", ["--losses.psnr.floor", "1"], quickly=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe(tmp_path / "absent.yaml")


def test_settings_by_name() -> None:
    changed = overridden(recipe("mixed_res_unet"), {"optimizer.lr": 0.5, "losses": {"mse": 2.0}})
    assert (changed.optimizer.lr, changed.losses) == (0.5, {"mse": 2.0})
    # A loss that has a weight alone, one that is new, and a section that the recipe is without.
    added = {"losses.mse.weight": 0.5, "losses.psnr.floor": 1e-3, "adversarial.weight": 0.1}
    further = overridden(changed, added)
    assert further.losses == {"mse": {"weight": 0.5}, "psnr": {"floor": 1e-3}}
    assert further.adversarial is not None
    assert further.adversarial.weight == 0.1
    with pytest.raises(ConfigError, match="Valid"):
        overridden(changed, {"optimizer.rate": 1})


def test_dry_run(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    result = unblur("train", recipe_file(), "--dry-run")
    assert result.exit_code == 0, result.output
    parameters = sum(p.numel() for p in create_model("unet16", width=4).parameters())
    assert f"{parameters:,}" in result.output
    assert "24 (6 an epoch)" in result.output
    stages = ["--data.stages", "[{since: 0.75, crop: 64, batch_size: 1}]"]
    staged = unblur("train", recipe_file(), "--dry-run", *stages)
    assert "30 (6 in the first epoch)" in staged.output
    assert "1 × 64×64" in staged.output
    refused = unblur(
        "train", recipe_file(), "--dry-run", stages[0], stages[1].replace("0.75", "75")
    )
    assert refused.exit_code != 0
    assert "since is a share of the epochs between 0 and 1, got 75" in refused.output
    for setting, value in (
        ("--losses.unknown", "1"),
        ("--losses.l1", "much"),
        ("--optimizer.name", "unknown"),
        ("--schedule.name", "unknown"),
        ("--trainer.ema", "2"),
    ):
        for dry in (["--dry-run"], []):
            refused = unblur("train", recipe_file(), setting, value, *dry)
            assert refused.exit_code == 2, (setting, refused.output)
            assert setting.rpartition(".")[2] in refused.output or value in refused.output
    assert not (tmp_path / "experiments").exists()


def test_a_training_of_ones_own_photos_ends_in_a_model(
    recipe_file: Callable[..., Path], tmp_path: Path, scene: object
) -> None:
    result = unblur("train", recipe_file(), "--trainer.max_epochs", "2")
    assert result.exit_code == 0, result.output
    folder = Path(result.output.strip().splitlines()[-1])
    model = tmp_path / "mine.onnx"
    exported = unblur("export", folder / "checkpoints" / "best.safetensors", "-o", model)
    assert exported.exit_code == 0, exported.output
    write_photo(Photo(scene[:90, :120]), tmp_path / "a.png")  # type: ignore[index]
    ran = unblur("run", tmp_path / "a.png", "--model", model)
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "a_sharp.png").is_file()


def test_a_part_learns_alone_by_losses_of_its_own(recipe_file: Callable[..., Path]) -> None:
    changes = {
        "network": {"name": "wiener_unet", "options": LIGHT["wiener_unet"], "frozen": ["refiner"]},
        "data": {"crop": 64},
        "losses": {"l1": {"weight": 0}, "kernels": {"weight": 0.5}, "filters": 0.2},
    }
    with pytest.raises(ConfigError, match="kernels has no options but weight, got floor"):
        train(read_recipe(recipe_file(**changes), ["--losses.kernels.floor", "1"]))
    run = train(read_recipe(recipe_file(**changes), ["--trainer.max_epochs", "1"]))
    rows = read_metrics(run / "metrics.csv")
    assert all(row["train/kernels"] > 0 for row in rows if "train/loss" in row)
    assert any("train/filters" in row for row in rows)
    first = build_network(NetworkConfig("wiener_unet", LIGHT["wiener_unet"]))
    _, _, last = load_checkpoint(run / "checkpoints" / "last.safetensors")
    assert last.state_dict().keys() == first.state_dict().keys()
    # On from there, with the estimator as it is.
    weights = ["--network.weights", str(run / "checkpoints" / "last.safetensors")]
    losses = {**changes, "losses": {"l1": 1.0}}
    losses["network"] = {**changes["network"], "frozen": ["estimator"]}  # type: ignore[dict-item]
    again = train(read_recipe(recipe_file(**losses), ["--trainer.max_epochs", "1", *weights]))
    _, _, on = load_checkpoint(again / "checkpoints" / "last.safetensors")
    moved = {
        name.split(".")[0]
        for name, value in on.state_dict().items()
        if not torch.equal(value, last.state_dict()[name])
    }
    assert moved == {"refiner"}
    only_own = {**changes, "network": losses["network"]}
    with pytest.raises(TrainingError, match="do not depend on what is not frozen"):
        train(read_recipe(recipe_file(**only_own)))
    with pytest.raises(ConfigError, match="needs a loss of images"):
        train(read_recipe(recipe_file(**changes, adversarial={"critic_steps": 1})))
    with pytest.raises(ConfigError, match="trained by more than what it returns"):
        train(read_recipe(recipe_file(**changes), ["--network.compile", "true"]))
    with pytest.raises(ConfigError, match="Valid: estimator, refiner, wiener"):
        build_network(NetworkConfig("wiener_unet", LIGHT["wiener_unet"], frozen=["head"]))


def test_what_is_frozen_stays_as_it_is(recipe_file: Callable[..., Path]) -> None:
    """Statistics of batches, too."""
    network = {"name": "rednet30", "options": {"width": 4}, "frozen": ["encoder", "encoder_norms"]}
    torch.manual_seed(0)
    first = create_model("rednet30", width=4)
    weights = recipe_file().with_suffix(".safetensors")
    save_checkpoint(weights, "rednet30", {"width": 4}, first)
    network["weights"] = str(weights)
    run = train(read_recipe(recipe_file(network=network), ["--trainer.max_epochs", "1"]))
    _, _, last = load_checkpoint(run / "checkpoints" / "last.safetensors")
    moved = {
        name.split(".")[0]
        for name, value in last.state_dict().items()
        if not torch.equal(value, first.state_dict()[name])
    }
    assert moved == {"decoder", "decoder_norms", "output"}


def test_fine_tuning_begins_with_the_weights(recipe_file: Callable[..., Path]) -> None:
    first = train(read_recipe(recipe_file(), ["--trainer.max_epochs", "1"]))
    weights = first / "checkpoints" / "last.safetensors"
    again = train(
        read_recipe(
            recipe_file(),
            [
                "--trainer.max_epochs",
                "1",
                "--network.weights",
                str(weights),
                "--optimizer.lr",
                "1e-9",
            ],
        )
    )
    with (
        safe_open(weights, "pt") as one,
        safe_open(again / "checkpoints" / "last.safetensors", "pt") as two,
    ):
        for name in one.keys():  # noqa: SIM118
            assert (one.get_tensor(name) - two.get_tensor(name)).abs().max() < 1e-3


def test_weights_remember_what_they_had_seen(
    recipe_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A run that begins with others' weights has seen their images, too, and resumes alone."""
    larger = {"widths": [8, 8], "encoder_blocks": [1, 1], "decoder_blocks": [1]}
    options = [
        *("--network.options", json.dumps(larger)),
        *("--network.name", "unshuffle_unet", "--trainer.max_epochs", "1", "--name", "other"),
    ]  # fmt: skip
    save_checkpoint(
        tmp_path / "begin.safetensors",
        "unshuffle_unet",
        known := {"widths": [4, 8], "encoder_blocks": [1, 1], "decoder_blocks": [1]},
        create_model("unshuffle_unet", **known),
        {"trained_on": ["GOPR0384_11_02"]},
    )
    begun = [*options, "--network.weights", str(tmp_path / "begin.safetensors")]
    run = train(read_recipe(recipe_file(), [*begun, "--network.revive", "true"]))
    told = "of 24 hidden channels were silent on 64 samples and begin anew"
    assert told in capfd.readouterr().err
    (tmp_path / "begin.safetensors").unlink()
    last = run / "checkpoints" / "last.safetensors"
    seen = read_training(last)["trained_on"]
    own = read_split(run / "split.json").train
    assert sorted(seen) == sorted(["GOPR0384_11_02", *own])
    done = unblur("train", "--resume", "--run", run, "--trainer.max_epochs", "2")
    assert done.exit_code == 0, done.output
    assert told not in done.output + capfd.readouterr().err
    assert read_training(last)["trained_on"] == seen
    assert read_training(last)["steps"] > 0
    newest, _ = newest_whole(run / "checkpoints")
    assert newest is not None
    assert sequences_seen(newest) == seen  # of what begins with it, as of the last weights
    card = tmp_path / "card.json"
    card.write_text('{"trained_on": ["more"]}')
    assert unblur("export", last, "-o", tmp_path / "m.onnx", "--card", card).exit_code == 0
    assert read_card(tmp_path / "m.onnx").trained_on == sorted([*seen, "more"])


@pytest.mark.parametrize("name", ["small", "base"])
def test_recipes_go_on_from_what_is_shipped(name: str) -> None:
    network = replace(recipe(f"shipped_{name}").network, weights=name)
    assert weights_hash(build_network(network)) == read_card(find_model(name)).weights_sha256


def test_base_grows_out_of_the_plain_network(tmp_path: Path) -> None:
    plain = recipe("plain_small").network
    trained = build_network(plain)
    with torch.no_grad():
        for weights in trained.output.parameters():
            weights.normal_(std=0.02)
    save_checkpoint(tmp_path / "plain.safetensors", plain.name, plain.options, trained)
    larger = recipe("base_estimator").network
    grown = build_network(replace(larger, weights=str(tmp_path / "plain.safetensors")))
    photo = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        assert not torch.allclose(trained(photo), photo, atol=1e-2)
        assert torch.allclose(grown(photo), trained(photo), atol=1e-5)


def test_small_comes_of_base(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/training-log.md has it, from `whole_base`'s weights to `shipped_small`'s first."""
    whole = recipe("whole_base").network
    estimator = recipe("base_estimator").network
    save_checkpoint(
        tmp_path / "estimator.safetensors", whole.name, estimator.options, build_network(estimator)
    )
    trained = build_network(replace(whole, weights=str(tmp_path / "estimator.safetensors")))
    save_checkpoint(tmp_path / "base.safetensors", whole.name, whole.options, trained)
    spec = importlib.util.spec_from_file_location("from_base", FOLDER / "small_from_base.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.PHOTOS = 2
    files = [
        tmp_path / "base.safetensors",
        data / "sharp/bsds500/train",
        tmp_path / "small.safetensors",
    ]
    monkeypatch.setattr(sys, "argv", ["small_from_base.py", *map(str, files)])
    script.main()
    small = build_network(replace(recipe("shipped_small").network, weights=str(files[-1])))
    assert torch.equal(
        small.state_dict()["estimator.down.weight"], trained.state_dict()["estimator.down.weight"]
    )


@pytest.mark.parametrize("name", ["small", "base"])
def test_what_is_shipped_is_trained_on_as_it_is(name: str) -> None:
    network = build_network(replace(recipe(f"shipped_{name}").network, weights=name))
    _, _, shipped = load_network(find_model(name))
    assert count_parameters(network) == count_parameters(shipped)


def test_training_goes_on_from_a_model_file(tmp_path: Path) -> None:
    """A file of either precision."""
    options = {"widths": [8, 16], "encoder_blocks": [1, 1], "decoder_blocks": [1]}
    trained = build_network(NetworkConfig("unshuffle_unet", options))
    with torch.no_grad():
        for weights in trained.parameters():  # equal tensors, such as zeros, are stored once
            weights += 1e-4 * torch.randn_like(weights)
    half, whole = tmp_path / "half.onnx", tmp_path / "whole.onnx"
    for file, stored in ((half, "float16"), (whole, "int8")):
        export_model(trained, file, stored, "unshuffle_unet", options, stored)
        again = build_network(NetworkConfig("unshuffle_unet", options, weights=str(file)))
        assert weights_hash(again) == read_card(file).weights_sha256

    def tampered(file: Path, named: str, change: Callable[[onnx.TensorProto], None]) -> str:
        model = onnx.load(file)
        change(next(t for t in model.graph.initializer if t.name.endswith(named)))
        onnx.save(model, tmp_path / "tampered.onnx")
        return str(tmp_path / "tampered.onnx")

    def emptied(tensor: onnx.TensorProto) -> None:
        tensor.raw_data = bytes(len(tensor.raw_data))

    def joined(tensor: onnx.TensorProto) -> None:
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones((1, 1, 1, 1), "f4"), tensor.name))

    for file, named, change, said in (
        (half, "intro.weight.half", emptied, "not those that its card"),
        (whole, "intro.weight.int8", emptied, "not those that its card"),
        (whole, "intro.weight.int8_scale", joined, "scales of intro.weight have another shape"),
    ):
        weights = tampered(file, named, change)
        with pytest.raises(ConfigError, match=said):
            build_network(NetworkConfig("unshuffle_unet", options, weights=weights))

    def with_options(told: object) -> str:
        model = onnx.load(half)
        for entry in model.metadata_props:
            if entry.key == CARD_KEY:
                entry.value = json.dumps(json.loads(entry.value) | {"options": told})
        onnx.save(model, tmp_path / "hostile.onnx")
        return str(tmp_path / "hostile.onnx")

    for told in (
        [1],
        {"name": "x"},
        {**options, "widths": [8, 4000]},
        {**options, "encoder_blocks": [1, 20000]},
    ):
        with pytest.raises(ConfigError, match=r"does not keep the weights|no mapping|card"):
            build_network(NetworkConfig("unshuffle_unet", options, weights=with_options(told)))
    with pytest.raises(ConfigError, match="Did you mean 'small'"):
        build_network(NetworkConfig("unshuffle_unet", options, weights="smal"))
    with pytest.raises(ConfigError, match=r"holds a wiener_unet, the recipe has a unet16"):
        build_network(NetworkConfig("unet16", {}, weights="small"))


def test_recipes_are_short() -> None:
    for path in FOLDER.glob("*.yaml"):
        assert len(path.read_text().splitlines()) <= 40
        assert yaml.safe_load(path.read_text())


def test_options_of_losses_are_added() -> None:
    loss = recipe("one_image_deblur_net", "--losses.perceptual.weights", "F").losses["perceptual"]
    assert loss == {"weight": 0.1, "network": "vgg19", "layer": "conv4_4", "weights": "F"}
    plain = recipe(
        "gopro_light_unet", "--losses.charbonnier.epsilon=1e-2", "--losses.l1.weight", "2"
    )
    assert plain.losses == {"charbonnier": {"weight": 1.0, "epsilon": 0.01}, "l1": {"weight": 2}}


def test_images_of_different_sizes_do_not_form_a_batch(
    recipe_file: Callable[..., Path], photos: Path, scene: np.ndarray
) -> None:
    for index in range(10):
        Image.fromarray(scene[: 60 + index, :80]).save(photos / f"p{index}.png")
    with pytest.raises(TrainingError, match="different sizes"):
        train(read_recipe(recipe_file(), ["--data.crop", "null"]))


def test_blur_as_steps_in_a_recipe(recipe_file: Callable[..., Path]) -> None:
    steps = "[{linear_light: [{defocus: {radius: 2}}]}, {noise: {read: 0.01}}]"
    run = train(read_recipe(recipe_file(), ["--data.val_blur", steps, "--trainer.max_epochs", "1"]))
    written = read_recipe(run / "recipe.yaml").data.val_blur
    assert written == [{"linear_light": [{"defocus": {"radius": 2}}]}, {"noise": {"read": 0.01}}]
    with pytest.raises(BlurError, match="defocuss"):
        train(read_recipe(recipe_file(), ["--data.val_blur", "[{defocuss: {radius: 2}}]"]))


def test_a_split_chooses_frames_before_they_are_cut(tmp_path: Path, scene: np.ndarray) -> None:
    for sequence in range(3):
        for frame in range(4):
            path = tmp_path / f"{sequence}" / f"{frame:02}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(scene[:64, 8 * frame : 8 * frame + 64]).save(path)
    split = SplitConfig(kind="frames", frames=[1, 3])
    config = DataConfig(
        train=f"sharp:{tmp_path}", blur="gaussian:sigma=1", patches=[2, 2], split=split
    )
    prepared = prepare_pairs(config)
    names = {pair.name for pair in prepared.train + prepared.val}
    assert names == {
        f"{sequence}/{frame:02}/patch-{row}-{column}"
        for sequence in range(3)
        for frame in (0, 2)
        for row in (1, 2)
        for column in (1, 2)
    }
