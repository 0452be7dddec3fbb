"""`unblur data`: checking, splitting, preparing, blurring, packing and looking at data sets."""

from __future__ import annotations

import typer

from unblur.cli.data.check import check
from unblur.cli.data.prepare import prepare
from unblur.cli.data.preview import preview
from unblur.cli.data.shard import shard
from unblur.cli.data.split import leak, split
from unblur.cli.data.synthesize import blurs, synthesize

data = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check, split, prepare, blur, pack and look at data sets.",
)
for command in (check, preview, split, leak, prepare, synthesize, blurs, shard):
    data.command()(command)
