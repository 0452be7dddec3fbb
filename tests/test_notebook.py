"""The notebook of the docs from top to bottom, and the comparison it shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unblur
from unblur.imaging import ImageError

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.slow
def test_the_quickstart_runs() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept small and true
    resources = {"metadata": {"path": str(DOCS)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    shown = [
        output["data"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert sum("text/html" in data for data in shown) == 2
    assert sum("image/png" in data for data in shown) == 1
    text = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    gains = dict(re.findall(r"^(small|mine) .*\(([+-][\d.]+)\)$", text, re.MULTILINE))
    assert float(gains["mine"]) > 0.5


def test_pictures_are_compared(scene: np.ndarray, tmp_path: Path) -> None:
    part = scene[:60, :80]
    Image.fromarray(part).save(tmp_path / "a.png")
    kinds = [
        part,
        part / 255,
        part.astype(np.uint16) * 257,
        part[:, :, 0],
        Image.fromarray(part).convert("P"),
        tmp_path / "a.png",
        (tmp_path / "a.png").read_bytes(),
    ]
    for image in kinds:
        shown = unblur.compare(image, kinds[0])
        assert shown.picture.width >= 80
        page = shown._repr_html_()
        assert page.count("data:image/png;base64,") == 2
        assert 'type="range"' in page
    wide = part[:, :, 0].astype(np.uint16) * 257
    page = unblur.compare(Image.fromarray(wide), wide)._repr_html_()
    first, second = re.findall('base64,([^"]+)"', page)
    assert first == second
    with pytest.raises(ValueError, match="only pictures of one size"):
        unblur.compare(part, part[:, 1:])
    with pytest.raises(ImageError, match="no such file"):
        unblur.compare(tmp_path / "b.png", part)
    with pytest.raises(ValueError, match="is no image"):
        unblur.compare(np.zeros(3), part)
    large = unblur.compare(np.tile(part, (20, 30, 1)), np.tile(part, (20, 30, 1)))
    assert len(large._repr_html_()) < 2_000_000
