"""Sets: which images, which blur, which kernel is told to the oracles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.blur import convolve, gaussian_kernel, parse_degradation
from unblur.data import (
    DataError,
    in_patches,
    open_dataset,
    resized,
    synthesize,
    without_blurred,
)
from unblur.evaluation import EvaluationError, SetSpec, open_set, read_suite
from unblur.evaluation.baselines import BASELINES
from unblur.evaluation.sets import Example, describe
from unblur.metrics import psnr
from unblur.registry import ConfigError


def test_every_kernel_on_every_image(photos: Path, tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    for sigma in (1, 2, 3):
        np.save(kernels / f"k{sigma}.npy", gaussian_kernel(sigma, 15))
    blur = [{"linear_light": [{"kernels": {"path": "kernels"}}]}, {"noise": {"read": 0.01}}]
    every = open_set(SetSpec(f"sharp:{photos}", blur=blur, each=True, count=2), tmp_path)
    assert len(every.cases) == 6
    assert len({case.name for case in every.cases}) == 6
    assert {case.blur for case in every.cases} == {
        f"kernels 15×15 file=k{sigma}.npy" for sigma in (1, 2, 3)
    }
    example = every.cases[1].load()
    assert example.gamma == "srgb"
    assert example.kernel is not None
    assert np.allclose(example.kernel, gaussian_kernel(2, 15), atol=1e-7)
    drawn = open_set(SetSpec(f"sharp:{photos}", blur="gaussian3"), tmp_path)
    assert len(drawn.cases) == 10
    alternatives = open_set(SetSpec(f"sharp:{photos}", blur="gaussian3", each=True), tmp_path)
    assert len(alternatives.cases) == 30
    assert len({case.blur for case in alternatives.cases}) == 3


def test_the_same_images_as_synthesize(photos: Path, tmp_path: Path) -> None:
    blur = "shake:extent=3..12+noise:read=0.01"
    synthesize(open_dataset(f"sharp:{photos}"), parse_degradation(blur), tmp_path / "pairs", seed=7)
    stored = open_set(SetSpec(f"prepared:{tmp_path / 'pairs'}"))
    made = open_set(SetSpec(f"sharp:{photos}", blur=blur, seed=7))
    for first, second in zip(stored.cases, made.cases, strict=True):
        one, other = first.load(), second.load()
        assert np.array_equal(one.blurred, other.blurred)
        assert one.kernel is not None
        assert other.kernel is not None
        assert np.allclose(one.kernel, other.kernel)
        assert (one.gamma, first.blur) == (other.gamma, second.blur)
    # Each has a shake of its own, so a table names only the kind.
    assert {case.blur for case in made.cases} == {"shake"}


def test_descriptions() -> None:
    assert describe([]) == ""
    assert describe([{"step": "none"}]) == "unchanged"
    records = [
        {"step": "linear_light", "steps": [
            {"step": "gaussian", "sigma": 1.0, "kernel_size": [7, 7]}]},
        {"step": "jpeg", "quality": 90},
    ]  # fmt: skip
    assert describe(records) == "gaussian 7×7 sigma=1"


def test_oracles_undo_what_they_are_told(scene: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(scene[200:500, 300:700]).save(tmp_path / "photo.png")
    for blur, light in (("motion:length=9,angle=30", None), ("linear", "srgb")):
        steps = blur if light is None else [{"linear_light": [{"motion": {"length": 9}}]}]
        data = open_set(SetSpec(f"image:{tmp_path / 'photo.png'}", blur=steps))
        example = data.cases[0].load()
        assert example.gamma == light
        image = example.blurred.astype(np.float32) / 255
        sharp = example.sharp / 255
        before = psnr(image, sharp)
        for name in ("wiener", "richardson-lucy"):
            assert psnr(BASELINES[name].restore(image, example), sharp) > before + 2, (name, blur)
        for name, baseline in BASELINES.items():
            restored = baseline.restore(image, example)
            assert restored.shape == image.shape, name
            assert restored.dtype == np.float32
            assert 0 <= restored.min() <= restored.max() <= 1


def test_an_uneven_kernel_is_undone_in_place(scene: np.ndarray) -> None:
    """Its weight is off the middle: the restored image must not stay moved."""
    kernel = np.zeros((7, 9), np.float32)
    kernel[1:3, 5:9] = 1 / 8
    sharp = scene[100:300, 200:500]
    blurred = convolve(sharp.astype(np.float32) / 255, kernel)
    example = Example(np.rint(blurred * 255).astype(np.uint8), sharp, kernel)
    restored = BASELINES["wiener"].restore(blurred, example)
    assert psnr(restored, sharp / 255) > psnr(blurred, sharp / 255) + 4


def test_the_sharp_image_where_the_light_is(scene: np.ndarray) -> None:
    """With and without the kernel, it is moved as the blur moved the picture."""
    kernel = np.zeros((9, 9), np.float32)
    kernel[6, 2:5] = 1 / 3  # two pixels down, one to the left
    sharp = scene[100:300, 200:500]
    blurred = convolve(sharp.astype(np.float32) / 255, kernel)
    whole = np.rint(blurred * 255).astype(np.uint8)
    moved = np.roll(sharp, (2, -1), (0, 1)).astype(np.float32) / 255
    for known in (kernel, None):
        result = BASELINES["displaced"].restore(blurred, Example(whole, sharp, known))
        assert psnr(result[5:-5, 5:-5], moved[5:-5, 5:-5]) > 35, known is None
    small = BASELINES["displaced"].restore(
        blurred[:64, :64], Example(whole[:64, :64], sharp[:64, :64])
    )
    assert psnr(small[5:-5, 5:-5], moved[5:59, 5:59]) > 25
    unmoved = BASELINES["displaced"].restore(sharp / np.float32(255), Example(sharp, sharp))
    assert np.array_equal(unmoved, sharp / np.float32(255))


def test_suites(tmp_path: Path, photos: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        "- {data: 'sharp:photos', blur: gaussian3, each: true, name: three}\n"
        "- {data: 'sharp:photos', resize: [32, 48], count: 2}\n"
    )
    first, second = (open_set(spec, tmp_path) for spec in read_suite(path))
    assert first.name == "three"
    assert len(first.cases) == 30
    assert second.cases[0].load().sharp.shape == (32, 48, 3)
    for content, error, message in (
        ("", EvaluationError, "list of sets"),
        ("[]", EvaluationError, "list of sets"),
        ("- gopro", EvaluationError, "mapping with at least"),
        ("- {data: a, blurr: b}", ConfigError, "unknown setting 'blurr'"),
        ("- {data: a, count: many}", ConfigError, "count cannot be 'many'"),
        ("- {data: a, resize: [1]}", ConfigError, "height and width"),
        ("- {data: [", EvaluationError, "not YAML"),
    ):
        path.write_text(content)
        with pytest.raises(error, match=message):
            read_suite(path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_suite(tmp_path / "absent.yaml")


def test_what_cannot_be_opened(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown subset"):
        open_set(SetSpec(f"sharp:{photos}", subset="test"))
    with pytest.raises(DataError, match="no such file"):
        open_set(SetSpec(f"sharp:{tmp_path / 'absent'}"))


def test_a_blur_that_would_go_unused_is_refused(data: Path) -> None:
    spec = SetSpec(f"gopro:{data / 'gopro'}", blur="gaussian:sigma=1.6", count=2)
    with pytest.raises(ConfigError, match=r"the blur would go unused.*--reblur"):
        open_set(spec)
    assert all(case.drawn for case in open_set(replace(spec, reblur=True)).cases)


def test_kernels_are_known_only_where_one_made_the_blur(photos: Path) -> None:
    def known(blur: str) -> bool:
        data = open_set(SetSpec(f"sharp:{photos}", blur=blur, count=1))
        return data.cases[0].load().kernel is not None

    assert known("gaussian:sigma=2+noise:read=0.01+jpeg:quality=80")
    for blur in ("gaussian:sigma=2+motion:length=9", "gaussian:sigma=2+sharpen:amount=1"):
        assert not known(blur)
    data = open_dataset(f"sharp:{photos}")
    pairs = [replace(p, blurred=p.sharp, kernel="k.npy", blur=({"step": "x"},)) for p in data.pairs]
    paired = replace(data, pairs=tuple(pairs))
    assert {pair.kernel for pair in in_patches(paired, 2, 2).pairs} == {"k.npy"}
    for changed in (resized(paired, 40, 60), without_blurred(paired)):
        assert {pair.kernel for pair in changed.pairs} == {None}


def test_small_images_and_baselines(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((10, 12, 3)).astype(np.float32)
    blurred = np.rint(image * 255).astype(np.uint8)
    kernel = np.full((7, 7), 1 / 49, np.float32)
    for name, baseline in BASELINES.items():
        restored = baseline.restore(image, Example(blurred, blurred, kernel))
        assert restored.shape == image.shape, name
        assert np.isfinite(restored).all(), name
    tiny = image[:1, :1]
    with pytest.raises(EvaluationError, match="too small"):
        BASELINES["wiener"].restore(tiny, Example(blurred[:1, :1], blurred[:1, :1], kernel))


@pytest.mark.parametrize(
    "line", ["count: -1", "count: true", "resize: [a, b]", "resize: [0, 5]", "each: 1", "seed: x"]
)
def test_a_suite_with_odd_values(line: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(f"- data: sharp:x\n  {line}\n")
    with pytest.raises(ConfigError, match=line.split(":")[0]):
        read_suite(path)
