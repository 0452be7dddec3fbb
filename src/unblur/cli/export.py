"""`unblur export`: a network → one `.onnx` file that `unblur run` uses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unblur.cli.errors import fail, network_errors_for_people
from unblur.cli.networks import NetworkArgument, SetOption, as_file, build_network
from unblur.cli.progress import progress_bar
from unblur.files import sha256_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unblur.data import Pair


def export(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .onnx file to write.")],
    settings: SetOption = None,
    name: Annotated[str | None, typer.Option(help="The model's name. Default: the file's.")] = None,
    card: Annotated[
        Path | None,
        typer.Option(help="A JSON file with card fields: description, licence, training_data, …"),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="metrics.json",
            help="What `unblur evaluate` measured of it, for its card.",
        ),
    ] = None,
    stored: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="How weights are stored: float32, float16 (half the size) or int8 (a quarter), "
            "at the same speed.",
        ),
    ] = "float32",
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="PHOTOS",
            help="Compute in int8, too, in ranges that a few of these photos (a folder or data "
            "set) show, blurred as for training: on CPUs plain networks are 1.2 to 1.5 times as "
            "fast, those with Wiener filters hardly.",
        ),
    ] = None,
    prune: Annotated[
        str | None,
        typer.Option(
            metavar="PHOTOS",
            help="Leave out channels that add next to nothing to 200 of these photos (a folder or "
            "data set), blurred as for training: smaller, quicker, and for such photos as good.",
        ),
    ] = None,
    prune_share: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.5,
            help="The share of a block's variance that --prune may leave out, 0.01 unless given. "
            "From about 0.05 on train the file further.",
        ),
    ] = None,
    average: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Take the mean of the weights and these, of the same network trained otherwise "
            "from the same beginning: often better than each. May be repeated.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a network as an .onnx model file.

    The file carries its card, and is checked against PyTorch on three odd sizes first.
    """
    if output.exists() and not overwrite:
        raise fail(f"{output}: exists already; use --overwrite to replace it", 2)
    network = as_file(network)
    known: dict[str, Any] = _card_fields(card) if card else {}
    if calibrate is not None and stored not in ("float32", "int8"):
        raise fail(f"--calibrate: stores weights in int8, not {stored}", 2)
    if prune_share is not None and prune is None:
        raise fail("--prune-share: say with --prune on what photos", 2)
    if measured is not None:
        if stored == "int8" or calibrate is not None or prune is not None or average:
            raise fail(
                "--measured: int8, --prune and --average change a model; measure the file, then "
                "use --card",
                2,
            )
        known["measured"] = _measured(measured, Path(network))
    with network_errors_for_people():
        from unblur.inference.export import export_model
        from unblur.inference.runtimes.choice import is_checkpoint
        from unblur.inference.runtimes.onnx import read_card
        from unblur.inference.weights import average as take_average
        from unblur.inference.weights import sequences_seen
        from unblur.models.analysis import count_parameters

        architecture, options, model = build_network(network, settings)
        whole = count_parameters(model)
        stated = known.get("trained_on")
        if Path(network).suffix.lower() == ".onnx":
            old = read_card(Path(network))
            if old.arithmetic == "int8" and calibrate is None:
                raise fail(f"{network}: computes in int8; say with --calibrate on what photos", 2)
            known = {name: getattr(old, name) for name in _STAYS} | known
        elif not is_checkpoint(Path(network)):
            known.setdefault("description", "untrained, its weights are random")
        if average:
            take_average(architecture, options, model, average)
        # So that evaluations of the file can tell what it has seen, unless that is unknown of one.
        seen = [sequences_seen(source) for source in (Path(network), *(average or []))]
        told = [names for names in seen if names is not None]
        whole_story = len(told) == len(seen)
        known["trained_on"] = sorted({*(stated or [])}.union(*told)) if whole_story else stated
        if prune is not None:
            from unblur.models.hidden_channels import without_idle_channels

            looked_at = blurred_photos("--prune", prune, _LOOKED_AT, _PRUNED_ON)
            share = _PRUNED_SHARE if prune_share is None else prune_share
            options, model = without_idle_channels(model, architecture, options, looked_at, share)
        photos = None
        if calibrate is not None:
            photos = list(blurred_photos("--calibrate", calibrate, _CALIBRATED_ON))
        made = export_model(
            model, output, name or output.stem, architecture, options, stored, photos, **known
        )
    typer.echo(
        f"{output}: {made.architecture}, {made.parameters:,} parameters"
        f"{'' if prune is None else f' of {whole:,}'}, "
        f"{output.stat().st_size / 1e6:.1f} MB, agrees with PyTorch"
        f"{'' if calibrate is None else ' as far as int8 can'}"
    )


# Of so many photos all over the set crops of this side are taken, or of one that at least a quarter
# of them have. Of these crops so many set the ranges of int8; pruning takes at least so many.
_LOOKED_AT, _LARGEST_CROP, _CALIBRATED_ON, _PRUNED_ON = 200, 256, 16, 50
_PRUNED_SHARE = 0.01


def blurred_photos(
    option: str, spec: str, count: int, least: int = 1
) -> Iterator[NDArray[np.float32]]:
    """3×H×W in [0, 1] from all over a data set, blurred where they are not already.

    At most `count` of them; fewer than `least` are an error, in the name of the option.
    """
    import numpy as np

    from unblur.blur import parse_degradation
    from unblur.data import DataError, Samples, open_dataset

    def evenly(pairs: Sequence[Pair], count: int) -> list[Pair]:
        places = np.linspace(0, len(pairs) - 1, min(count, len(pairs)))
        return [pairs[place] for place in places.astype(int)]

    try:
        pairs = evenly(open_dataset(spec).pairs, _LOOKED_AT)
        sides = [min(pair.sharp.size()) for pair in pairs]
        side = min(_LARGEST_CROP, int(np.percentile(sides, 75, method="lower")))
        fitting = [pair for pair, own in zip(pairs, sides, strict=True) if own >= side]
        if len(fitting) < least:
            raise DataError(
                f"{spec}: {least} photos are needed, it has {len(fitting)} of {side} pixels a side"
            )
        samples = Samples(evenly(fitting, count), parse_degradation("deblurring"), crop=side)
        with progress_bar("looking at photos") as show:
            for number, sample in enumerate(samples, 1):
                yield sample["blurred"]
                show(number, len(samples))
    except DataError as error:
        raise fail(f"{option}: {error}", 2) from None


_STAYS = {"description", "licence", "training_data"}  # in a file made of another one
_PEOPLE_KNOW = {*_STAYS, "version", "limits", "trained_on", "measured", "seconds_per_megapixel"}


def _card_fields(path: Path) -> dict[str, Any]:
    from unblur.inference.card import ModelCard

    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise fail(f"{path}: cannot be read as JSON ({error})", 2) from None
    if not isinstance(fields, dict):
        raise fail(f"{path}: must hold a JSON object of card fields", 2)
    unknown = set(fields) - _PEOPLE_KNOW
    if unknown:
        raise fail(
            f"{path}: unknown card fields {', '.join(sorted(unknown))}; "
            f"valid: {', '.join(sorted(_PEOPLE_KNOW))}",
            2,
        )
    try:
        ModelCard.from_json(json.dumps({"name": "", "architecture": "", **fields}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise fail(f"{path}: {error}", 2) from None
    return dict(fields)


def _measured(path: Path, checkpoint: Path) -> dict[str, dict[str, float]]:
    """What an evaluation measured of this checkpoint, by set, as a card has it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = content.get("results", [content])
        digest = sha256_of(checkpoint) if checkpoint.is_file() else ""
        own = [
            result for result in results if result["sha256"] == digest and not result.get("best")
        ]
        leaks = [result["data"] for result in own if result["leak"] and result["leak"]["images"]]
        protocols = {result["protocol"] for result in own}
        values = {
            result["data"]: {
                key: round(float(result["mean"][key]), 4) for key in ("psnr_input", "psnr")
            }
            for result in own
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise fail(f"{path}: is not a metrics.json of `unblur evaluate` ({error})", 2) from None
    if not values:
        raise fail(f"{path}: did not measure {checkpoint}", 2)
    if leaks:
        raise fail(f"{path}: {leaks[0]} holds what the model was trained on", 2)
    if protocols != {"full"}:
        raise fail(f"{path}: cards hold figures of the protocol full alone", 2)
    return values
