"""Splits: whole sequences, always the same, and leaks counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.cli.test_run import unblur
from unblur.data import (
    ArraySource,
    DataError,
    Dataset,
    Pair,
    Split,
    find_leak,
    make_split,
    open_dataset,
    read_split,
    write_split,
)


def videos(counts: list[int], subsets: list[str] | None = None) -> Dataset:
    pairs = [
        Pair(
            f"s{number:03}/{frame:04}",
            f"s{number:03}",
            ArraySource("", None),  # type: ignore[arg-type]
            subset=subsets[number] if subsets else "",
        )
        for number, count in enumerate(counts)
        for frame in range(count)
    ]
    return Dataset("gopro:/made/up", "gopro", tuple(pairs))


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=60),
    seed=st.integers(0, 999),
    ratio=st.floats(0.05, 0.95),
    by=st.sampled_from(["sequences", "images"]),
)
def test_sequences_are_never_cut(counts: list[int], seed: int, ratio: float, by: str) -> None:
    dataset = videos(counts)
    split = make_split(dataset, "sequence", seed, ratio, by)  # type: ignore[arg-type]
    assert split == make_split(dataset, "sequence", seed, ratio, by)  # type: ignore[arg-type]
    assert split.train
    assert split.val
    assert not split.train.keys() & split.val.keys()
    train, val = split.part(dataset, "train"), split.part(dataset, "val")
    assert len(train) + len(val) == sum(counts)
    assert not {p.sequence for p in train} & {p.sequence for p in val}
    if by == "sequences":
        assert abs(len(split.train) - ratio * len(counts)) <= 1
    else:
        assert abs(len(train) - ratio * sum(counts)) <= max(counts)


def test_seeds_differ() -> None:
    dataset = videos([5] * 40)
    held = {tuple(make_split(dataset, seed=seed).val) for seed in range(10)}
    assert len(held) == 10
    assert len(make_split(dataset, seed=42).val) == 6  # 15 % of 40


def test_frames_by_position() -> None:
    split = make_split(videos([100, 100, 90, 20]), "frames", frames=[80, 1, 40])
    assert split.frames == (1, 40, 80)
    counts = split.train | split.val
    assert counts == {"s000": 3, "s001": 3, "s002": 3, "s003": 1}
    chosen = split.part(videos([100, 100, 90, 20]), "train")
    assert {pair.name[-4:] for pair in chosen} <= {"0000", "0039", "0079"}


def test_original() -> None:
    split = make_split(videos([3, 4, 5], ["train", "test", "train"]), "original")
    assert (split.train, split.val) == ({"s000": 3, "s002": 5}, {"s001": 4})
    with pytest.raises(DataError, match="no validation subset"):
        make_split(videos([3, 4], ["train", "train"]), "original")
    loose = videos([3, 4, 5], ["train", "test", ""])
    split = make_split(loose, "original")
    assert [len(split.part(loose, part)) for part in ("train", "val")] == [3, 4]
    two = videos([3, 4], ["train", "test"])
    below = [
        replace(p, sequence=p.sequence.replace("s001", "test/s000"), name=f"test/{p.name}")
        if p.subset == "test"
        else p
        for p in two.pairs
    ]
    with pytest.raises(DataError, match="test/s000 stands in both"):  # the same video, deeper down
        make_split(replace(two, pairs=tuple(below)), "original")


def test_leaks_are_counted() -> None:
    dataset = videos([10] * 20)
    first, second = make_split(dataset, seed=42), make_split(dataset, seed=123)
    leak = find_leak(first, second)
    expected = [name for name in first.val if name not in second.val]
    assert list(leak.sequences) == expected
    assert leak.images == 10 * len(expected)
    assert str(leak).startswith(f"LEAK: {len(expected)} of 3 validation sequences")
    assert find_leak(first, first).images == 0
    assert "no leak" in str(find_leak(first, first))


def test_files(tmp_path: Path) -> None:
    split = make_split(videos([3, 4, 5, 6]), "frames", frames=[1, 2])
    write_split(split, tmp_path / "s.json")
    again = read_split(tmp_path / "s.json")
    assert again == split
    assert again.digest == split.digest != make_split(videos([3, 4, 5, 6])).digest
    for wrong in ("", "[]", "{}", '{"format": "unblur-split-1"}', '{"format": "other"}'):
        (tmp_path / "w.json").write_text(wrong)
        with pytest.raises(DataError, match="is not a split file"):
            read_split(tmp_path / "w.json")
    with pytest.raises(DataError, match="No such file"):
        read_split(tmp_path / "none.json")


def test_impossible_splits_say_why() -> None:
    with pytest.raises(DataError, match="one sequence"):
        make_split(videos([9]))
    with pytest.raises(DataError, match="ratio"):
        make_split(videos([9, 9]), ratio=1.0)
    with pytest.raises(DataError, match="--frames"):
        make_split(videos([9, 9]), "frames")
    with pytest.raises(DataError, match="counted from 1"):
        make_split(videos([9, 9]), "frames", frames=[0])
    with pytest.raises(DataError, match="no sequence has a frame"):
        make_split(videos([9, 9]), "frames", frames=[50])
    with pytest.raises(DataError, match="knows nothing"):
        make_split(videos([9, 9])).part(videos([9] * 3), "train")


def test_the_commands_on_real_data(data: Path, tmp_path: Path) -> None:
    gopro = data / "gopro"
    assert "healthy" in unblur("data", "check", gopro).output
    for seed in (42, 1):
        made = unblur("data", "split", gopro, "--seed", seed, "-o", tmp_path / f"{seed}.json")
        assert made.exit_code == 0, made.output
    assert unblur("data", "split", gopro, "-o", tmp_path / "1.json").exit_code == 2
    leak = unblur("data", "leak", tmp_path / "42.json", tmp_path / "1.json")
    assert leak.exit_code == 1
    assert "LEAK: 1 of 1 validation sequences, 6 of 6 images" in leak.output
    assert unblur("data", "leak", tmp_path / "42.json", tmp_path / "42.json").exit_code == 0
    split = read_split(tmp_path / "42.json")
    assert len(split.part(open_dataset(gopro), "train")) == 5
    wrong = unblur("data", "check", f"hide:{gopro}")
    assert wrong.exit_code == 1
    assert "looks like gopro" in wrong.output
    bad = unblur(
        "data", "split", gopro, "--kind", "frames", "--frames", "1,x", "-o", tmp_path / "f"
    )
    assert bad.exit_code == 2


def test_names_that_may_be_the_same_stay_together(tmp_path: Path, scene: np.ndarray) -> None:
    for folder in (".", "2019", "2020/may"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in "abcdef":
            Image.fromarray(scene[:32, :32]).save(tmp_path / folder / f"{name}.png")
    split = make_split(open_dataset(f"sharp:{tmp_path}"), "sequence", seed=1, ratio=0.7)
    assert len(split.train) + len(split.val) == 18
    assert len(split.val) % 3 == 0
    assert find_leak(split, split).images == 0


def test_leaks_across_layouts() -> None:
    def split(train: list[str], val: list[str]) -> Split:
        return Split("sequence", "d", dict.fromkeys(train, 2), dict.fromkeys(val, 3))

    assert find_leak(split([], ["001"]), split(["train/001"], [])).images == 3
    assert find_leak(split([], ["train/001"]), split(["001"], [])).images == 3
    assert find_leak(split([], ["train/001"]), split(["val/001"], [])).images == 0
    assert find_leak(split([], ["a/train/001"]), split(["001"], [])).images == 3
    assert find_leak(split([], ["a/train/001"]), split(["train/001"], [])).images == 3
    assert find_leak(split([], ["a/train/001"]), split(["a/val/001"], [])).images == 0
    assert find_leak(split([], ["a/1001"]), split(["001"], [])).images == 0
    # Both names in one data set stay on one side.
    names = [f"train/{n}" for n in range(8)] + [str(n) for n in range(8)]
    source = ArraySource("x", np.zeros((4, 4, 3), np.uint8))
    pairs = tuple(Pair(name, name, source) for name in names)
    for seed in range(5):
        made = make_split(Dataset("mix", "mix", pairs), seed=seed)
        assert not find_leak(made, made).sequences
