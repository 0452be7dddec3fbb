"""Training a restoration network against sharp images: the Lightning module."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics.functional.image import structural_similarity_index_measure

from unblur.inference.card import ModelError
from unblur.inference.models import find_model
from unblur.inference.weights import load_network, sequences_seen
from unblur.losses import MultiScaleLoss, WeightedLoss, weight_and_options
from unblur.metrics import BEST_PSNR
from unblur.models import RestorationModel, create_model
from unblur.models.analysis import count_parameters
from unblur.models.base import MultiScaleModel
from unblur.registry import ConfigError, unknown
from unblur.training.config import NetworkConfig, Recipe
from unblur.training.errors import TrainingError
from unblur.training.optimizers import build_optimizer, build_schedule


def build_network(config: NetworkConfig) -> RestorationModel:
    """The network of a recipe, from its weights if it names some. Raises ConfigError."""
    network = create_model(config.name, **config.options)
    if not isinstance(network, RestorationModel):
        raise ConfigError(f"{config.name} does not restore images, so it is not trained like this")
    if config.weights is not None:
        name, options, trained = _trained_network(config.weights)
        if name != config.name and name not in network.begins_with:
            raise ConfigError(f"{config.weights}: holds a {name}, the recipe has a {config.name}")
        try:
            network.begin_with(trained)
        except ConfigError as error:
            raise ConfigError(f"{config.weights}: {error} ({options})") from error
    for section in config.frozen:
        _freeze(network, section)
    if not any(weights.requires_grad for weights in network.parameters()):
        raise ConfigError("network.frozen: nothing of the network is left to be trained")
    parameters = count_parameters(network)
    if config.max_parameters is not None and parameters > config.max_parameters:
        raise ConfigError(
            f"{config.name} has {parameters:,} parameters, more than the budget of "
            f"{config.max_parameters:,} (network.max_parameters)"
        )
    return network


def _freeze(network: RestorationModel, section: str) -> None:
    """Keep a part, named as `unblur summary` does, as it is. Raises ConfigError."""
    try:
        part = network.get_submodule(section)
    except AttributeError:
        sections = dict(network.named_children())
        raise unknown("section of network.frozen", section, sections) from None
    part.requires_grad_(False)
    for module in part.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # its running statistics stay, too


def _trained_network(weights: str) -> tuple[str, dict[str, Any], RestorationModel]:
    """(architecture, options, network) of a shipped model's name or a file."""
    try:
        path = find_model(str(Path(weights).expanduser()))
        name, options, network = load_network(path)
    except ModelError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(network, RestorationModel):
        raise ConfigError(f"{weights}: holds a {name}, which does not restore images")
    return name, options, network


def trained_on_before(weights: str | None) -> list[str] | None:
    """The sequences that the weights a training begins with have seen; None if that is unknown."""
    if weights is None:
        return []
    return sequences_seen(find_model(str(Path(weights).expanduser())))


def psnr_of_images(restored: Tensor, sharp: Tensor) -> Tensor:
    """PSNR in dB of each image N×3×H×W in [0, 1], clamped and rounded to 8 bits; 100 at most.

    NaN where an image has values that are no numbers.
    """
    first, second = (image.float().clamp(0, 1).mul(255).round() for image in (restored, sharp))
    error = (first - second).square().mean(dim=(1, 2, 3))
    least = 255**2 * 10 ** (-BEST_PSNR / 10)
    values = 10 * torch.log10(255**2 / error.clamp(min=least))
    return values.masked_fill(error <= least, BEST_PSNR)


def psnr_sums(restored: Tensor, blurred: Tensor, sharp: Tensor) -> Tensor:
    """Sums over the images of a batch that `psnr_means` makes means of; they can be added up.

    PSNR restored and blurred and the number of images, of those that are not already identical to
    the sharp one, and the same three of all.
    """
    values = torch.stack([psnr_of_images(image, sharp) for image in (restored, blurred)])
    values = torch.cat([values, torch.ones_like(values[:1])])
    different = values[1] < BEST_PSNR
    return torch.cat([values[:, different].sum(dim=1), values.sum(dim=1)])


def psnr_means(sums: Tensor) -> tuple[float, float]:
    """(restored, blurred): without identical images, as `unblur evaluate` has it; if all are, 100.

    The PSNR of identical images has no bound: a few of them would outweigh all others.
    """
    restored, blurred, count = sums[:3].tolist() if sums[2] else sums[3:].tolist()
    return restored / count, blurred / count


def ssim_of_images(restored: Tensor, sharp: Tensor) -> Tensor:
    """SSIM of each image N×3×H×W in [0, 1], clamped and rounded to 8 bits.

    Per channel with an 11×11 Gaussian window of σ 1.5; NaN for sides below 11 pixels.
    """
    if min(sharp.shape[-2:]) < 11:
        return torch.full((len(sharp),), float("nan"), device=sharp.device)
    first, second = (i.float().clamp(0, 1).mul(255).round() / 255 for i in (restored, sharp))
    # Variances are small differences of large numbers: not in the half precision of a training.
    with torch.autocast(sharp.device.type, enabled=False):
        _, everywhere = structural_similarity_index_measure(
            first, second, data_range=1.0, reduction="none", return_full_image=True
        )
    # Only where the window fits, as scikit-image and `unblur evaluate` have it.
    return everywhere[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))


def _weight_of_own(name: str, value: Any) -> float:
    weight, options = weight_and_options(name, value)
    if options:
        raise ConfigError(f"the loss {name} has no options but weight, got {', '.join(options)}")
    return weight


class RestorationModule(LightningModule):
    """A network, its losses, its optimizer and its validation.

    steps: of the optimizer in the whole training. epoch_ends: of them, at the end of each epoch.
    """

    _run_network: Any

    def __init__(
        self, recipe: Recipe, network: RestorationModel, steps: int, epoch_ends: Sequence[int]
    ) -> None:
        super().__init__()
        self.strict_loading = False  # for what `_trained` leaves out
        self.recipe = recipe
        self.network = network
        self.steps, self.epoch_ends = steps, epoch_ends
        losses = dict(recipe.losses)
        own = {name: losses.pop(name, 0) for name in network.own_losses}
        self.own_losses = {
            name: weight for name, value in own.items() if (weight := _weight_of_own(name, value))
        }
        # With nothing but a network's own losses images are not restored.
        self.loss: WeightedLoss | None = None
        restores = any(weight_and_options(name, value)[0] for name, value in losses.items())
        if restores or not self.own_losses:
            self.loss = WeightedLoss(losses, network.value_range)
        self.ema: RestorationModel | None = None
        self.begin_average()
        if recipe.network.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer_steps = 0
        self.stepped = False  # whether the current batch ended in a step of the optimizer
        # The epoch and the batches of it that a checkpoint has seen.
        self.progress = (0, 0)
        self.terms: dict[str, Tensor] = {}
        self._broken: Tensor | bool = False
        if recipe.network.compile and (self.own_losses or isinstance(network, MultiScaleModel)):
            raise ConfigError(
                f"network.compile: {recipe.network.name} is trained by more than what it returns, "
                "which would not be compiled; leave it out"
            )
        # Not an attribute like others, which would make it a second part of this module.
        compiled = torch.compile(self.network) if recipe.network.compile else self.network
        self.__dict__["_run_network"] = compiled
        self.plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def begin_average(self) -> None:
        """Begin the average of the weights, where the recipe has one, with what they are now."""
        if self.recipe.trainer.ema is not None:
            self.ema = copy.deepcopy(self.network).requires_grad_(False).eval()

    @property
    def evaluated(self) -> RestorationModel:
        """The weights that are validated and kept: the average, where there is one."""
        return self.network if self.ema is None else self.ema

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = build_optimizer(recipe.optimizer, self.network, recipe.trainer.precision)
        schedule = build_schedule(recipe.schedule, optimizer, self.steps, self.epoch_ends)
        if isinstance(schedule, ReduceLROnPlateau):
            # Stepped after each validation, before the checkpoint that follows it.
            self.plateau = schedule
            if self._plateau_state is not None:
                schedule.load_state_dict(self._plateau_state)
            return optimizer
        settings = {"scheduler": schedule, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def restore_and_compare(
        self, blurred: Tensor, sharp: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(restored, loss, terms) of a batch."""
        if self.loss is not None:
            self.loss.set_progress(min(1.0, self.optimizer_steps / max(1, self.steps)))
        if self.own_losses:
            restores = self.loss is not None
            restored, own = self.network.restore_and_compare(blurred, sharp, restores)
            images = restored, sharp, blurred
            loss, terms = self.loss(*images) if self.loss is not None else (0.0, {})
            for name, weight in self.own_losses.items():
                loss, terms = loss + weight * own[name], {**terms, name: own[name].detach()}
            return restored, loss, terms
        assert self.loss is not None  # noqa: S101
        if isinstance(self.network, MultiScaleModel):
            scales = self.network.scales(self.network.padded(blurred))
            others = self.network.padded(sharp), self.network.padded(blurred)
            loss, terms = MultiScaleLoss(self.loss)(scales, *others)
            return scales[-1][..., : sharp.shape[-2], : sharp.shape[-1]], loss, terms
        restored = self._run_network(blurred)
        loss, terms = self.loss(restored, sharp, blurred)
        return restored, loss, terms

    def batch_images(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        blurred, sharp = batch["blurred"], batch["sharp"]
        if self.recipe.network.channels_last:
            blurred = blurred.contiguous(memory_format=torch.channels_last)
        return blurred, sharp

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        blurred, sharp = self.batch_images(batch)
        restored, loss, terms = self.restore_and_compare(blurred, sharp)
        if not loss.requires_grad:
            raise TrainingError("network.frozen: the losses do not depend on what is not frozen")
        self.remember(restored, blurred, sharp, {"loss": loss.detach(), **terms})
        return loss

    def require_finite(self) -> None:
        """Raise TrainingError when a loss or an output was no number. Waits for the device."""
        if bool(self._broken):
            raise TrainingError(
                "the loss or what the network returns is not a number any more, near step "
                f"{self.optimizer_steps}; the checkpoints before are good: begin a new run from "
                "best.safetensors (--network.weights) with a lower --optimizer.lr or "
                "--trainer.gradient_clip 1"
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.stepped = False

    def remember(
        self, restored: Tensor, blurred: Tensor, sharp: Tensor, terms: dict[str, Tensor]
    ) -> None:
        """Keep what the metrics file and the console show; numbers are fetched only then."""
        self.terms = terms
        for value in terms.values():
            self._broken = self._broken | ~torch.isfinite(value)
        self._shown = (restored.detach(), blurred, sharp)

    def shown_metrics(self) -> dict[str, float]:
        """Loss terms, PSNR of the batch and its gain over the input. Waits for the device."""
        restored, blurred, sharp = (self.to_unit(image) for image in self._shown)
        after, before = psnr_means(psnr_sums(restored, blurred, sharp))
        values = {f"train/{name}": float(value) for name, value in self.terms.items()}
        return {**values, "train/psnr": after, "train/gain": after - before}

    def to_unit(self, image: Tensor) -> Tensor:
        """The network's value range → [0, 1]."""
        low, high = self.network.value_range
        return (image - low) / (high - low)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.after_step()

    def after_step(self) -> None:
        """Count a step of the network's optimizer and update the average of its weights."""
        self.optimizer_steps += 1
        self.stepped = True
        if self.ema is None or self.recipe.trainer.ema is None:
            return
        # A young average forgets its beginning quickly.
        step = self.optimizer_steps
        decay = min(self.recipe.trainer.ema, (1 + step) / (10 + step))
        averages, values = self.ema.state_dict().values(), self.network.state_dict().values()
        with torch.no_grad():
            for average, value in zip(averages, values, strict=True):
                if average.dtype.is_floating_point:
                    average.lerp_(value, 1 - decay)
                else:
                    average.copy_(value)

    def on_validation_epoch_start(self) -> None:
        self._val = torch.zeros(8, device=self.device)

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        blurred, sharp = self.batch_images(batch)
        restored = self.evaluated(blurred)
        self._broken = self._broken | ~torch.isfinite(restored).all()
        restored, blurred, sharp = (self.to_unit(i) for i in (restored, blurred, sharp))
        place = index * self.trainer.world_size + self.trainer.global_rank
        samples = len(self.trainer.datamodule.val_samples)  # type: ignore[attr-defined]
        if place < samples:  # the others are repetitions that fill up the last ranks
            ssim = [ssim_of_images(image, sharp).sum() for image in (restored, blurred)]
            self._val += torch.cat([psnr_sums(restored, blurred, sharp), torch.stack(ssim)])

    def on_validation_epoch_end(self) -> None:
        total = self.trainer.strategy.reduce(self._val, reduce_op="sum")
        assert isinstance(total, Tensor)  # noqa: S101
        psnr, psnr_input = psnr_means(total[:6])
        ssim, ssim_input = (total[6:] / total[5]).tolist()
        self.log("val/psnr", psnr)
        self.log("val/psnr_input", psnr_input)
        self.log("val/gain", psnr - psnr_input)
        self.log("val/ssim", ssim)
        self.log("val/ssim_input", ssim_input)
        if self.plateau is not None:
            self.plateau.step(psnr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = _trained(checkpoint["state_dict"])
        checkpoint["architecture"] = self.recipe.network.name
        checkpoint["options"] = self.recipe.network.options
        checkpoint["weights_prefix"] = "network." if self.ema is None else "ema."
        checkpoint["optimizer_steps"] = self.optimizer_steps
        checkpoint["progress"] = list(self.progress)
        checkpoint["plateau"] = None if self.plateau is None else self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("architecture") != self.recipe.network.name:
            raise TrainingError(
                f"the checkpoint holds a {checkpoint.get('architecture')}, "
                f"the recipe has a {self.recipe.network.name}"
            )
        averaged = checkpoint["weights_prefix"] == "ema."
        if averaged != (self.ema is not None):
            raise TrainingError(
                f"the run began {'with' if averaged else 'without'} trainer.ema, and can only go "
                "on so; begin a new one from its weights with --network.weights"
            )
        if checkpoint["state_dict"].keys() != _trained(self.state_dict()).keys():
            raise TrainingError("the checkpoint is of a training with other networks or options")
        self.optimizer_steps = checkpoint["optimizer_steps"]
        self.progress = tuple(checkpoint["progress"])
        self._plateau_state = checkpoint["plateau"]  # optimizers are not there yet


def _trained(state: dict[str, Any]) -> dict[str, Any]:
    """Without the frozen features of perceptual losses, which come from a file of their own."""
    return {key: value for key, value in state.items() if not key.startswith("loss.")}
