"""Exported files: every network, any size and batch, a card that tells the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.conftest import DRAFTING
from tests.inference.test_deblurrer import NAFNET, random_network
from tests.models.test_networks import LIGHT
from unblur import Deblurrer
from unblur.blur import parse_degradation, spoil
from unblur.data import open_dataset
from unblur.inference import ModelCard, ModelError, shipped_models
from unblur.inference.card import CARD_KEY
from unblur.inference.describe import weights_hash
from unblur.inference.export import INT8_SHARE, export_model
from unblur.inference.models import find_model
from unblur.inference.runtimes.onnx import OnnxRuntime, read_card
from unblur.inference.weights import load_exported
from unblur.models import create_model
from unblur.registry import ConfigError

QUICK = {"unet16", "unshuffle_unet", "wiener_unet"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(LIGHT)],
)
def test_every_network_is_exported(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    options = DRAFTING if name == "wiener_unet" else LIGHT[name]
    network = random_network(name, **options)
    if name == "wiener_unet":
        path = request.getfixturevalue("drafting")
        card = read_card(path)
    else:
        path = tmp_path / f"{name}.onnx"
        card = export_model(network, path, "test", name, options, licence="MIT")
        assert read_card(path) == card
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert (card.architecture, card.options) == (name, options)
    assert card.licence == "MIT"
    assert card.weights_sha256 == weights_hash(network)
    assert b"site-packages" not in path.read_bytes()  # nor any other path of this machine
    runtime = OnnxRuntime(path, "cpu", None)
    multiple = card.size_multiple
    for batch, rows, columns in ((1, 3, 5), (3, 4, 2)):
        height = max(rows * multiple, card.min_size)
        width = max(columns * multiple, card.min_size)
        black = np.zeros((batch, card.channels, height, width), np.float32)
        restored, statistics = runtime.run(black)
        assert restored.shape == (batch, 3, height, width)
        assert np.isfinite(restored).all()  # of a black image, too
        assert (statistics is None) == (card.statistics == 0 == card.survey)


@pytest.mark.parametrize("name", ["unet16", pytest.param("nafnet", marks=pytest.mark.slow)])
def test_weights_in_half_the_space(tmp_path: Path, name: str) -> None:
    network = random_network(name, **LIGHT[name])
    export_model(network, tmp_path / "full.onnx", "n", name, LIGHT[name])
    card = export_model(network, tmp_path / "half.onnx", "n", name, LIGHT[name], "float16")
    assert (card.dtype, read_card(tmp_path / "half.onnx").dtype) == ("float16", "float16")
    full, half = (tmp_path / f"{which}.onnx" for which in ("full", "half"))
    # What is not weights takes the same space in both, and so do small tensors.
    large = 4 * sum(p.numel() for p in network.parameters() if p.numel() > 256)
    saved = full.stat().st_size - half.stat().st_size
    assert 0.5 * large > saved > 0.4 * large
    photo = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    one, two = (OnnxRuntime(path, "cpu", None).run(photo)[0] for path in (full, half))
    assert 0 < np.abs(one - two).max() < 2e-3
    again = create_model(name, **LIGHT[name])
    again.load_state_dict({k: v.half().float() for k, v in network.state_dict().items()})
    assert card.weights_sha256 == weights_hash(again)


def test_weights_in_a_quarter_of_the_space(tmp_path: Path) -> None:
    name = "unshuffle_unet"
    network = random_network(name, **LIGHT[name])
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim == 4 and len(weights) > 2:
                weights[0] *= 0.01  # what is next to it must not make it coarse
                weights[1] = 0
    full, less = (tmp_path / f"{which}.onnx" for which in ("full", "less"))
    export_model(network, full, "n", name, LIGHT[name])
    card = export_model(network, less, "n", name, LIGHT[name], "int8")
    assert (card.dtype, read_card(less).dtype) == ("int8", "int8")
    # What is not weights takes the same space in both, and so do small tensors.
    large = 4 * sum(p.numel() for p in network.parameters() if p.numel() > 256)
    saved = full.stat().st_size - less.stat().st_size
    assert 0.75 * large > saved > 0.75 * 0.75 * large
    _, _, again = load_exported(less)
    assert card.weights_sha256 == weights_hash(again)
    for before, after in zip(network.parameters(), again.parameters(), strict=True):
        if before.ndim == 4:
            largest = before.abs().amax(dim=(1, 2, 3))
            error = (before - after).abs().amax(dim=(1, 2, 3))
            assert (error <= largest / 250).all()
        else:
            assert torch.allclose(before, after, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("unshuffle_unet", {"modulated": True}),
        pytest.param("unet16", {}, marks=pytest.mark.slow),
        pytest.param("nafnet", {}, marks=pytest.mark.slow),
        pytest.param("res_unet", {}, marks=pytest.mark.slow),
        pytest.param("resnet16", {}, marks=pytest.mark.slow),
    ],
)
def test_convolutions_in_int8(
    tmp_path: Path, scene: np.ndarray, name: str, more: dict[str, object]
) -> None:
    import onnx

    options = LIGHT[name] | more
    network = random_network(name, **options)
    photo = np.ascontiguousarray(scene[:192, :192].transpose(2, 0, 1), np.float32) / 255
    plain, quick = (tmp_path / f"{which}.onnx" for which in ("plain", "quick"))
    export_model(network, plain, "n", name, options)
    card = export_model(network, quick, "n", name, options, photos=[photo, photo[:, ::-1, :96]])
    assert read_card(quick) == card
    assert (card.dtype, card.arithmetic) == ("int8", "int8")
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["plain.onnx", "quick.onnx"]
    assert str(tmp_path).encode() not in quick.read_bytes()
    exact, rounded = (OnnxRuntime(path, "cpu", None).run(photo[None])[0] for path in (plain, quick))
    assert np.abs(exact - photo).mean() > 0.01
    noise, change = (np.sqrt(np.square(exact - other).mean()) for other in (rounded, photo))
    assert 0 < noise < INT8_SHARE * change

    if name in ("nafnet", "res_unet", "resnet16"):  # gains and BatchNorm are folded into them
        return
    # Training goes on with what the file holds: 7 bits, after 8.
    _, _, again = load_exported(quick)
    assert weights_hash(again) == card.weights_sha256
    for (label, before), after in zip(network.named_parameters(), again.parameters(), strict=True):
        rows = before.abs().flatten(1).amax(1) if before.ndim == 4 else before.abs().amax()
        error = (before - after).abs()
        error = error.flatten(1).amax(1) if before.ndim == 4 else error.amax()
        assert (error <= rows / 80 + 1e-4).all(), label

    graph = onnx.load(quick).graph
    integers = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    inner = {n: w for n, w in integers.items() if n + "_zero" in integers and w.dtype == np.int8}
    assert len(inner) > 2
    for label, weights in inner.items():
        assert np.abs(weights.astype(int)).max() <= 64, label  # 2 · 255 · 64 fits into 16 bits
    kept = [n for n in integers if n.startswith("network.decoders.0") and n + "_zero" in integers]
    assert not kept or name != "unshuffle_unet"


@pytest.mark.slow
@pytest.mark.parametrize(("smaller", "allowed"), [("weights", 0.2), ("arithmetic", 0.5)])
def test_the_same_picture_from_smaller_numbers(
    smaller: str, allowed: float, tmp_path: Path, data: Path
) -> None:
    architecture, options, network = load_exported(find_model("small"))
    blur = parse_degradation("gaussian:sigma=1.5").draw(np.random.default_rng(0))
    pairs = open_dataset(data / "sharp" / "bsds500" / "test").pairs[:6]
    photo, *others = (spoil(blur, pair.sharp.load()) for pair in pairs)
    file = tmp_path / "smaller.onnx"
    if smaller == "weights":  # stored in int8: float32 would hold the same numbers
        export_model(network, file, "half", architecture, options, "float16")
    else:  # ranges of one photo are too narrow for another
        given = [np.float32(each.transpose(2, 0, 1)) / 255 for each in (photo, *others)]
        export_model(network, file, "quick", architecture, options, photos=given)
    exact, other = (
        Deblurrer(model, runtime="onnxruntime").restore_pixels(photo).astype(int)
        for model in ("small", file)
    )
    assert np.abs(exact - photo).mean() > 1
    assert 0 < np.abs(exact - other).mean() < allowed  # of 255


def test_what_cannot_be_stored_in_int8(tmp_path: Path) -> None:
    folded = random_network("res_unet", **LIGHT["res_unet"])  # BatchNorm goes into its weights
    with pytest.raises(ModelError, match="cannot be stored in int8; float16 can"):
        export_model(folded, tmp_path / "m.onnx", "n", "res_unet", LIGHT["res_unet"], "int8")
    black = [np.zeros((3, 64, 64), np.float32)]  # nothing else is within their ranges
    for name in ("unet16", "unshuffle_unet"):
        able = random_network(name, **LIGHT[name])
        with pytest.raises(ModelError, match="in int8, differs from PyTorch"):
            export_model(able, tmp_path / "m.onnx", "n", name, LIGHT[name], photos=black)
    options = {"widths": [8], "encoder_blocks": [0], "decoder_blocks": []}
    little = random_network("unshuffle_unet", **options)
    with pytest.raises(ModelError, match="no convolutions between its first and last"):
        export_model(little, tmp_path / "m.onnx", "n", "unshuffle_unet", options, photos=black)
    broken = random_network("unet16", **LIGHT["unet16"])
    with torch.no_grad():
        max(broken.parameters(), key=torch.Tensor.numel).fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        export_model(broken, tmp_path / "m.onnx", "n", "unet16", LIGHT["unet16"], "int8")
    with pytest.raises(ConfigError, match="Did you mean 'int8'"):
        export_model(broken, tmp_path / "m.onnx", "n", "unet16", LIGHT["unet16"], "int4")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxRuntime.run
    monkeypatch.setattr(OnnxRuntime, "run", lambda *a: (run(*a)[0] + np.float32(0.01), run(*a)[1]))
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export_model(random_network("nafnet", **NAFNET), tmp_path / "n.onnx", "n", "nafnet", NAFNET)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    taken = tmp_path / "a.onnx"
    taken.mkdir()
    network = random_network("unet16", **LIGHT["unet16"])
    with pytest.raises(ModelError, match=r"a\.onnx: cannot be written"):
        export_model(network, taken, "test", "unet16", LIGHT["unet16"])
    assert list(tmp_path.rglob("*")) == [taken]


def test_critics_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not restore images"):
        export_model(
            create_model("patchgan_critic"), tmp_path / "c.onnx", "c", "patchgan_critic", {}
        )


def test_damaged_cards_are_refused() -> None:
    card = ModelCard("n", "unet16", size_multiple=8)
    assert ModelCard.from_json(card.to_json()) == card
    for wrong in (
        replace(card, size_multiple=0),
        replace(card, overlap=-1),
        replace(card, tile="big"),  # type: ignore[arg-type]
        replace(card, min_size=10**9),
        replace(card, survey=3),
        replace(card, cell=16),
        replace(card, survey=3, cell=12),
    ):
        with pytest.raises(ValueError):
            ModelCard.from_json(wrong.to_json())


def test_cards_from_before_cells_had_a_size_of_their_own() -> None:
    text = ModelCard("n", "wiener_unet", size_multiple=128, survey=3, cell=128).to_json()
    card = ModelCard.from_json(text.replace('"cell": 128, ', ""))
    assert (card.grid, card.cells(256), card.cells(257)) == (128, 2, 3)


def test_files_without_a_card_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    torch.onnx.export(
        torch.nn.Conv2d(3, 3, 1), (torch.rand(1, 3, 8, 8),), path, dynamo=True, verbose=False
    )
    with pytest.raises(ModelError, match="has no unblur card"):
        read_card(path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "5",
        "[" * 100_000,
        '{"name": 3, "architecture": "x"}',
        '{"name": "n", "architecture": "x", "parameters": "many"}',
        '{"name": "n", "architecture": "x", "parameters": NaN}',
        '{"name": "n", "architecture": "x", "measured": {"a": {}}}',
        '{"name": "n", "architecture": "x", "measured": [1]}',
        '{"name": "n", "architecture": "x", "seconds_per_megapixel": {"a": "b"}}',
    ],
)
def test_hostile_cards_are_refused(tmp_path: Path, text: str) -> None:
    import onnx

    model = onnx.load(next(iter(shipped_models().values())))
    for entry in model.metadata_props:
        if entry.key == CARD_KEY:
            entry.value = text
    onnx.save(model, tmp_path / "hostile.onnx")
    with pytest.raises(ModelError, match="its card is damaged"):
        read_card(tmp_path / "hostile.onnx")
