"""`unblur train`: from a recipe to a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from unblur.cli.data.arguments import data_errors_for_people
from unblur.cli.errors import fail, network_errors_for_people

# What is not an option of ours is a setting of the recipe, such as --trainer.max_epochs 3.
RECIPE_OPTIONS = {"ignore_unknown_options": True}


@contextmanager
def training_errors_for_people(*also: str) -> Iterator[None]:
    """Turn the errors that tell a user what to do into one line; also: further modules needed."""
    import importlib.util

    for module in ("torch", "pytorch_lightning", "jsonargparse", "kornia", *also):
        if importlib.util.find_spec(module) is None:
            extras = "train,search" if module in also else "train"
            raise fail(f"this needs {module}: pip install 'unblur[{extras}]'", 1)
    from unblur.losses import WeightsError
    from unblur.training.errors import TrainingError

    try:
        with data_errors_for_people(), network_errors_for_people():
            yield
    except (TrainingError, WeightsError) as error:
        raise fail(str(error), 1) from None


def recipe_and_settings(words: list[str]) -> tuple[Path | None, list[str]]:
    """Tell a recipe from settings, which take one value each: --section.key value."""
    recipe, settings = None, []
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            settings.append(word)
            if "=" not in word:
                settings += islice(rest, 1)
        elif word.startswith("-"):
            raise fail(f"no such option: {word}", 2)
        elif recipe is None:
            recipe = Path(word)
        else:
            raise fail(f"one recipe at a time: {recipe} or {word}", 2)
    return recipe, settings


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE.yaml [--section.key VALUE]",
            help="What to train, and how.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes on two cores: small crops, few steps.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the costs; train nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest run of the recipe, or --run.")
    ] = False,
    run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run to go on with.")
    ] = None,
) -> None:
    """Train a network as a recipe says.

    Every setting can be given as --section.key value: --data.train sharp:~/Pictures,
    --trainer.max_epochs 3, --losses.charbonnier 1, --network.options.start_filters 32.
    The run, with its settings, metrics, curves, pictures and checkpoints, lands in
    experiments/NAME/TIME. Interrupted, it goes on exactly with --resume.
    """
    with training_errors_for_people():
        from unblur import training

        recipe, overrides = recipe_and_settings(words or [])
        folder = run
        if recipe is None:
            if folder is None:
                raise fail("name a recipe, or a run to go on with: --run FOLDER --resume", 2)
            plan = training.read_run(folder, overrides)
        else:
            plan = training.read_recipe(recipe, overrides, quickly=quick)
            if resume:
                name = plan.name
                folder = folder or training.newest_run(Path(plan.output).expanduser(), name)
                plan = training.read_run(folder, overrides)
                if plan.name != name:
                    raise fail(f"{folder}: is a run of {plan.name}, not of {name}", 1)
        if folder is not None and not resume:
            raise fail("--run goes together with --resume", 2)
        if dry_run:
            prepared = training.plan_training(plan, begins=folder is None)
            for name, value in training.describe_plan(prepared):
                typer.echo(f"{name:14} {value}")
            return
        finished = training.train(plan, folder)
    typer.echo(f"{finished}")
