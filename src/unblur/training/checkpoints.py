"""Checkpoints that are whole or not there: written, verified, found again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from unblur.files import atomic_path, sha256_of
from unblur.models.checkpoint import CheckpointError, read_training, save_checkpoint
from unblur.training.data import RestorationData
from unblur.training.errors import TrainingError
from unblur.training.restoration import RestorationModule

_MOST_NAMES = 100_000  # of sequences that weights remember; of more, they do not know any
_KEPT = 2  # newest checkpoints of a run, so that a damaged one has a predecessor
_NAME = re.compile(r"step-(\d+)\.ckpt")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a temporary file and its hash first, then renames."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_path(target) as temporary:
                torch.save(checkpoint, temporary)
                with temporary.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    os.fsync(file.fileno())
                _hash_file(target).write_text(digest, encoding="ascii")
        except (OSError, RuntimeError) as error:  # torch's writer says RuntimeError of a full disk
            _hash_file(target).unlink(missing_ok=True)
            raise TrainingError(
                f"{target}: cannot be written ({getattr(error, 'strerror', None) or error}); "
                "earlier checkpoints are whole, go on with --resume once there is room"
            ) from error


def _hash_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is what was written."""
    try:
        expected = _hash_file(path).read_text(encoding="ascii").strip()
        return sha256_of(path) == expected
    except (OSError, UnicodeDecodeError):
        return False


def newest_whole(folder: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint of a run that is whole, and newer ones that are damaged."""
    found = [
        (int(match[1]), p) for p in folder.glob("*.ckpt") if (match := _NAME.fullmatch(p.name))
    ]
    damaged: list[Path] = []
    for _, path in sorted(found, reverse=True):
        if is_whole(path):
            return path, damaged
        damaged.append(path)
    return None, damaged


def set_aside(damaged: Path) -> None:
    """Rename a damaged checkpoint, so that it does not count among those that are kept."""
    with contextlib.suppress(FileNotFoundError):  # another process of the run did it
        damaged.rename(damaged.with_suffix(".ckpt.damaged"))


class Checkpoints(Checkpoint):
    """Saves what a run needs to go on, and the weights of its best validation.

    folder: of the checkpoints. seconds: between two of them within an epoch. keep_every: epochs
    after which one is kept for good. data: what is trained on. before: the sequences that the
    weights of the beginning had been trained on, None if that is unknown.
    Lightning calls a `Checkpoint` after all other callbacks, so that their state is up to date.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float,
        keep_every: int | None,
        data: RestorationData,
        before: list[str] | None,
    ) -> None:
        self.folder, self.seconds, self.keep_every = folder, seconds, keep_every
        self.data, self.before = data, before
        self.best: float | None = None
        self.best_step: int | None = None
        self._saved = self._began = time.monotonic()
        self._seconds_before = 0.0  # that a run was trained for before it went on
        self._kept: set[str] = set()
        self._batches = 0  # of the current epoch

    @property
    def trained_seconds(self) -> float:
        """Of the whole run, but for what came after the checkpoints that it went on from."""
        return self._seconds_before + time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "best": self.best,
            "best_step": self.best_step,
            "kept": sorted(self._kept),
            "seconds": self.trained_seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
        self._kept = set(state_dict["kept"])
        self.before = state_dict.get("before", [])
        self._seconds_before = state_dict.get("seconds", 0.0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step may have been the best, which was validated after its checkpoint."""
        assert isinstance(pl_module, RestorationModule)  # noqa: S101
        with contextlib.suppress(CheckpointError):
            best = read_training(self.folder / "best.safetensors")
            if best.get("steps") == pl_module.optimizer_steps and best["val_psnr"] is not None:
                self.best, self.best_step = best["val_psnr"], best["steps"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        split = self.data.pairs.split
        checkpoint["split"] = None if split is None else split.digest
        checkpoint["data"] = self.data.pairs.digest
        checkpoint["trained_on"] = self._seen()
        epoch = trainer.current_epoch
        checkpoint["batch_samples"] = self.data.batch_samples(epoch, trainer.world_size)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lightning counts batches, which may be of another size now."""
        loop = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        if checkpoint["progress"][1]:  # otherwise it was written at the end of an epoch
            more = self.data.resumed_batches - loop["ready"]
            loop.update({name: count + more for name, count in loop.items()})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, RestorationModule)  # noqa: S101
        self._batches = batch_idx + 1
        if not pl_module.stepped:
            # Gradients that are being accumulated are not stored. Where time is up, Lightning says
            # so again after the step that they are for.
            trainer.should_stop = False
            return
        epoch_ends = batch_idx + 1 >= trainer.num_training_batches
        due = trainer.strategy.broadcast(time.monotonic() - self._saved > self.seconds)
        if 0 <= trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True
        if (due or trainer.should_stop) and not epoch_ends:
            self._save(trainer, batch_idx + 1)
        if trainer.should_stop or (epoch_ends and trainer.current_epoch + 1 == trainer.max_epochs):
            trainer.check_val_every_n_epoch = 1  # the last weights are validated in any case

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, RestorationModule)  # noqa: S101
        value = trainer.callback_metrics.get("val/psnr")
        if value is None or trainer.sanity_checking:
            return
        pl_module.require_finite()  # before the best weights are replaced
        psnr = float(value)
        if self.best is None or psnr > self.best:
            self.best, self.best_step = psnr, pl_module.optimizer_steps
            if trainer.is_global_zero:
                self._write_weights(pl_module, self.folder / "best.safetensors", psnr)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._batches < trainer.num_training_batches:
            return  # it was stopped within the epoch, and saved then
        epoch = trainer.current_epoch + 1
        if self.keep_every is not None and epoch % self.keep_every == 0:
            assert isinstance(pl_module, RestorationModule)  # noqa: S101
            self._kept.add(_name(pl_module))
        self._save(trainer, None)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, RestorationModule)  # noqa: S101
        if trainer.is_global_zero:
            value = trainer.callback_metrics.get("val/psnr")
            psnr = None if value is None else float(value)
            self._write_weights(pl_module, self.folder / "last.safetensors", psnr)

    def _save(self, trainer: Trainer, batches: int | None) -> None:
        """batches: of the epoch that are done; None at its end."""
        module = trainer.lightning_module
        assert isinstance(module, RestorationModule)  # noqa: S101
        module.require_finite()
        module.progress = (
            (trainer.current_epoch + 1, 0) if batches is None else (trainer.current_epoch, batches)
        )
        path = self.folder / _name(module)
        trainer.save_checkpoint(path, weights_only=False)
        self._saved = time.monotonic()
        if trainer.is_global_zero:
            self._forget_old()

    def _forget_old(self) -> None:
        found = [p for p in self.folder.glob("*.ckpt") if _NAME.fullmatch(p.name)]
        passing = sorted(p for p in found if p.name not in self._kept)
        for path in passing[:-_KEPT]:
            path.unlink(missing_ok=True)
            _hash_file(path).unlink(missing_ok=True)

    def _seen(self) -> list[str] | None:
        """What the weights have been trained on, those that they began with included."""
        if self.before is None:
            return None
        seen = sorted({*self.data.pairs.trained_on, *self.before})
        return None if len(seen) > _MOST_NAMES else seen

    def _write_weights(self, module: RestorationModule, path: Path, psnr: float | None) -> None:
        network, split = module.recipe.network, self.data.pairs.split
        training = {
            "recipe": module.recipe.name,
            "steps": module.optimizer_steps,
            "val_psnr": psnr,
            "split": None if split is None else split.digest,
            # So that an evaluation can tell on its own what of its data was trained on.
            "trained_on": self._seen(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_checkpoint(path, network.name, network.options, module.evaluated, training)
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written ({error.strerror})") from error


def _name(module: RestorationModule) -> str:
    return f"step-{module.optimizer_steps:08}.ckpt"
