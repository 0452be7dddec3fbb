"""What tests of inference share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inference.test_deblurrer import random_network
from tests.models.test_networks import LIGHT
from unblur.inference.export import export_model
from unblur.inference.runtimes.onnx import read_card
from unblur.models.checkpoint import save_checkpoint

DRAFTING = LIGHT["wiener_unet"] | {"draft": 48}


@pytest.fixture(scope="session")
def drafting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `wiener_unet` of random weights, which surveys and takes drafts, as a graph and as a
    checkpoint beside it. One for all tests: it takes most of a minute to export."""
    file = tmp_path_factory.mktemp("drafting") / "d.onnx"
    network = random_network("wiener_unet", **DRAFTING)
    card = export_model(network, file, "test", "wiener_unet", DRAFTING, licence="MIT")
    assert read_card(file) == card
    assert [*file.parent.iterdir()] == [file]
    save_checkpoint(file.with_suffix(".safetensors"), "wiener_unet", DRAFTING, network)
    return file
