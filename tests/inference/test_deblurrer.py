"""The engine on real and drawn photos: sizes, types, tiles, threads, memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SCENE
from unblur.blur import convolve, defocus_kernel
from unblur.imaging import Photo
from unblur.inference import Deblurrer, ModelError
from unblur.inference.export import export_model
from unblur.inference.runtimes import TileMemoryError, installed_runtimes
from unblur.models import create_model
from unblur.models.checkpoint import save_checkpoint

SMALL = Deblurrer("small", runtime="onnxruntime")


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    colours=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float16, np.float32, np.float64]),
)
def test_any_size_and_type(height: int, width: int, colours: bool, dtype: type) -> None:
    pixels = SCENE[300 : 300 + height, 200 : 200 + width]
    pixels = pixels if colours else pixels[:, :, 0]
    if dtype == np.uint16:
        pixels = pixels.astype(np.uint16) * 257
    elif dtype != np.uint8:
        pixels = (pixels / 255).astype(dtype)
    before = pixels.copy()
    restored = SMALL.restore_pixels(pixels)
    assert restored.shape == pixels.shape
    assert restored.dtype == dtype
    assert np.array_equal(pixels, before)


def test_depths_agree(scene: np.ndarray, small: Deblurrer) -> None:
    sharp = scene[200:330, 100:290].astype(int)
    part = ((sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 2, 1)) // 3).astype(np.uint8)
    eight = small.restore_pixels(part).astype(float) / 255
    sixteen = small.restore_pixels(part.astype(np.uint16) * 257).astype(float) / 65535
    exact = small.restore_pixels(part.astype(np.float32) / np.float32(255))
    assert np.abs(eight - exact).max() < 0.51 / 255
    assert np.abs(sixteen - exact).max() < 0.51 / 65535 + 1e-6
    # Sixteen bits are really computed as such: they hold values between the 256 of eight bits.
    assert len(np.unique(small.restore_pixels(part.astype(np.uint16) * 257) % 257)) > 200


def test_strength(scene: np.ndarray, small: Deblurrer) -> None:
    part = scene[200:264, 100:180].astype(np.float32) / np.float32(255)
    full, half = small.restore_pixels(part), small.restore_pixels(part, 0.5)
    assert np.array_equal(small.restore_pixels(part, 0.0), part)
    inside = (full > 0) & (full < 1)
    assert np.allclose(half[inside], (part + full)[inside] / 2, atol=1e-5)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="strength"):
            small.restore_pixels(part, wrong)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((4,), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.full((4, 4), 1.5), r"\[0, 1\]"),
        (np.full((4, 4), np.nan), r"\[0, 1\]"),
    ],
)
def test_what_is_no_image_is_refused(small: Deblurrer, pixels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small.restore_pixels(pixels)


# Tiles that are large enough to overlap as far as the card says, on a photo that takes several. Its
# sides are multiples of cells: others are filled up further in several tiles than in one.
@pytest.mark.parametrize(
    ("model", "shape", "side", "tile"),
    [
        ("small", (896, 1024), 1024, 768),
        pytest.param("base", (1280, 1920), 1792, 1536, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", ["blurred", "sharp", "smooth"])
def test_tiles_agree_with_the_whole(
    real_photo: np.ndarray, kind: str, model: str, shape: tuple[int, int], side: int, tile: int
) -> None:
    height, width = shape
    photo = real_photo[:height, :width].astype(np.float32)
    assert photo.shape[:2] == shape
    if kind == "blurred":  # where the model has most to do
        photo = convolve(photo, defocus_kernel(3))
    if kind == "smooth":
        y, x = np.mgrid[:height, :width]
        photo = np.dstack([y / height, x / width, (x + y) / (height + width)])
    photo = (photo / photo.max()).astype(np.float32)
    whole = Deblurrer(model, runtime="onnxruntime", tile=side).restore_pixels(photo)
    assert not np.array_equal(whole, photo)
    tiled = Deblurrer(model, runtime="onnxruntime", tile=tile).restore_pixels(photo)
    assert not np.array_equal(tiled, whole)
    difference = np.abs(whole - tiled) * 255
    # A survey is made in tiles of its own, and what it says of the cells at their edges differs a
    # little.
    usual, most = (0.5, 4.0) if kind == "smooth" else (3.5, 16.0)
    assert np.quantile(difference, 0.999) < usual
    assert difference.max() < most


@pytest.mark.parametrize("tile", [80, 88, 96])
def test_small_tiles_work_too(tmp_path: Path, real_photo: np.ndarray, tile: int) -> None:
    """Asked for less memory than its overlap needs, the engine overlaps less."""
    options = {"widths": [8, 16, 32], "encoder_blocks": [1, 1, 3], "decoder_blocks": [1, 1]}
    network = random_network("unshuffle_unet", **options)
    card = export_model(network, tmp_path / "n.onnx", "n", "unshuffle_unet", options)
    assert 3 * card.overlap + 4 * card.size_multiple > tile
    photo = (real_photo[:400, :500] / 255).astype(np.float32)
    whole = Deblurrer(tmp_path / "n.onnx", runtime="onnxruntime").restore_pixels(photo)
    tiled = Deblurrer(tmp_path / "n.onnx", runtime="onnxruntime", tile=tile).restore_pixels(photo)
    assert np.abs(whole - photo).mean() > 2 / 255
    assert np.abs(whole - tiled).mean() < 0.1 / 255
    assert np.quantile(np.abs(whole - tiled), 0.99) < 1 / 255


def test_threads_may_share_a_deblurrer(scene: np.ndarray, small: Deblurrer) -> None:
    parts = [scene[y : y + 150, x : x + 170 + y] for y in (0, 90, 300) for x in (0, 200, 400)]
    alone = [small.restore_pixels(part) for part in parts]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(small.restore_pixels, parts * 3))
    for expected, found in zip(alone * 3, together, strict=True):
        assert np.array_equal(expected, found)


def test_progress_reaches_one(scene: np.ndarray) -> None:
    seen: list[float] = []
    Deblurrer("small", runtime="onnxruntime", tile=640).restore_pixels(
        np.tile(scene, (2, 1, 1)), progress=seen.append
    )
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == 1


class Limited:
    """The runtime of a machine whose memory holds only tiles of a certain size."""

    def __init__(self, runtime: object, largest: int) -> None:
        self.runtime, self.largest, self.tried = runtime, largest, []

    def __getattr__(self, name: str) -> object:
        return getattr(self.runtime, name)

    def run(self, batch: np.ndarray, *rest: object) -> object:
        self.tried.append(batch.shape[-1])
        if batch.shape[-1] > self.largest:
            raise TileMemoryError("no memory")
        return self.runtime.run(batch, *rest)


def test_tiles_are_halved_when_memory_runs_out(
    scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    deblurrer = Deblurrer("small", runtime="onnxruntime", tile=1024)
    limited = Limited(deblurrer._runtime, 700)
    monkeypatch.setattr(deblurrer, "_runtime", limited)
    restored = deblurrer.restore_pixels(scene)
    first = limited.tried.index(960)  # after its drafts, which are smaller
    assert max([*limited.tried[:first], *limited.tried[first + 1 :]]) <= 700
    whole = Deblurrer("small", runtime="onnxruntime").restore_pixels(scene)
    assert np.abs(restored.astype(int) - whole).max() <= 2
    limited.largest = 10
    with pytest.raises(MemoryError, match="smallest"):
        deblurrer.restore_pixels(scene)


def test_real_memory_exhaustion_is_survived() -> None:
    """Under a hard address-space limit the engine ends up with smaller tiles or a MemoryError."""
    script = """
        import resource, sys
        import numpy as np
        from unblur.inference import Deblurrer
        d = Deblurrer("small", runtime="onnxruntime", tile=4096, threads=1)
        d.restore_pixels(np.zeros((64, 64, 3), np.uint8))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
        tiles = []
        run = d._runtime.run
        d._runtime.run = lambda b, *r: (tiles.append(b.shape[2:]), run(b, *r))[1]
        out = d.restore_pixels(np.zeros((1200, 1200, 3), np.uint8))
        print(out.shape, max(tiles), tiles[-1])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.startswith("(1200, 1200, 3) (1216, 1216)")
    assert "(1280, 1280)\n" not in result.stdout[20:]


NAFNET = {"width": 8, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}


def random_network(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    network = create_model(name, **options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.05)
    return network


def test_global_statistics_make_tiles_agree(tmp_path: Path, real_photo: np.ndarray) -> None:
    """NAFNet averages over the whole image: its tiles must use the photo's averages."""
    photo = (real_photo[:800, :900] / 255).astype(np.float32)
    photo[:, 450:] *= 0.25  # halves whose own averages differ a lot
    path = tmp_path / "n.onnx"
    card = export_model(random_network("nafnet", **NAFNET), path, "n", "nafnet", NAFNET)
    assert card.statistics > 0
    whole = Deblurrer(path, runtime="onnxruntime", tile=1024).restore_pixels(photo)
    tiled = Deblurrer(path, runtime="onnxruntime", tile=320).restore_pixels(photo)
    assert np.quantile(np.abs(whole - tiled), 0.999) < 1 / 255


def test_runtimes_agree(tmp_path: Path, scene: np.ndarray) -> None:
    part = scene[100:300, 100:330]
    network = random_network("unet16", width=8)
    export_model(network, tmp_path / "u.onnx", "u", "unet16", {"width": 8})
    save_checkpoint(tmp_path / "u.safetensors", "unet16", {"width": 8}, network)
    reference = Deblurrer(tmp_path / "u.onnx", runtime="onnxruntime").restore_pixels(part)
    from_torch = Deblurrer(tmp_path / "u.safetensors", runtime="torch").restore_pixels(part)
    assert np.abs(from_torch.astype(int) - reference).max() <= 1
    pytest.importorskip("openvino")
    from_openvino = Deblurrer(tmp_path / "u.onnx", runtime="openvino").restore_pixels(part)
    assert np.abs(from_openvino.astype(int) - reference).max() <= 1


def test_a_checkpoint_with_statistics_runs_on_torch(tmp_path: Path, scene: np.ndarray) -> None:
    network = random_network("nafnet", **NAFNET)
    torch.save({"params": network.state_dict()}, tmp_path / "naf.pth")
    export_model(network, tmp_path / "naf.onnx", "naf", "nafnet", NAFNET)
    by_torch = Deblurrer(tmp_path / "naf.pth", tile=320)
    assert by_torch.runtime == "torch"
    by_onnx = Deblurrer(tmp_path / "naf.onnx", runtime="onnxruntime", tile=320)
    difference = by_torch.restore_pixels(scene).astype(int) - by_onnx.restore_pixels(scene)
    assert np.abs(difference).max() <= 1


def test_a_photo_keeps_all_but_its_colours(scene: np.ndarray, small: Deblurrer) -> None:
    alpha = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80).astype(np.uint8)
    photo = Photo(scene[:64, :80], alpha=alpha, format="PNG")
    restored = small.restore_photo(photo)
    assert restored.alpha is alpha
    assert restored.metadata == photo.metadata
    assert restored.format == "PNG"


def test_wrong_models_and_settings_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown model 'smal'.*Did you mean 'small'"):
        Deblurrer("smal")
    with pytest.raises(ModelError, match="no such model file"):
        Deblurrer(tmp_path / "x.onnx")
    with pytest.raises(ModelError, match="unknown runtime"):
        Deblurrer("small", runtime="tensorrt")
    with pytest.raises(ModelError, match="runs on --runtime onnxruntime or openvino"):
        Deblurrer("small", runtime="torch")
    with pytest.raises(ModelError, match="no device 'tpu'"):
        Deblurrer("small", runtime="onnxruntime", device="tpu")
    with pytest.raises(ModelError, match="tile must be at least"):
        Deblurrer("small", tile=8)
    with pytest.raises(ModelError, match="threads"):
        Deblurrer("small", threads=0)
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Deblurrer(tmp_path / "x.onnx")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_device_that_onnxruntime_has_but_cannot_use(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    with pytest.raises(ModelError, match="cannot use cuda on this machine"):
        Deblurrer("small", runtime="onnxruntime", device="cuda")
    assert Deblurrer("small", runtime="onnxruntime").device == "cpu"
    assert not capfd.readouterr().out


def test_a_model_that_returns_nonsense_is_refused(
    scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    deblurrer = Deblurrer("small", runtime="onnxruntime")

    class Broken(Limited):
        def run(self, batch: np.ndarray, *rest: object) -> object:
            return self.answer(batch), None

    broken = Broken(deblurrer._runtime, 0)
    monkeypatch.setattr(deblurrer, "_runtime", broken)
    for answer in (lambda b: b * np.nan, lambda b: b[:, :1], lambda b: b[..., :1]):
        broken.answer = answer
        with pytest.raises(ModelError, match="unusable"):
            deblurrer.restore_pixels(scene[:32, :32])


def test_byte_orders_agree(scene: np.ndarray, small: Deblurrer) -> None:
    wide = scene[:40, :50].astype(np.uint16) * 257
    swapped = small.restore_pixels(wide.astype(">u2"))
    assert swapped.dtype == np.dtype(">u2")
    assert np.array_equal(swapped, small.restore_pixels(wide))


def test_bf16_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("unblur.inference.runtimes.openvino.has_bf16", lambda: False)
    assert "openvino-bf16" not in installed_runtimes()
    with pytest.raises(ModelError, match="does not compute in bf16: use --runtime openvino"):
        Deblurrer("small", runtime="openvino-bf16")


def test_signals_survive_openvino() -> None:
    """Models that come and go leave the process able to handle a signal."""
    pytest.importorskip("openvino")
    script = (
        "import gc, os, signal, numpy as np\n"
        "from unblur.inference import Deblurrer\n"
        "from unblur.inference.runtimes.openvino import openvino_devices\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "first = Deblurrer('small', runtime='openvino')\n"
        "second = Deblurrer('small', runtime='openvino')\n"
        "openvino_devices()\n"
        "del first; gc.collect()\n"
        "third = Deblurrer('small', runtime='openvino')\n"
        "del second; gc.collect()\n"
        "del third; gc.collect()\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
