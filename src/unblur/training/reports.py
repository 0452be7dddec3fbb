"""What a run leaves to be looked at: metrics, curves, pictures, lines on the console."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from pytorch_lightning import Callback, LightningModule, Trainer

from unblur.data.sources import Pixels
from unblur.files import atomic_path, file_name, write_table
from unblur.training.data import RestorationData
from unblur.training.restoration import RestorationModule

Row = dict[str, float]
_TITLES = ("blurred", "restored", "sharp")
_COUNTED = ("step", "epoch")  # a resumed run writes them as it found them
_STRIP = 256  # largest side of a picture in a strip
_SECONDS_BETWEEN_LINES = 10


class Metrics(Callback):
    """metrics.csv: a row every few steps and one after every validation; also to the loggers.

    Rows after the step that a run is resumed at are dropped, as they are made again.
    listeners: called with each row.
    """

    def __init__(self, path: Path, every: int, listeners: list[Callable[[Row], None]]) -> None:
        self.path, self.every, self.listeners = path, every, listeners
        self.rows: list[Row] = []
        self._columns: dict[str, None] = {}  # in order
        self._before: tuple[float, int] | None = None
        self._samples = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, RestorationModule)  # noqa: S101
        if self.path.is_file():
            kept = [r for r in read_metrics(self.path) if r["step"] <= pl_module.optimizer_steps]
            self.rows = kept
            self._columns = dict.fromkeys(name for row in kept for name in row)
        if trainer.is_global_zero:
            write_table(self.path, self.rows)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, RestorationModule)  # noqa: S101
        self._samples += len(batch["sharp"]) * trainer.world_size
        if not pl_module.stepped or pl_module.optimizer_steps % self.every:
            return
        pl_module.require_finite()
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        row = self._row(trainer, pl_module) | pl_module.shown_metrics()
        if self._before is not None:
            row["samples_per_second"] = (self._samples - self._before[1]) / (now - self._before[0])
        self._before = (now, self._samples)
        self._add(trainer, row)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, RestorationModule)  # noqa: S101
        self._before = None  # its time is not the training's
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        values = {name: float(metrics[name]) for name in metrics if name.startswith("val/")}
        self._add(trainer, self._row(trainer, pl_module) | values)

    def _row(self, trainer: Trainer, module: RestorationModule) -> Row:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        return {"step": module.optimizer_steps, "epoch": trainer.current_epoch, "lr": rate}

    def _add(self, trainer: Trainer, row: Row) -> None:
        self.rows.append(row)
        if row.keys() <= self._columns.keys():
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, list(self._columns)).writerow(row)
        else:
            self._columns |= dict.fromkeys(row)
            write_table(self.path, self.rows)
        for logger in trainer.loggers:
            values = {k: v for k, v in row.items() if k not in ("step", "epoch")}
            logger.log_metrics(values, int(row["step"]))
        for listener in self.listeners:
            listener(row)


def read_metrics(path: Path) -> list[Row]:
    """The rows of a metrics.csv; a last line that was cut off is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = []
        for values in csv.DictReader(file):
            try:
                row: Row = {
                    name: int(float(value)) if name in _COUNTED else float(value)
                    for name, value in values.items()
                    if value
                }
            except (ValueError, TypeError):
                continue
            if "step" in row and None not in values:
                rows.append(row)
    return rows


class Pictures(Callback):
    """Strips of blurred, restored and sharp validation images, as the training goes on."""

    def __init__(self, folder: Path, every: int, count: int) -> None:
        self.folder, self.every, self.count = folder, every, count

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        last = trainer.max_epochs is not None and epoch == trainer.max_epochs
        if (
            trainer.is_global_zero
            and self.count
            and (epoch % self.every == 0 or epoch == 1 or last)
        ):
            self._draw(trainer, pl_module, f"epoch-{epoch:05}.png")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same images once more, each as a file of its own and of its full size."""
        if not trainer.is_global_zero or not self.count:
            return
        for name, images in self._images(trainer, pl_module):
            place = self.folder / "last" / file_name(name.replace("/", "_"))
            place.mkdir(parents=True, exist_ok=True)
            for title, image in zip(_TITLES, images, strict=True):
                with atomic_path(place / f"{title}.png") as temporary:
                    Image.fromarray(image).save(temporary, "PNG")

    def _draw(self, trainer: Trainer, module: LightningModule, name: str) -> None:
        rows = [[_picture(i) for i in images] for _, images in self._images(trainer, module)]
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.folder / name) as temporary:
            strips(rows, _TITLES).save(temporary, "PNG")

    def _images(
        self, trainer: Trainer, module: LightningModule
    ) -> Iterator[tuple[str, list[Pixels]]]:
        """Name, blurred, restored and sharp pixels of a few validation images."""
        assert isinstance(module, RestorationModule)  # noqa: S101
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RestorationData)  # noqa: S101
        samples = data.val_samples
        count = min(self.count, len(samples))
        network = module.evaluated
        training = network.training
        for index in np.linspace(0, len(samples) - 1, count).round().astype(int):
            sample = samples[int(index)]
            blurred = torch.from_numpy(sample["blurred"])[None].to(module.device)
            with torch.no_grad():
                restored = network.eval()(blurred)
            images = [blurred, restored, torch.from_numpy(sample["sharp"])[None]]
            yield sample["name"], [_pixels(module.to_unit(image)) for image in images]
        network.train(training)


def _pixels(image: torch.Tensor) -> Pixels:
    return image[0].float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def _picture(pixels: Pixels) -> Image.Image:
    picture = Image.fromarray(pixels)
    if max(picture.size) > _STRIP:
        picture.thumbnail((_STRIP, _STRIP), Image.Resampling.LANCZOS)
    elif max(picture.size) < _STRIP // 2:
        zoom = _STRIP // 2 // max(picture.size) or 1
        size = (picture.width * zoom, picture.height * zoom)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    return picture


def strips(rows: list[list[Image.Image]], titles: tuple[str, ...]) -> Image.Image:
    """Pictures in rows under a line of titles."""
    gap, head = 4, 20
    width = max(picture.width for row in rows for picture in row) + gap
    heights = [max(picture.height for picture in row) + gap for row in rows]
    sheet = Image.new("RGB", (width * len(titles) + gap, head + sum(heights)), (24, 24, 26))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, title in enumerate(titles):
        draw.text((gap + column * width, 3), title, font=font)
    top = head
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (gap + column * width, top))
        top += height
    return sheet


def plot_curves(rows: list[Row], path: Path) -> None:
    """Loss (linear and log10), PSNR of training, validation and input, and learning rate.

    What is measured on single batches is drawn faintly, with its mean over a fiftieth of them. A
    loss that is not positive has no logarithm: the gain over the blurred input stands there, that
    of validations alone once there are several, as batches differ by more than a training brings.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    def series(name: str) -> tuple[list[float], list[float]]:
        points = [(row["step"], row[name]) for row in rows if name in row]
        return [x for x, _ in points], [y for _, y in points]

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), constrained_layout=True)

    def noisy(axis: Any, steps: list[float], values: list[float], label: str = "") -> None:
        (line,) = axis.plot(steps, values, linewidth=0.6, alpha=0.3)
        width = max(1, len(values) // 50)
        means = np.convolve(values, np.full(width, 1 / width), "valid") if values else values
        axis.plot(steps[width // 2 :][: len(means)], means, color=line.get_color(), label=label)

    steps, losses = series("train/loss")
    noisy(axes[0, 0], steps, losses)
    axes[0, 0].set_title("training loss")
    if min(losses, default=0) > 0:
        noisy(axes[0, 1], steps, [math.log10(loss) for loss in losses])
        axes[0, 1].set_title("log10 of the training loss")
    else:
        measured, gains = series("val/gain")
        if len(gains) < 3:
            noisy(axes[0, 1], *series("train/gain"), "training batch")
        axes[0, 1].plot(measured, gains, marker=".", color="C1", label="validation")
        axes[0, 1].set_title("gain over the blurred input in dB")
        axes[0, 1].legend()
    if series("train/psnr")[0]:
        noisy(axes[1, 0], *series("train/psnr"), "training batch")
    for name, label in (("val/psnr", "validation"), ("val/psnr_input", "blurred input")):
        if series(name)[0]:
            axes[1, 0].plot(*series(name), label=label, linewidth=1, marker=".")
    axes[1, 0].set_title("PSNR in dB")
    axes[1, 0].legend()
    axes[1, 1].plot(*series("lr"), linewidth=1)
    axes[1, 1].set_title("learning rate")
    for axis in axes.flat:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


class Curves(Callback):
    """curves.png, drawn again now and then."""

    def __init__(self, path: Path, metrics: Metrics, every: int) -> None:
        self.path, self.metrics, self.every = path, metrics, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and (trainer.current_epoch + 1) % self.every == 0:
            plot_curves(self.metrics.rows, self.path)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            plot_curves(self.metrics.rows, self.path)


class Console:
    """Rows of metrics as a bar on a terminal, as a line now and then elsewhere."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._last = 0.0
        self._began: tuple[float, float] | None = None
        self._val = ""
        self._bar: Any = None

    def __enter__(self) -> Console:
        if sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=RichConsole(stderr=True),
            )
            self._task = self._bar.add_task("", total=self.steps)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, row: Row) -> None:
        """One row of metrics."""
        now = time.monotonic()
        step = int(row["step"])
        if "val/psnr" in row:
            self._val = f"val {row['val/psnr']:.2f} dB ({row['val/gain']:+z.2f})"
            self.say(f"epoch {int(row['epoch']) + 1}, step {step}: {self._val}")
            return
        if self._began is None:
            self._began = (now, step)
        text = describe_row(row)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=f"{text}  {self._val}")
        elif now - self._last > _SECONDS_BETWEEN_LINES:
            self._last = now
            done = step - self._began[1]
            left = (now - self._began[0]) / done * (self.steps - step) if done else 0
            remaining = f"  {left / 60:.0f} min left" if left else ""
            self.say(f"step {step}/{self.steps}  {text}{remaining}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def describe_row(row: Row) -> str:
    """loss 0.0123 (mse 0.01 perceptual 0.2)  PSNR 28.31 (+1.20)  lr 2.0e-04  41 samples/s"""
    terms = {
        name.removeprefix("train/"): value
        for name, value in row.items()
        if name.startswith("train/") and name not in ("train/psnr", "train/gain")
    }
    loss = terms.pop("loss")
    text = f"loss {loss:.5g}"
    if len(terms) > 1:
        text += f" ({', '.join(f'{name} {value:.4g}' for name, value in terms.items())})"
    text += f"  PSNR {row['train/psnr']:.2f} ({row['train/gain']:+z.2f})  lr {row['lr']:.1e}"
    if "samples_per_second" in row:
        text += f"  {row['samples_per_second']:.1f} samples/s"
    return text
