"""How blurred a photo is judged to have been, and the mean over orientations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from unblur import metrics
from unblur.blur import blur_photo, gaussian_kernel
from unblur.cli import app
from unblur.cli.run import _describe_change
from unblur.data import open_dataset
from unblur.imaging import Photo, write_photo
from unblur.inference import Deblurrer
from unblur.inference.judgement import Verdict, judge


def blurred(scene: np.ndarray, sigma: float) -> np.ndarray:
    values = blur_photo(scene / np.float32(255), gaussian_kernel(sigma))
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 4.0])
def test_what_was_undone_is_told(sigma: float, scene: np.ndarray) -> None:
    soft = blurred(scene, sigma)
    judged = judge(soft, scene)
    assert judged.blur == pytest.approx(sigma, rel=0.2)
    wide = judge(soft.astype(np.uint16) * 257, scene.astype(np.uint16) * 257)
    assert wide == judged
    half = np.rint((soft.astype(float) + scene) / 2).astype(np.uint8)
    assert judge(soft, half, strength=0.5).blur == pytest.approx(judged.blur, abs=0.25)
    assert judge(soft, half, strength=0.5).change == pytest.approx(judged.change / 2, abs=0.3)
    assert judged.verdict == Verdict.SHARPER
    assert judge(soft[:, :, 0], scene[:, :, 0]).blur == pytest.approx(sigma, rel=0.2)


def test_a_soft_subject_counts_before_a_sharp_background(scene: np.ndarray) -> None:
    half = scene.shape[1] // 2
    given, restored = scene.copy(), np.rint(0.9 * scene).astype(np.uint8)
    given[:, :half] = blurred(scene, 2.0)[:, :half]
    restored[:, :half] = scene[:, :half]
    judged = judge(given, restored)
    assert judged.blur == pytest.approx(2.0, rel=0.2)
    assert judged.verdict == Verdict.SHARPER


def test_what_was_smoothed_is_no_sharper(scene: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 6, scene.shape)
    noisy = np.rint((scene + noise).clip(0, 255)).astype(np.uint8)
    for restored in (scene, blurred(scene, 1.0)):
        judged = judge(noisy, restored)
        assert (judged.blur, judged.verdict) == (0, Verdict.NO_SHARPER)


def test_what_was_left_alone(scene: np.ndarray) -> None:
    judged = judge(scene, scene)
    assert (judged.blur, judged.change) == (0, 0)
    assert judged.verdict == Verdict.HARDLY_CHANGED
    for side in (1, 7, 130):
        assert judge(scene[:side, :side], scene[:side, :side]).blur == 0


def test_the_command_tells(scene: np.ndarray, tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_photo(Photo(blurred(scene, 1.2)[:200, :300]), tmp_path / "soft.png")
    write_photo(Photo(scene[:1, :1].repeat(64, 0).repeat(64, 1)), tmp_path / "sharp.png")
    result = CliRunner().invoke(
        app, ["run", str(tmp_path / "soft.png"), str(tmp_path / "sharp.png")]
    )
    assert result.exit_code == 0, result.output
    assert "pixels of blur, changed by" in result.output
    assert "hardly changed" in result.output


def test_what_is_not_seen_is_not_told() -> None:
    sharper = _describe_change(Verdict.SHARPER, 0.05, 0.51)
    assert "0.1 pixels of blur, changed by 0.2 %" in sharper
    assert _describe_change(Verdict.NO_SHARPER, 0.04, 0.51) == "no sharper, changed by 0.2 %"
    assert "hardly changed, by 0.04 %" in _describe_change(Verdict.HARDLY_CHANGED, 2.0, 0.1)
    assert "strength 0" in _describe_change(Verdict.UNTOUCHED, 0.0, 0.0)


def test_the_verdict_does_not_hang_on_the_strength(scene: np.ndarray) -> None:
    soft = blurred(scene, 0.8).astype(float)
    for strength in (1.0, 0.3, 0.05):
        for full, verdict in (
            (scene, Verdict.SHARPER),
            (0.999 * soft, Verdict.HARDLY_CHANGED),
            (0.97 * soft, Verdict.NO_SHARPER),
        ):
            given, restored = (
                np.rint(257 * image).astype(np.uint16)
                for image in (soft, soft + strength * (full - soft))
            )
            assert judge(given, restored, strength).verdict == verdict
    given = np.rint(soft).astype(np.uint8)
    assert judge(given, given, 0.0).verdict == Verdict.UNTOUCHED


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_pixel_counts_for_the_change(kind: type) -> None:
    given = np.full((1000, 1500, 3), 100, kind)
    restored = given.copy()
    restored[300:620, 380:710] = 120
    restored[-1, -1, 0] = 0
    exact = np.abs(restored.astype(float) - given).mean() * 255 / np.iinfo(kind).max
    assert judge(given, restored).change == pytest.approx(exact, abs=0.005)
    tinted = given.copy()
    tinted[..., 0] += 20
    tinted[..., 2] -= 20
    expected = 40 / 3 * 255 / np.iinfo(kind).max
    assert judge(given, tinted).change == pytest.approx(expected, abs=0.005)


def test_the_mean_over_orientations(data: Path) -> None:
    photo = open_dataset(data / "sharp" / "bsds500" / "test").pairs[0].sharp.load()[:320, :400]
    best = Deblurrer("small", runtime="onnxruntime", best=True)
    given = blurred(photo, 1.2).astype(np.float32) / np.float32(255)
    restored = best.restore_pixels(given)
    # It does not matter how the photo is held.
    turned = best.restore_pixels(np.ascontiguousarray(np.rot90(given[:, ::-1])))
    assert np.abs(np.rot90(turned, -1)[:, ::-1] - restored).max() < 1e-4
    sharp = photo / 255
    plain = Deblurrer("small", runtime="onnxruntime").restore_pixels(given)
    assert np.abs(plain - restored).max() > 1e-4
    assert metrics.psnr(restored, sharp) > metrics.psnr(plain, sharp) - 0.05
