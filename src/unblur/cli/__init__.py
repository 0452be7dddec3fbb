"""The `unblur` command: one file per sub-command, each parses, calls and prints."""

from __future__ import annotations

import io
import signal
import sys
from typing import Annotated

import typer

from unblur import __version__
from unblur.cli.benchmark import benchmark
from unblur.cli.bulk import bulk
from unblur.cli.data import data
from unblur.cli.demo import demo
from unblur.cli.evaluate import evaluate
from unblur.cli.export import export
from unblur.cli.info import info
from unblur.cli.models import models
from unblur.cli.run import run
from unblur.cli.search import search
from unblur.cli.serve import serve
from unblur.cli.summary import summary
from unblur.cli.train import RECIPE_OPTIONS, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help wraps paragraphs well, and is quicker to print
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make blurred photos sharp.",
)


def _needs(*extras: str) -> str:
    """The last line of the help of a command that the package alone cannot run."""
    noun = "extra" if len(extras) == 1 else "extras"
    return f"Needs the {noun} {' and '.join(extras)}: pip install 'unblur[{','.join(extras)}]'."


app.command(epilog="Clips need the extra video, HEIC photos heif.")(run)
app.command(epilog=_needs("scale"))(bulk)
app.command()(demo)
app.command()(models)
app.command()(info)
app.command(epilog=_needs("export"))(summary)
app.command(epilog=_needs("export"))(export)
app.command(epilog=_needs("evaluate"))(evaluate)
app.command(epilog=_needs("evaluate"))(benchmark)
app.command(epilog=_needs("web"))(serve)
app.command(epilog=_needs("train"), context_settings=RECIPE_OPTIONS)(train)
app.command(epilog=_needs("train", "search"), context_settings=RECIPE_OPTIONS)(search)
app.add_typer(data, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unblur {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script: exit codes 0, 1 (something failed), 2 (usage), 130 (interrupted)."""
    # Not every terminal has all letters, and a pipe on Windows few.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # Ended by `kill`, a command still removes its temporary files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, which is no error of ours
        sys.exit(0)
