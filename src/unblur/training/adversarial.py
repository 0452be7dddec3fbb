"""WGAN-GP: a network trained against sharp images and against a critic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unblur.data.randomness import generator
from unblur.models import RestorationModel, create_model
from unblur.registry import ConfigError
from unblur.training.config import Recipe
from unblur.training.optimizers import build_optimizer, build_schedule
from unblur.training.restoration import RestorationModule


def gradient_penalty(critic: nn.Module, sharp: Tensor, restored: Tensor, share: Tensor) -> Tensor:
    """Mean squared distance from 1 of the critic's gradient norm between two batches.

    share: N numbers in [0, 1], how far each point lies from restored towards sharp.
    After I. Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017.
    """
    weights = share.view(-1, 1, 1, 1)
    between = (weights * sharp + (1 - weights) * restored).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class AdversarialModule(RestorationModule):
    """The critic learns at every batch, the network at every `critic_steps`-th."""

    def __init__(
        self, recipe: Recipe, network: RestorationModel, steps: int, epoch_ends: Sequence[int]
    ) -> None:
        super().__init__(recipe, network, steps, epoch_ends)
        if recipe.adversarial is None:
            raise ConfigError("an adversarial training needs the section `adversarial`")
        if self.loss is None:
            raise ConfigError(
                "an adversarial training needs a loss of images: with "
                f"{' and '.join(self.own_losses)} alone, {recipe.network.name} restores none"
            )
        self.settings = recipe.adversarial
        self.critic = create_model(self.settings.critic)
        self.critic_updates = 0
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        config = self.recipe.optimizer
        critics = replace(config, lr=self.settings.lr or config.lr, full_rate_inputs=None)
        optimizer, critic = (
            build_optimizer(each, network, self.recipe.trainer.precision)
            for each, network in ((config, self.network), (critics, self.critic))
        )
        schedules = [
            build_schedule(self.recipe.schedule, each, self.steps, self.epoch_ends)
            for each in (optimizer, critic)
        ]
        return [optimizer, critic], schedules

    def training_step(self, batch: dict[str, Any], index: int) -> None:  # type: ignore[override]
        optimizer, critic_optimizer = cast(list[Any], self.optimizers())
        blurred, sharp = self.batch_images(batch)
        with torch.no_grad():
            restored = self._run_network(blurred)
        critic_loss = self._critic_loss(sharp, restored)
        self._step(critic_optimizer, critic_loss)
        self.critic_updates += 1
        if self.critic_updates % self.settings.critic_steps == 0:
            self.critic.requires_grad_(False)
            restored, content, terms = self.restore_and_compare(blurred, sharp)
            adversarial = -self.critic(restored).mean()
            loss = content + self.settings.weight * adversarial
            self._step(optimizer, loss)
            self.critic.requires_grad_(True)
            self.after_step()
            for schedule in self.lr_schedulers():  # type: ignore[union-attr]
                schedule.step()
            losses = {"loss": loss, "adversarial": adversarial, "critic": critic_loss}
            values = {name: value.detach() for name, value in losses.items()}
            self.remember(restored, blurred, sharp, values | terms)

    def _critic_loss(self, sharp: Tensor, restored: Tensor) -> Tensor:
        # Drawn from the number of the update, so that a resumed run draws the same.
        numbers = generator(self.recipe.seed, "penalty", self.critic_updates, self.global_rank)
        share = torch.from_numpy(numbers.random(len(sharp), dtype="float32")).to(sharp)
        penalty = gradient_penalty(self.critic, sharp, restored, share)
        distance = self.critic(restored).mean() - self.critic(sharp).mean()
        return distance + self.settings.penalty * penalty

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        optimizer.step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Here gradients of mixed precision are no longer scaled.
        if self.recipe.trainer.gradient_clip is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.recipe.trainer.gradient_clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["critic_updates"] = self.critic_updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.critic_updates = checkpoint["critic_updates"]
