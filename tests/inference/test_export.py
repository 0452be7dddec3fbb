"""Exported files: every network, any size and batch, a card that tells the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.test_deblurrer import NAFNET, random_network
from tests.models.test_networks import LIGHT
from unblur.inference import ModelCard, ModelError, shipped_models
from unblur.inference.card import CARD_KEY
from unblur.inference.describe import weights_hash
from unblur.inference.export import export_model
from unblur.inference.runtimes.onnx import OnnxRuntime, read_card
from unblur.inference.storage import rounded
from unblur.models import create_model

QUICK = {"unet16", "nafnet"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(LIGHT)],
)
def test_every_network_is_exported(tmp_path: Path, name: str) -> None:
    network = random_network(name, **LIGHT[name])
    path = tmp_path / f"{name}.onnx"
    card = export_model(network, path, "test", name, LIGHT[name], licence="MIT")
    assert read_card(path) == card
    assert (card.architecture, card.options) == (name, LIGHT[name])
    assert card.licence == "MIT"
    assert card.weights_sha256 == weights_hash(network)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert b"site-packages" not in path.read_bytes()  # nor any other path of this machine
    runtime = OnnxRuntime(path, "cpu", None)
    multiple = card.size_multiple
    for batch, rows, columns in ((1, 3, 5), (3, 4, 2)):
        height = max(rows * multiple, card.min_size)
        width = max(columns * multiple, card.min_size)
        restored, statistics = runtime.run(np.zeros((batch, 3, height, width), np.float32))
        assert restored.shape == (batch, 3, height, width)
        assert (statistics is None) == (card.statistics == 0)


@pytest.mark.parametrize("name", ["unet16", "nafnet"])
@pytest.mark.parametrize(
    ("stored", "share", "apart"), [("float16", 0.5, 2e-3), ("int8", 0.75, 3e-2)]
)
def test_weights_in_less_space(
    tmp_path: Path, name: str, stored: str, share: float, apart: float
) -> None:
    network = random_network(name, **LIGHT[name])
    full, less = (tmp_path / f"{which}.onnx" for which in ("full", "less"))
    export_model(network, full, "n", name, LIGHT[name])
    card = export_model(network, less, "n", name, LIGHT[name], stored)
    assert (card.dtype, read_card(less).dtype) == (stored, stored)
    # What is not weights takes the same space in both, and so do small tensors.
    large = 4 * sum(p.numel() for p in network.parameters() if p.numel() > 256)
    saved = full.stat().st_size - less.stat().st_size
    assert share * large > saved > 0.6 * share * large
    photo = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    one, two = (OnnxRuntime(path, "cpu", None).run(photo)[0] for path in (full, less))
    assert 0 < np.abs(one - two).max() < apart
    assert card.weights_sha256 == weights_hash(rounded(network, stored))
    for before, after in zip(
        network.parameters(), rounded(network, stored).parameters(), strict=True
    ):
        assert (before - after).abs().max() <= before.abs().max() / (
            250 if stored == "int8" else 2000
        )


def test_a_graph_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxRuntime.run
    monkeypatch.setattr(OnnxRuntime, "run", lambda *a: (run(*a)[0] + np.float32(0.01), run(*a)[1]))
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export_model(random_network("nafnet", **NAFNET), tmp_path / "n.onnx", "n", "nafnet", NAFNET)
    assert list(tmp_path.iterdir()) == []


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
    ):
        with pytest.raises(ValueError):
            ModelCard.from_json(wrong.to_json())


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
