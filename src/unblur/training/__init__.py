"""Training: recipes, the Lightning modules that run them, and what a run leaves behind."""

from unblur.training.config import Recipe
from unblur.training.errors import TrainingError
from unblur.training.recipe import quick, read_recipe, write_recipe
from unblur.training.run import describe_plan, newest_run, plan_training, read_run, train

__all__ = [
    "Recipe",
    "TrainingError",
    "describe_plan",
    "newest_run",
    "plan_training",
    "quick",
    "read_recipe",
    "read_run",
    "train",
    "write_recipe",
]
