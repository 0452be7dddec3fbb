"""What a recipe can say: every setting of a training, typed, with its default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from unblur.registry import ConfigError


@dataclass
class NetworkConfig:
    """Which network, and how it is run.

    name: an architecture (docs/models.md lists them). options: its arguments.
    weights: a checkpoint, model file or shipped model to start from; a larger unshuffle_unet
        or wiener_unet grows out of it. revive: hidden channels of residual blocks that have fallen
        silent, whose ReLU passes nothing on any more, begin anew. frozen: top-level parts that keep
        the weights they begin with. max_parameters: a budget; a larger network is refused.
    compile: use torch.compile. channels_last: memory format, often quicker on recent hardware.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    revive: bool = False
    frozen: list[str] = field(default_factory=list)
    max_parameters: int | None = None
    compile: bool = False
    channels_last: bool = False


@dataclass
class SplitConfig:
    """What validates. kind: as in `unblur data split`, or `none` to validate on what is trained on.

    file: a split file, instead of all the rest.
    """

    kind: Literal["original", "sequence", "frames", "none"] = "sequence"
    seed: int = 42
    ratio: float = 0.85
    by: Literal["sequences", "images"] = "sequences"
    frames: list[int] | None = None
    file: str | None = None


@dataclass
class Stage:
    """A part of the training with its own crops: from a share (0…1) of the epochs on."""

    since: float
    crop: int
    batch_size: int


@dataclass
class DataConfig:
    """What is trained on and how it is cut.

    train: `layout:path`, or a list of parts as in a `mix` file. root: what relative paths in train
        and val start from. val: another data set, or list, to validate on, instead of a split.
    subset: only the pairs of this subset of train, such as train. val_subset: of val.
    blur: preset, file, spec or list of steps for images without a blurred partner. val_blur: for
        validation; the same by default. reblur: blur the sharp images of pairs too.
    resize: height and width of all images. patches: rows and columns to cut each into.
    crop: side of training crops, null for whole images. val_crop: the same by default.
    flips, rotations, jitter, scale: augmentation (`data.Augmentation`).
    batch_size: per device. epoch_length: samples in an epoch; one of each image by default.
    val_length: at most so many validation images, evenly spread.
    stages: progressive crops. workers: processes that make samples.
    cache: a folder for decoded images, as many as its disk has room for but for a GiB; without,
        each process keeps a GiB of them in memory.
    """

    train: str | list[dict[str, Any]] = ""
    root: str = "."
    val: str | list[dict[str, Any]] | None = None
    subset: str | None = None
    val_subset: str | None = None
    split: SplitConfig = field(default_factory=SplitConfig)
    blur: str | list[Any] | None = None
    val_blur: str | list[Any] | None = None
    reblur: bool = False
    resize: list[int] | None = None
    patches: list[int] | None = None
    crop: int | None = 256
    val_crop: int | None = None
    flips: bool = True
    rotations: bool = True
    jitter: float = 0.0
    scale: list[float] | float = 1.0
    batch_size: int = 8
    epoch_length: int | None = None
    val_length: int | None = None
    stages: list[Stage] = field(default_factory=list)
    workers: int = 2
    cache: str | None = None

    def __post_init__(self) -> None:
        for name in ("resize", "patches"):
            values = getattr(self, name)
            if values is not None and (len(values) != 2 or min(values) < 1):
                raise ConfigError(f"data.{name} takes two positive numbers, got {values}")


@dataclass
class OptimizerConfig:
    """name: adam, adamw, muon, rmsprop or sgd. rho is RMSprop's smoothing, momentum is SGD's.

    Weight decay leaves biases and normalisations out.
    full_rate_inputs: a layer whose outputs are sums of more inputs learns more slowly, at
        lr · full_rate_inputs / inputs. Adam moves every weight by about the rate, so what wide
        layers put out moves further; at the rate that suits narrow ones their ReLUs fall silent
        for good (G. Yang et al., "Tensor Programs V", NeurIPS 2021). Critics learn at the full one.
    """

    name: str = "adamw"
    lr: float = 2e-4
    full_rate_inputs: int | None = None
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    rho: float = 0.9
    momentum: float = 0.9


@dataclass
class ScheduleConfig:
    """How the learning rate changes.

    name: constant, cosine (to final_lr), plateau (× factor after patience validations without a
        better PSNR), exponential (× factor each epoch from epoch `start` on), step (× factor
        every `every` epochs) or one_cycle (up to lr and down to final_lr).
    warmup: steps at the beginning in which it rises from nearly 0; not for plateau and one_cycle.
    """

    name: str = "cosine"
    final_lr: float = 1e-6
    warmup: int = 0
    factor: float = 0.5
    patience: int = 5
    start: int = 0
    every: int = 30


@dataclass
class AdversarialConfig:
    """WGAN-GP. critic: its architecture. weight: of −critic(restored) beside the losses.

    penalty: of the critic's gradient. critic_steps: for each step of the network.
    lr: of the critic's optimizer, which is otherwise the network's; that one's by default.
    """

    critic: str = "patchgan_critic"
    weight: float = 1e-4
    penalty: float = 10.0
    critic_steps: int = 5
    lr: float | None = None


@dataclass
class TrainerConfig:
    """How long, on what, and how often things happen.

    max_epochs, max_steps, max_minutes: whichever comes first ends the training.
    accelerator, devices, num_nodes, strategy, precision, deterministic: as Lightning's Trainer.
    gradient_clip: largest norm of the gradient. accumulate: batches to a step.
    ema: decay of an average of the weights, which is then validated and kept; null for none.
    early_stopping: validations without a better PSNR after which it ends.
    validate_every, picture_every, keep_every: epochs. checkpoint_seconds: between two checkpoints
        within epochs. log_every: steps between two rows of metrics.
    """

    max_epochs: int = 100
    max_steps: int | None = None
    max_minutes: float | None = None
    accelerator: str = "auto"
    devices: int | list[int] | str = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    deterministic: bool = False
    tf32: bool = True
    sync_batchnorm: bool = False
    gradient_clip: float | None = None
    accumulate: int = 1
    ema: float | None = None
    early_stopping: int | None = None
    validate_every: int = 1
    picture_every: int = 10
    pictures: int = 4
    keep_every: int | None = None
    checkpoint_seconds: float = 120.0
    log_every: int = 10


@dataclass
class Recipe:
    """A whole training.

    name: of its folder. seed: of the network's first weights and of every sample.
    losses: {name: weight} or {name: {weight: …, option: …}}.
    output: where the folders of runs are made. tensorboard, wandb: also log there.
    """

    name: str
    network: NetworkConfig
    data: DataConfig
    losses: dict[str, Any]
    seed: int = 42
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    adversarial: AdversarialConfig | None = None
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    output: str = "experiments"
    tensorboard: bool = True
    wandb: bool = False
