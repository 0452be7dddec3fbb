"""`unblur search`: settings that train better, and how much a seed matters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unblur.cli.errors import fail
from unblur.cli.train import recipe_and_settings, training_errors_for_people


def search(
    words: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE.yaml [--section.key VALUE]", help="What to train."),
    ],
    space: Annotated[
        Path | None, typer.Option(metavar="SPACE.yaml", help="What to vary, and how.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Of each phase of the space.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="A data base that machines share.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Instead: one training for each seed.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes for each training.")] = False,
) -> None:
    """Train a recipe with many settings, or many seeds.

    A space searches with Optuna; trials land in experiments/NAME-search, with a table and plots
    of importance and parallel coordinates. Called again it goes on. --seeds trains with each seed
    of split and weights and tries every model on every validation, with leaks marked. Settings of
    the recipe can be overridden as in `unblur train`.
    """
    recipe, overrides = recipe_and_settings(words)
    if recipe is None:
        raise fail("name a recipe", 2)
    if (space is None) == (seeds is None):
        raise fail("give either --space SPACE.yaml or --seeds 42,123", 2)
    with training_errors_for_people("optuna"):
        from unblur import training
        from unblur.training.search import read_space, seed_study
        from unblur.training.search import search as run_search

        plan = training.read_recipe(recipe, overrides, quickly=quick)
        if seeds is not None:
            try:
                numbers = [int(word) for word in seeds.split(",")]
            except ValueError:
                raise fail(f"--seeds takes numbers such as 42,123, got '{seeds}'", 2) from None
            folder = seed_study(plan, numbers)
            typer.echo((folder / "cross.md").read_text(encoding="utf-8"), nl=False)
        elif space is not None:
            folder = run_search(plan, read_space(space), trials=trials, jobs=jobs, storage=storage)
            typer.echo((folder / "best.json").read_text(encoding="utf-8"))
    typer.echo(f"{folder}")
