"""The Lightning modules: who learns when, averages, schedules, broken losses, several processes."""

from __future__ import annotations

import copy
import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from unblur.data import DataError
from unblur.models import create_model
from unblur.models.checkpoint import load_checkpoint
from unblur.registry import ConfigError
from unblur.training import TrainingError, read_recipe, run, train
from unblur.training.adversarial import AdversarialModule, gradient_penalty
from unblur.training.config import DataConfig, OptimizerConfig, ScheduleConfig, Stage
from unblur.training.data import EpochSampler, ValidationSampler, epoch_steps, stage_at
from unblur.training.muon import orthogonal
from unblur.training.optimizers import build_optimizer, build_schedule, parameter_groups
from unblur.training.reports import read_metrics
from unblur.training.restoration import (
    RestorationModule,
    psnr_means,
    psnr_of_images,
    psnr_sums,
    ssim_of_images,
)
from unblur.training.revival import revive_silent_channels

UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()"]


def rates(config: ScheduleConfig, steps: int, per_epoch: int) -> list[float]:
    optimizer = build_optimizer(OptimizerConfig("sgd", lr=1.0), nn.Conv2d(3, 3, 3))
    schedule = build_schedule(config, optimizer, steps, range(per_epoch, steps + 1, per_epoch))
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()  # type: ignore[call-arg]
    return values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
            "batch_size",
        ),
        ("DataLoader worker (pid 1) is killed: workers are out of shared memory.", "data.workers"),
        ("CUDA error: an illegal memory access was encountered", None),
    ],
)
def test_what_ends_a_training_is_named(text: str, message: str | None) -> None:
    class Trainer:
        interrupted = False

        def fit(self, *_args: object, **_options: object) -> None:
            raise RuntimeError(text)

    class Module:
        optimizer_steps = 7

    with pytest.raises(TrainingError if message else RuntimeError, match=message or text):
        run._fit(Trainer(), Module(), None, None)  # type: ignore[arg-type]


def test_processes_are_counted_where_they_train(
    recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for accelerator, devices, count in (
        ("cpu", "auto", 1),
        ("cpu", -1, 1),
        ("cpu", 2, 2),
        ("auto", "auto", 4),
        ("gpu", -1, 4),
        ("gpu", [0, 2], 2),
    ):
        settings = [f"--trainer.accelerator={accelerator}", f"--trainer.devices={devices}"]
        assert run._ranks(read_recipe(recipe_file(), settings)) == count


def test_runs_that_begin_together_have_folders_of_their_own(
    recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNBLUR_RUN", "")  # is as it was afterwards
    recipe, together = read_recipe(recipe_file()), threading.Barrier(8)

    def begin(_: int) -> Path:
        together.wait()
        return run._new_folder(recipe)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(8)))) == 8


def test_schedules() -> None:
    cosine = rates(ScheduleConfig("cosine", final_lr=0.01, warmup=10), 100, 10)
    assert cosine[0] == pytest.approx(1 / 11)
    assert max(cosine) == pytest.approx(1, abs=0.05)
    assert cosine[-1] == pytest.approx(0.01, abs=2e-3)
    assert cosine[55] == pytest.approx(0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * 0.55)), rel=1e-5)
    late = rates(ScheduleConfig("exponential", start=3, factor=0.5), 60, 10)
    assert late[:40] == [1.0] * 40
    assert late[40] == 0.5
    assert late[50] == 0.25
    stairs = rates(ScheduleConfig("step", every=2, factor=0.1), 60, 10)
    assert (stairs[19], stairs[20], stairs[40]) == (1.0, pytest.approx(0.1), pytest.approx(0.01))
    cycle = rates(ScheduleConfig("one_cycle", final_lr=1e-4), 100, 10)
    assert cycle[0] == pytest.approx(1 / 25)
    assert max(cycle) == pytest.approx(1, abs=1e-3)
    assert cycle[-1] == pytest.approx(1e-4, rel=0.05)
    adam = build_optimizer(OptimizerConfig("adam", betas=[0.5, 0.9]), nn.Conv2d(3, 3, 3))
    build_schedule(ScheduleConfig("one_cycle"), adam, 100, [10])
    assert adam.param_groups[0]["betas"] == (0.5, 0.9)


def test_epochs_of_different_lengths() -> None:
    optimizer = build_optimizer(OptimizerConfig("sgd", lr=1.0), nn.Conv2d(3, 3, 3))
    schedule = build_schedule(ScheduleConfig("step", every=1, factor=0.1), optimizer, 9, [2, 4, 9])
    values = []
    for _ in range(9):
        values.append(round(optimizer.param_groups[0]["lr"], 6))
        optimizer.step()
        schedule.step()  # type: ignore[call-arg]
    assert values == [1.0] * 2 + [0.1] * 2 + [0.01] * 5


def test_decay_leaves_biases_and_norms_out() -> None:
    network = create_model("light_unet", start_filters=8)
    decaying, others = parameter_groups(network, 0.1, 1e-3)
    assert decaying["weight_decay"] == 0.1
    assert others["weight_decay"] == 0.0
    assert all(parameter.ndim > 1 for parameter in decaying["params"])
    both = len(decaying["params"]) + len(others["params"])
    assert both == len(list(network.parameters()))


def test_wide_layers_learn_more_slowly() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 16, 3), nn.Conv2d(16, 8, 3), nn.ConvTranspose2d(8, 16, 2, 2), nn.Linear(360, 1)
    )
    config = OptimizerConfig(lr=1e-3, full_rate_inputs=36)
    optimizer = build_optimizer(config, network)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    weights = [rates[layer.weight] for layer in network]  # type: ignore[index]
    assert weights == pytest.approx([1e-3, 0.25e-3, 1e-3, 0.1e-3])  # 36, 144, 8 and 360 inputs
    assert {rates[layer.bias] for layer in network} == {1e-3}  # type: ignore[index]
    schedule = build_schedule(ScheduleConfig("cosine", final_lr=0), optimizer, 10, [10])
    for _ in range(5):
        optimizer.step()
        schedule.step()  # type: ignore[call-arg]
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(rates[group["params"][0]] / 2)
    alike = build_optimizer(OptimizerConfig(lr=1e-3), network)
    assert {group["lr"] for group in alike.param_groups} == {1e-3}
    optimizer = build_optimizer(config, network)
    top = build_schedule(ScheduleConfig("one_cycle"), optimizer, 10, [10])
    highest: dict[torch.Tensor, float] = {}
    for _ in range(9):
        for group in optimizer.param_groups:
            first = group["params"][0]
            highest[first] = max(group["lr"], highest.get(first, 0.0))
        optimizer.step()
        top.step()  # type: ignore[call-arg]
    assert all(rate <= 1.01 * rates[first] for first, rate in highest.items())
    assert all(rate > 0.9 * rates[first] for first, rate in highest.items())


def test_silent_channels_begin_anew() -> None:
    """They pass something on again, and learn, but change nothing yet; others stay as they are."""
    torch.manual_seed(0)
    options = {"widths": [6, 8], "encoder_blocks": [1, 1], "decoder_blocks": [1]}
    network = create_model("unshuffle_unet", **options)
    nn.init.normal_(network.output.weight, std=0.1)
    block = network.encoders[1][0]
    with torch.no_grad():
        block.conv1.bias[2:5] = -100
    before = copy.deepcopy(network)
    images = list(torch.rand(6, 1, 3, 32, 32))
    assert revive_silent_channels(network, images) == (3, 20)
    assert revive_silent_channels(network, images) == (0, 20)
    with torch.no_grad():
        for image in images:
            assert torch.equal(network(image), before(image))
    kept = [0, 1, 5, 6, 7]
    assert torch.equal(block.conv1.weight[kept], before.encoders[1][0].conv1.weight[kept])
    features: list[torch.Tensor] = []
    block.conv1.register_forward_hook(lambda _, __, made: features.append(made))
    torch.stack([network(image) for image in images]).square().sum().backward()
    share = (torch.cat(features)[:, 2:5] > 0).float().mean((0, 2, 3))
    assert ((share > 0.3) & (share < 0.7)).all()
    assert (block.conv2.weight.grad[:, 2:5].abs().amax((0, 2, 3)) > 0).all()
    with torch.no_grad():
        block.conv1.bias[2:5] = -100
    frozen = copy.deepcopy(network)
    frozen.encoders.requires_grad_(False)
    revive_silent_channels(frozen, images)
    assert torch.equal(frozen.encoders[1][0].conv1.weight, block.conv1.weight)
    with pytest.raises(ConfigError, match="is for networks of plain residual blocks"):
        revive_silent_channels(create_model("unet16", width=4), images)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon", "rmsprop", "sgd"])
def test_optimizers(name: str) -> None:
    network = nn.Conv2d(3, 3, 1)
    before = network.weight.detach().clone()
    optimizer = build_optimizer(OptimizerConfig(name, lr=0.1, rho=0.8), network)
    network(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, network.weight)
    if name == "rmsprop":
        assert optimizer.param_groups[0]["alpha"] == 0.8


def test_muon_turns_all_directions_of_a_matrix_alike() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(6, 12, 3), nn.Conv2d(12, 12, 3, groups=12), nn.PReLU(12))
    optimizer = build_optimizer(OptimizerConfig("muon", lr=0.01), network)
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter) * torch.rand(len(parameter)).view(
            -1, *[1] * (parameter.ndim - 1)
        )
    optimizer.step()
    moved = {name: before[name] - each.detach() for name, each in network.named_parameters()}
    values = torch.linalg.svdvals(moved["0.weight"].flatten(1)) / (0.2 * math.sqrt(54) * 0.01)
    assert values.min() > 0.4
    assert values.max() < 1.3
    # Others move as with Adam, whose first step is the rate itself, and matrices as far on average.
    for name in ("0.bias", "1.weight", "1.bias", "2.weight"):
        torch.testing.assert_close(moved[name].abs(), torch.full_like(moved[name], 0.01))
    assert moved["0.weight"].square().mean().sqrt() == pytest.approx(0.002, rel=0.2)


def test_muon_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    x = torch.randn(1, 3, 6, 6)

    def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()

    config = OptimizerConfig("muon", lr=0.01, weight_decay=0.1)
    whole, first, second = (build_optimizer(config, networks[index]) for index in (0, 1, 1))
    for _ in range(2):
        step(networks[0], whole)
    step(networks[1], first)
    second.load_state_dict(first.state_dict())
    step(networks[1], second)
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (5, 5)])
def test_orthogonal_matrices(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    close = orthogonal(matrix)
    assert torch.linalg.svdvals(close).max() < 1.3
    assert (close * (u @ v)).sum() / min(shape) > 0.7
    assert torch.equal(orthogonal(torch.zeros(shape)), torch.zeros(shape))


def test_psnr_is_that_of_eight_bits() -> None:
    sharp = torch.full((2, 3, 8, 8), 100 / 255)
    restored = sharp + torch.tensor([4.3, 0.4]).view(2, 1, 1, 1) / 255
    assert psnr_of_images(restored, sharp).tolist() == pytest.approx(
        [10 * math.log10(255**2 / 16), 100.0], abs=1e-3
    )


def test_means_of_psnr_leave_out_what_was_sharp_already() -> None:
    sharp = torch.full((3, 3, 8, 8), 100 / 255)
    blurred = sharp + torch.tensor([0, 4, 16]).view(3, 1, 1, 1) / 255
    restored = sharp + torch.tensor([8, 2, 4]).view(3, 1, 1, 1) / 255
    db = [20 * math.log10(255 / error) for error in (4, 16, 2, 4, 8)]
    # Batches are added up, as devices' sums are.
    sums = psnr_sums(restored[:2], blurred[:2], sharp[:2]) + psnr_sums(
        restored[2:], blurred[2:], sharp[2:]
    )
    assert psnr_means(sums) == pytest.approx(((db[2] + db[3]) / 2, (db[0] + db[1]) / 2), abs=1e-3)
    alike = psnr_sums(restored[:1], blurred[:1], sharp[:1])
    assert psnr_means(alike) == pytest.approx((db[4], 100.0), abs=1e-3)


def test_ssim_is_that_of_scikit_image() -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (3, 40, 50)).astype(np.float32) / 255
    noisy = np.clip(sharp + rng.normal(0, 0.05, sharp.shape), 0, 1).astype(np.float32)
    rounded = np.round(noisy * 255) / 255
    expected = structural_similarity(
        rounded, sharp, channel_axis=0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=1.0,
    )  # fmt: skip
    batch = [torch.from_numpy(image)[None] for image in (noisy, sharp)]
    assert ssim_of_images(*batch).item() == pytest.approx(expected, abs=1e-5)
    assert torch.isnan(ssim_of_images(batch[0][..., :8], batch[1][..., :8])).all()


def test_gradient_penalty_by_hand() -> None:
    class Linear(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x.flatten(1)[:, 0] + 4 * x.flatten(1)[:, 1]

    sharp, restored = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    penalty = gradient_penalty(Linear(), sharp, restored, torch.tensor([0.2, 0.9]))
    assert penalty.item() == pytest.approx((5 - 1) ** 2)


def test_only_the_right_parameters_learn(recipe_file: Callable[..., Path]) -> None:
    path = recipe_file(
        network={"name": "rednet30", "options": {"variant": "wgan"}},
        adversarial={"critic_steps": 3},
        losses={"logcosh": 1.0},
    )
    recipe = read_recipe(path)
    network = create_model("rednet30", variant="wgan")
    module = AdversarialModule(recipe, network, 10, 10)  # type: ignore[arg-type]
    (optimizer, critic_optimizer), _ = module.configure_optimizers()
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {
        id(p) for p in module.network.parameters()
    }
    assert {id(p) for g in critic_optimizer.param_groups for p in g["params"]} == {
        id(p) for p in module.critic.parameters()
    }
    stand_ins = {
        "optimizers": lambda: [optimizer, critic_optimizer],
        "lr_schedulers": list,
        "manual_backward": lambda loss: loss.backward(),
    }
    for name, function in stand_ins.items():
        setattr(module, name, function)

    def snapshot(part: nn.Module) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in part.parameters()]

    def changed(part: nn.Module, before: list[torch.Tensor]) -> list[bool]:
        return [not torch.equal(a, b) for a, b in zip(part.parameters(), before, strict=True)]

    torch.manual_seed(0)
    for index in range(3):
        batch = {key: torch.rand(2, 3, 32, 32) * 2 - 1 for key in ("blurred", "sharp")}
        before = snapshot(module.network), snapshot(module.critic)
        module.training_step(batch, index)
        assert all(changed(module.critic, before[1])[:-1])
        generator = changed(module.network, before[0])
        assert all(generator) if index == 2 else not any(generator)
    assert all(parameter.requires_grad for parameter in module.critic.parameters())


def test_an_average_of_the_weights(recipe_file: Callable[..., Path]) -> None:
    recipe = read_recipe(recipe_file(), ["--trainer.ema", "0.5"])
    network = create_model("unet16", width=4)
    module = RestorationModule(recipe, network, 10, 10)  # type: ignore[arg-type]
    assert module.ema is not None
    first = network.output.weight.detach().clone()
    with torch.no_grad():
        network.output.weight += 1
    module.after_step()
    share = 1 - min(0.5, 2 / 11)
    assert torch.allclose(module.ema.output.weight, first + share, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in module.ema.parameters())


@pytest.mark.parametrize("critic", [None, {"penalty": 10.0}])
def test_the_floor_of_the_loss_falls_in_every_training(
    critic: dict | None, recipe_file: Callable[..., Path]
) -> None:
    changes = {"losses": {"psnr": {"floor": 1e-2, "last_floor": 1e-4}}}
    recipe = read_recipe(recipe_file(**changes, **({"adversarial": critic} if critic else {})))
    kind = AdversarialModule if critic else RestorationModule
    module = kind(recipe, create_model("unet16", width=4), 10, [10])
    image = torch.full((1, 3, 32, 32), 0.5)
    module.network.forward = lambda x: x  # type: ignore[method-assign]
    losses = []
    for module.optimizer_steps in (0, 5, 10):
        losses.append(module.restore_and_compare(image, image)[1].item())
    assert losses == pytest.approx([-20, -30, -40], abs=1e-3)


def test_stages_and_samplers() -> None:
    config = DataConfig(crop=64, batch_size=4, stages=[Stage(0.5, 128, 2)])
    assert [stage_at(config, epoch, 10).crop for epoch in (0, 4, 5, 9)] == [64, 64, 128, 128]
    assert epoch_steps(config, 16, 4, 2) == [2, 2, 4, 4]
    sampler = EpochSampler(10, rank=0, ranks=2, first=3, start=4)
    assert (len(sampler), list(sampler)) == (5, [34, 36, 38])
    sampler.set_epoch(4)
    assert list(sampler) == [40, 42, 44, 46, 48]
    parts = [list(ValidationSampler(5, rank, 2)) for rank in range(2)]
    assert parts == [[0, 2, 4], [1, 3, 5]]


def test_a_stage_keeps_its_processes(
    recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Counted(DataLoader[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self.batch_size)

    monkeypatch.setattr("unblur.training.data.DataLoader", Counted)
    stages = [{"since": 0.5, "crop": 48, "batch_size": 3}]
    train(read_recipe(recipe_file(data={"stages": stages}, trainer={"max_epochs": 4})))
    assert [size for size in made if size != 1] == [2, 3]  # validation's is 1


def test_a_broken_loss_stops_with_the_last_good_checkpoint(
    recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe_file(
        losses={"mse": 1e30},
        optimizer={"name": "sgd", "lr": 1e30},
        schedule={"name": "constant"},
    )
    with pytest.raises(TrainingError, match=r"not a number any more, near step \d+"):
        train(read_recipe(path))
    (folder,) = (tmp_path / "experiments" / "tiny").iterdir()
    for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
        weights = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in weights.values())


def test_what_is_no_number_is_not_the_best(
    recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    nothing = torch.full((1, 3, 16, 16), torch.nan)
    assert psnr_of_images(nothing, torch.rand(1, 3, 16, 16)).isnan().all()
    # From the second epoch on the rate makes infinities of all weights; losses are not looked at.
    path = recipe_file(
        schedule={"name": "step", "every": 1, "factor": 1e38}, trainer={"log_every": 99}
    )
    with pytest.raises(TrainingError, match="not a number any more"):
        train(read_recipe(path))
    (folder,) = (tmp_path / "experiments" / "tiny").iterdir()
    _, _, network = load_checkpoint(folder / "checkpoints" / "best.safetensors")
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_a_damaged_photo_is_told_of_in_one_line(
    recipe_file: Callable[..., Path], photos: Path
) -> None:
    damaged = photos / "p3.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    path = recipe_file(data={"workers": 1, "epoch_length": 60, "split": {"kind": "none"}})
    with pytest.raises(DataError, match=r"p3\.png") as error:
        train(read_recipe(path))
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)


def test_a_full_disk(recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    from unblur.training import checkpoints

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(TrainingError, match=r"No space left on device.*--resume"):
        train(read_recipe(recipe_file()))


def test_a_full_disk_at_the_end(recipe_file: Callable[..., Path]) -> None:
    """Weights are written by another library, with errors of its own."""
    resource = pytest.importorskip("resource")
    recipe = read_recipe(recipe_file(trainer={"max_epochs": 1}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(TrainingError, match="cannot be written"):
            train(recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_run_does_not_lie_in_its_data(recipe_file: Callable[..., Path], photos: Path) -> None:
    with pytest.raises(DataError, match="lies inside the data set"):
        train(read_recipe(recipe_file(output=str(photos / "experiments"))))
    assert not (photos / "experiments").exists()


def test_out_of_memory_says_what_to_lower(
    recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(self: nn.Module, *_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 99 GiB")

    monkeypatch.setattr(RestorationModule, "training_step", starve)
    with pytest.raises(TrainingError, match=r"lower --data\.batch_size"):
        train(read_recipe(recipe_file()))


def test_combinations_that_do_not_work(recipe_file: Callable[..., Path]) -> None:
    path = recipe_file(network={"name": "rednet30", "options": {"variant": "wgan"}}, adversarial={})
    for overrides, message in (
        (["--trainer.accumulate", "2"], "accumulate"),
        (["--adversarial.critic_steps", "0"], "at least 1"),
        (["--adversarial.critic", "critic"], "unknown model 'critic'"),
        (["--schedule.name", "plateau"], "plateau"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(read_recipe(path, overrides))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
def test_two_processes_are_one_with_a_doubled_batch(
    recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe_file(data={"batch_size": 4, "epoch_length": 8, "flips": True})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": free_port()}

    def run(output: str, *more: str) -> Path:
        command = [*UNBLUR, "train", str(path), "--output", str(tmp_path / output), *more]
        # The same steps in both: as many samples to each.
        result = subprocess.run(command, env=environment, capture_output=True, timeout=300)
        assert result.returncode == 0, result.stderr.decode()[-2000:]
        (folder,) = (tmp_path / output).glob("*/*")
        return folder

    script = tmp_path / "main.py"  # Lightning starts the other process from a file
    script.write_text("from unblur.cli import main\nmain()\n")
    one = run("one")
    command = [sys.executable, str(script), "train", str(path), "--output", str(tmp_path / "two"),
               "--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "2",
               "--trainer.accelerator", "cpu"]  # fmt: skip
    result = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    (two,) = (tmp_path / "two").glob("*/*")
    first, second = (json.loads((f / "summary.json").read_text()) for f in (one, two))
    assert first["steps"] == second["steps"] == 8
    assert second["psnr"] == pytest.approx(first["psnr"], abs=0.02)
    assert second["psnr_input"] == pytest.approx(first["psnr_input"], abs=1e-4)
    validations = [
        [row["val/psnr"] for row in read_metrics(f / "metrics.csv") if "val/psnr" in row]
        for f in (one, two)
    ]
    assert validations[1] == pytest.approx(validations[0], abs=0.02)
