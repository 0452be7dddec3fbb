"""Samples: alike for any number of workers, never augmented in validation, blurred at borders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from unblur.blur import GaussianBlur, ShakeBlur, parse_degradation
from unblur.blur.degradation import Degradation
from unblur.data import (
    ArraySource,
    Augmentation,
    DataError,
    ImageCache,
    Pair,
    Positions,
    Samples,
    averaged,
    in_patches,
    open_dataset,
    resized,
    without_blurred,
)
from unblur.data.samples import _region
from unblur.data.sources import FileSource


def pairs_of(scene: np.ndarray, count: int = 6, blurred: bool = False) -> list[Pair]:
    pairs = []
    for index in range(count):
        part = scene[index * 60 : index * 60 + 100, 200:340]
        source = ArraySource(f"scene {index}", part)
        other = ArraySource(f"dark {index}", part // 2) if blurred else None
        pairs.append(Pair(f"s{index}", f"s{index}", source, other))
    return pairs


def collected(samples: Samples, epoch: int, workers: int, start: int = 0) -> list[torch.Tensor]:
    loader = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=2,
        sampler=Positions(len(samples), epoch, start),
        num_workers=workers,
    )
    return [torch.cat([batch["blurred"], batch["sharp"]]) for batch in loader]


def test_the_same_samples_for_any_number_of_workers(scene: np.ndarray) -> None:
    samples = Samples(
        pairs_of(scene),
        parse_degradation("photo"),
        crop=64,
        augmentation=Augmentation(jitter=0.1, scale=(0.7, 1.0)),
    )
    alone = collected(samples, epoch=1, workers=0)
    for workers in (1, 3):
        others = collected(samples, epoch=1, workers=workers)
        assert all(torch.equal(a, b) for a, b in zip(alone, others, strict=True))
    resumed = collected(samples, epoch=1, workers=0, start=2)
    assert all(torch.equal(a, b) for a, b in zip(alone[1:], resumed, strict=True))
    other_epoch = collected(samples, epoch=2, workers=0)
    assert not any(torch.equal(a, b) for a, b in zip(alone, other_epoch, strict=True))
    other_seed = Samples(
        samples.pairs, samples.degradation, crop=64, augmentation=Augmentation(), seed=7
    )
    assert not torch.equal(collected(other_seed, 1, 0)[0], alone[0])


def test_ranks_share_an_epoch_without_overlap() -> None:
    parts = [list(Positions(11, epoch=3, rank=rank, ranks=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [5, 5]
    assert sorted(parts[0] + parts[1]) == list(range(33, 43))
    assert list(Positions(11, 3, start=4, rank=1, ranks=2)) == [38, 40, 42]


def test_validation_is_never_augmented(scene: np.ndarray) -> None:
    pairs = pairs_of(scene, blurred=True)
    samples = Samples(pairs, crop=(32, 48))
    for epoch in (0, 5):
        for index, pair in enumerate(pairs):
            sample = samples[epoch * len(samples) + index]
            expected = pair.sharp.load()[34:66, 46:94].transpose(2, 0, 1) / 255
            assert np.allclose(sample["sharp"], expected)
            assert sample["name"] == pair.name
    blurred = Samples(pairs_of(scene), parse_degradation("cifar"), crop=32)
    assert np.array_equal(blurred[1]["blurred"], blurred[1 + 3 * len(blurred)]["blurred"])


def test_an_epoch_visits_every_pair(scene: np.ndarray) -> None:
    samples = Samples(
        pairs_of(scene, blurred=True), crop=16, augmentation=Augmentation(), length=14
    )
    names = [samples[position]["name"] for position in range(28)]
    assert len(set(names[:6])) == len(set(names[6:12])) == 6
    assert names[:6] != names[6:12]
    assert max(Counter(names[:14]).values()) <= 3


def test_weights(scene: np.ndarray) -> None:
    pairs = pairs_of(scene, 2, blurred=True)
    pairs = [
        Pair(p.name, p.sequence, p.sharp, p.blurred, weight=w)
        for p, w in zip(pairs, (1, 4), strict=True)
    ]
    samples = Samples(pairs, crop=16, augmentation=Augmentation(), length=400)
    counts = Counter(samples[position]["name"] for position in range(400))
    assert 290 < counts["s1"] < 350


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(5, 60),
    width=st.integers(5, 60),
    scale=st.floats(0.3, 1),
    position=st.integers(0, 1000),
)
def test_crops_of_any_size(height: int, width: int, scale: float, position: int) -> None:
    rng = np.random.default_rng(0)
    pair = Pair("p", "p", ArraySource("p", rng.integers(0, 256, (60, 60, 3)).astype(np.uint8)))
    samples = Samples(
        [pair],
        Degradation(ShakeBlur(9.0)),
        crop=(height, width),
        augmentation=Augmentation(rotations=True, scale=scale),
        value_range="symmetric",
    )
    sample = samples[position]
    assert sample["blurred"].shape == sample["sharp"].shape == (3, height, width)
    assert sample["blurred"].dtype == sample["sharp"].dtype == np.float32
    assert -1 <= sample["sharp"].min() < 0 < sample["sharp"].max() <= 1


def test_wide_blur_around_a_scaled_crop_stays_inside_the_image() -> None:
    """Where it touches the edge, rounding put the part that is resized a hair outside."""
    pair = Pair("p", "p", ArraySource("p", np.zeros((400, 300, 3), np.uint8)))
    blur = Degradation(GaussianBlur(20.0))
    for scale in (0.857, 0.777, 0.6):
        samples = Samples([pair], blur, crop=96, augmentation=Augmentation(scale=(scale, scale)))
        for position in range(40):
            assert samples[position]["blurred"].shape == (3, 96, 96)
    for left in range(190):
        place = (left, left, 112, 112)
        image = np.zeros((302, 302, 3), np.uint8)
        part, corner = _region(image, place, (96, 96), 60)
        assert part.shape[0] >= corner[0] + 96


def test_a_crop_is_blurred_by_what_lies_around_it() -> None:
    white_outside = np.full((96, 96, 3), 255, np.uint8)
    white_outside[32:64, 32:64] = 0
    pair = Pair("p", "p", ArraySource("p", white_outside))
    sample = Samples([pair], Degradation(GaussianBlur(3.0)), crop=32)[0]
    assert sample["sharp"].max() == 0
    assert sample["blurred"][:, 0, 16].min() > 0.3


def test_what_is_kept_is_in_both(data: Path) -> None:
    pairs = open_dataset(data / "sharp" / "bsds500" / "test").pairs[:1]
    for scale in (1.0, 0.7):
        augmentation = Augmentation(scale=(scale, scale))
        kept = parse_degradation([{"keep": [{"noise": {"read": 0.02}}]}, "none"])
        sample = Samples(pairs, kept, crop=64, augmentation=augmentation)[0]
        plain = Samples(pairs, parse_degradation("none"), crop=64, augmentation=augmentation)[0]
        assert np.array_equal(sample["blurred"], sample["sharp"])
        assert 0.01 < np.std(sample["sharp"] - plain["sharp"]) < 0.03


def test_augmentation_is_the_same_on_both(scene: np.ndarray) -> None:
    part = scene[300:420, 300:420]
    pair = Pair("p", "p", ArraySource("a", part), ArraySource("b", part.copy()))
    samples = Samples([pair], crop=64, augmentation=Augmentation(jitter=0.1, scale=(0.6, 1.0)))
    seen = [samples[position] for position in range(12)]
    assert all(np.array_equal(sample["blurred"], sample["sharp"]) for sample in seen)
    assert not any(np.array_equal(seen[0]["sharp"], sample["sharp"]) for sample in seen[1:])
    brightness = [sample["sharp"].mean() for sample in seen]
    assert 0.005 < np.std(brightness) < 0.1


def test_real_pairs_from_files_with_a_cache(data: Path, tmp_path: Path) -> None:
    pairs = open_dataset(data / "gopro").pairs[:3]
    memory = Samples(pairs, crop=128, augmentation=Augmentation())
    disk = Samples(pairs, crop=128, augmentation=Augmentation(), cache=ImageCache(tmp_path / "c"))
    none = Samples(pairs, crop=128, augmentation=Augmentation(), cache=ImageCache(limit=0))
    for position in range(4):
        results = [samples[position]["blurred"] for samples in (memory, disk, disk, none)]
        assert all(np.array_equal(result, results[0]) for result in results)
    assert 2 <= len(list((tmp_path / "c").glob("*.npy"))) <= 6


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cache = ImageCache(tmp_path / "cache")
    for value, size in ((10, 20), (200, 30)):
        Image.new("RGB", (size, size), (value, 0, 0)).save(path)
        assert cache.load(FileSource(path))[0, 0, 0] == value


def test_a_full_cache_only_stops_growing(tmp_path: Path, scene: np.ndarray) -> None:
    paths = []
    for index in range(4):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(scene[:50, :50] // (index + 1)).save(paths[-1])
    cache = ImageCache(tmp_path / "cache", limit=2 * 50 * 50 * 3)
    for _ in range(2):
        for index, path in enumerate(paths):
            assert np.array_equal(cache.load(FileSource(path)), scene[:50, :50] // (index + 1))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2
    # By default all that the disk has room for, whatever lies there already.
    for path in paths:
        ImageCache(tmp_path / "cache").load(FileSource(path))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="cannot be used as cache"):
        ImageCache(blocked / "cache")


def test_patches_and_sizes(data: Path) -> None:
    frames = resized(open_dataset(data / "reds"), 288, 512)
    assert frames.pairs[0].sharp.load().shape == (288, 512, 3)
    patches = in_patches(frames, 3, 4)
    assert len(patches.pairs) == 12 * len(frames.pairs)
    assert patches.pairs[0].sharp.size() == (128, 96)
    whole = frames.pairs[0].sharp.load()
    assert np.array_equal(patches.pairs[5].sharp.load(), whole[96:192, 128:256])
    samples = Samples(patches.pairs[:12], crop=None)
    assert samples[5]["sharp"].shape == (3, 96, 128)
    assert {patch.sequence for patch in patches.pairs} == set(frames.sequences)


def test_frames_averaged_on_the_fly(data: Path) -> None:
    from unblur.blur import FrameAverage

    raw = open_dataset(data / "gopro_240fps")
    pairs = averaged(raw, FrameAverage(7, stride=2)).pairs
    assert len(pairs) == 3
    assert pairs[0].name.startswith("GOPR0477_11_00/000234")
    sample = Samples(pairs, crop=256)[0]
    assert 0.005 < np.abs(sample["blurred"] - sample["sharp"]).mean() < 0.1
    assert abs(sample["blurred"].mean() - sample["sharp"].mean()) < 2e-3
    with pytest.raises(DataError, match="enough consecutive frames"):
        averaged(raw, FrameAverage(13))


def test_mistakes(scene: np.ndarray, data: Path) -> None:
    pairs = pairs_of(scene)
    with pytest.raises(DataError, match="smaller than the crop of 200×120"):
        Samples(pairs, parse_degradation("cifar"), crop=(120, 200))
    with pytest.raises(DataError, match="no blurred partner"):
        Samples(pairs, crop=16)
    with pytest.raises(DataError, match="no images"):
        Samples([])
    with pytest.raises(DataError, match="jitter"):
        Augmentation(jitter=1.5)
    with pytest.raises(DataError, match="scale"):
        Augmentation(scale=(0.5, 2))
    odd = Pair("o", "o", pairs[0].sharp, ArraySource("small one", scene[:50, :50]))
    with pytest.raises(DataError, match="small one: is 50×50, its sharp partner 140×100"):
        Samples([odd], crop=16)[0]
    gopro = without_blurred(open_dataset(data / "gopro"))
    with pytest.raises(DataError, match="no blurred partner"):
        Samples(gopro.pairs)


def test_an_epoch_can_be_gone_through(scene: np.ndarray) -> None:
    samples = Samples(pairs_of(scene, blurred=True), crop=16)
    assert [sample["name"] for sample in samples] == [f"s{n}" for n in range(6)]


def test_frames_of_single_photos_are_refused(scene: np.ndarray) -> None:
    with pytest.raises(DataError, match="must be averaged before"):
        Samples(pairs_of(scene), parse_degradation("gopro-frames"), crop=16)
    for wrong in ({"crop": 0}, {"crop": -5}, {"value_range": "Symmetric"}):
        with pytest.raises(DataError):
            Samples(pairs_of(scene, blurred=True), **wrong)  # type: ignore[arg-type]
    for wrong in ({"start": 12}, {"rank": 3, "ranks": 2}, {"ranks": 0}):
        with pytest.raises(DataError):
            Positions(10, **wrong)
