"""Every layout: real data where it is at hand, small copies of published structures elsewhere."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.data import DataError, check_dataset, open_dataset, require_healthy
from unblur.data.layouts import detect


def picture(path: Path, size: tuple[int, int] = (24, 16), value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 50, 50)).save(path)


def test_real_gopro(data: Path) -> None:
    found = open_dataset(data / "gopro")
    assert (found.layout, len(found.pairs), len(found.sequences)) == ("gopro", 11, 3)
    assert found.spec == f"gopro:{data / 'gopro'}"
    first = found.pairs[0]
    assert (first.name, first.sequence, first.subset) == (
        "GOPR0374_11_00/000614",
        "GOPR0374_11_00",
        "train",
    )
    assert first.sharp.size() == (1280, 720)
    assert first.blurred is not None
    error = first.sharp.load().astype(float) - first.blurred.load()
    assert 5 < np.sqrt((error**2).mean()) < 40
    assert open_dataset(f"gopro:{data / 'gopro' / 'train'}").pairs[0].name == first.name


def test_real_reds_and_cifar_and_sharp(data: Path) -> None:
    reds = open_dataset(data / "reds")
    assert (reds.layout, len(reds.pairs)) == ("reds", 8)
    assert reds.sequences == ["train/000", "train/001"]
    inner = open_dataset(data / "reds" / "train")
    assert [pair.name for pair in inner.pairs] == [pair.name for pair in reds.pairs]
    cifar = open_dataset(data / "cifar-10-batches-py")
    assert (cifar.layout, len(cifar.pairs)) == ("cifar", 4200)
    assert cifar.pairs[0].sharp.load().shape == (32, 32, 3)
    assert {pair.subset for pair in cifar.pairs} == {"train", "test"}
    photos = open_dataset(data / "sharp" / "bsds500")
    assert (photos.layout, len(photos.sequences)) == ("sharp", 360)
    assert {pair.subset for pair in photos.pairs} == {"train", "val", "test"}
    raw = open_dataset(data / "gopro_240fps")
    assert raw.sequences == ["GOPR0477_11_00"]


def test_gopro_gamma_is_chosen_by_name(tmp_path: Path) -> None:
    for kind, value in (("blur", 1), ("blur_gamma", 2), ("sharp", 3)):
        picture(tmp_path / "test" / "GOPR1" / kind / "000001.png", value=value)
    assert detect(tmp_path) == "gopro"
    linear = open_dataset(f"gopro:{tmp_path}").pairs[0]
    gamma = open_dataset(f"gopro_gamma:{tmp_path}").pairs[0]
    assert linear.subset == "test"
    assert linear.blurred is not None
    assert gamma.blurred is not None
    assert (linear.blurred.load()[0, 0, 0], gamma.blurred.load()[0, 0, 0]) == (1, 2)


def test_reds_with_sharp_only(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "val_sharp" / "003" / "00000007.png")
    found = open_dataset(tmp_path)
    assert (found.layout, found.is_paired) == ("reds", False)
    assert (found.pairs[0].name, found.pairs[0].subset) == ("val/003/00000007", "val")


def test_hide(tmp_path: Path) -> None:
    for name in ("1fromGOPR0950.png", "22fromGOPR0951.png"):
        picture(tmp_path / "GT" / name)
    picture(tmp_path / "test" / "test-close-ups" / "1fromGOPR0950.png")
    picture(tmp_path / "test" / "test-long-shot" / "22fromGOPR0951.png")
    found = open_dataset(tmp_path)
    assert (found.layout, found.sequences) == ("hide", ["GOPR0950", "GOPR0951"])
    picture(tmp_path / "test" / "test-close-ups" / "3fromGOPR0950.png")
    with pytest.raises(DataError, match=r"3fromGOPR0950.png: no partner"):
        require_healthy(open_dataset(tmp_path))


def test_realblur(tmp_path: Path) -> None:
    lines = []
    for scene in ("scene001", "scene002"):
        for kind in ("gt", "blur"):
            picture(tmp_path / "RealBlur-J" / scene / kind / f"{kind}_1.png")
        lines.append(f"RealBlur-J/{scene}/gt/gt_1.png RealBlur-J/{scene}/blur/blur_1.png ")
    (tmp_path / "RealBlur_J_test_list.txt").write_text("\n".join(lines) + "\n")
    found = open_dataset(tmp_path)
    assert (found.layout, len(found.pairs), found.pairs[0].subset) == ("realblur", 2, "test")
    assert found.sequences == ["RealBlur-J/scene001", "RealBlur-J/scene002"]
    listing = tmp_path / "RealBlur_J_test_list.txt"
    assert len(open_dataset(f"realblur:{listing}").pairs) == 2
    listing.write_text("../../etc/passwd ../../etc/passwd\n")
    with pytest.raises(DataError, match="outside the data set"):
        open_dataset(tmp_path)


def test_rsblur(tmp_path: Path) -> None:
    picture(tmp_path / "0001" / "0003" / "real_blur" / "real_blur.png")
    picture(tmp_path / "0001" / "0003" / "gt" / "gt_sharp.png")
    found = open_dataset(tmp_path)
    assert (found.layout, found.pairs[0].name, found.sequences) == ("rsblur", "0001/0003", ["0001"])


@pytest.mark.parametrize("names", [("blur", "sharp"), ("input", "target")])
@pytest.mark.parametrize("subset", ["", "train"])
def test_flat(tmp_path: Path, names: tuple[str, str], subset: str) -> None:
    for side in names:
        picture(tmp_path / subset / side / "a.png")
        picture(tmp_path / subset / side / "clip" / "b.png")
    found = open_dataset(tmp_path)
    prefix = f"{subset}/" if subset else ""
    assert found.layout == "flat"
    assert [pair.name for pair in found.pairs] == [f"{prefix}a", f"{prefix}clip/b"]
    assert found.sequences == [f"{prefix}a", f"{prefix}clip"]


def test_partners_are_found_by_name_not_by_order(tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / "blur" / f"{number}.jpg", value=number * 40)
        picture(tmp_path / "sharp" / f"{number}.png", value=number * 40)
    (tmp_path / "blur" / "1.jpg").unlink()
    found = open_dataset(tmp_path)
    for pair in found.pairs:
        assert pair.blurred is not None
        assert abs(int(pair.blurred.load()[0, 0, 0]) - int(pair.sharp.load()[0, 0, 0])) < 8
    assert found.problems == (f"{tmp_path / 'sharp' / '1.png'}: no partner in {tmp_path / 'blur'}",)


def test_one_image(tmp_path: Path) -> None:
    picture(tmp_path / "one.jpg")
    assert open_dataset(tmp_path / "one.jpg").layout == "image"
    with pytest.raises(DataError, match="name the file itself"):
        open_dataset(f"image:{tmp_path}")


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("exploded"),))


def test_cifar_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content in ({b"data": Bomb()}, Bomb(), {b"data": [1, 2]}, {b"labels": []}, 3):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match="is no CIFAR-10 batch"):
            open_dataset(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02garbage")
    with pytest.raises(DataError, match="is no CIFAR-10 batch"):
        open_dataset(tmp_path)
    assert not (tmp_path / "exploded").exists()
    array = np.arange(2 * 3072, dtype=np.uint64).astype(np.uint8).reshape(2, 3072)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": array}, protocol=2))
    pairs = open_dataset(tmp_path).pairs
    assert len(pairs) == 2
    assert pairs[0].sharp.load()[0, 1].tolist() == [array[0, 1], array[0, 1025], array[0, 2049]]


def test_wrong_names_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no images in any known layout"):
        open_dataset(tmp_path)
    for kind in ("blur", "sharp"):
        picture(tmp_path / "GOPR1" / kind / "1.png")
    with pytest.raises(DataError, match="looks like gopro"):
        open_dataset(f"hide:{tmp_path}")
    with pytest.raises(DataError, match="unknown layout 'gopr'"):
        open_dataset(f"gopr:{tmp_path}")


def test_check_lists_every_problem(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / "blur" / f"{name}.png")
        picture(tmp_path / "sharp" / f"{name}.png")
    assert check_dataset(open_dataset(tmp_path)).problems == []
    picture(tmp_path / "blur" / "a.png", size=(20, 16))
    content = (tmp_path / "sharp" / "b.png").read_bytes()
    (tmp_path / "sharp" / "b.png").write_bytes(content[:40])
    (tmp_path / "blur" / "c.png").unlink()
    Image.new("L", (24, 16)).save(tmp_path / "sharp" / "d.png")
    report = check_dataset(open_dataset(tmp_path))
    assert len(report.problems) == 3
    text = "\n".join(report.problems)
    assert "a.png: is 20×16, its sharp partner 24×16" in text
    assert any("b.png" in line and "damaged" in line for line in report.problems)
    assert "c.png: no partner" in text
    assert report.remarks == ["1 images are grey; they are converted to 8-bit RGB"]


def test_converted_images(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 4), 514, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (4, 4), (1, 2, 3, 0)).save(tmp_path / "clear.png")
    loaded = {pair.name: pair.sharp.load() for pair in open_dataset(tmp_path).pairs}
    assert loaded["grey"][0, 0].tolist() == [7, 7, 7]
    assert loaded["deep"][0, 0].tolist() == [2, 2, 2]
    assert loaded["clear"][0, 0].tolist() == [1, 2, 3]


def test_names_that_clash(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        picture(tmp_path / "s" / name)
    found = open_dataset(tmp_path / "s")
    assert [pair.name for pair in found.pairs] == ["a.jpg", "a.png", "b"]
    assert found.sequences == ["a", "b"]  # neither is held back while the other one trains
    for subset in ("train", "test"):
        for side in ("blur", "sharp"):
            picture(tmp_path / "g" / subset / "GOPR1" / side / "1.png")
    with pytest.raises(DataError, match="has the same name"):
        require_healthy(open_dataset(tmp_path / "g"))


def test_missing_sides_are_told(tmp_path: Path) -> None:
    for side in ("blur", "sharp"):
        picture(tmp_path / "g" / "GOPR1" / side / "1.png")
        picture(tmp_path / "f" / "train" / side / "1.png")
    picture(tmp_path / "g" / "GOPR2" / "blur" / "1.png")
    picture(tmp_path / "f" / "test" / "blur" / "1.png")
    for root in ("g", "f"):
        assert "has no folder sharp" in open_dataset(tmp_path / root).problems[0]
    picture(tmp_path / "gamma" / "GOPR1" / "blur_gamma" / "1.png")
    picture(tmp_path / "gamma" / "GOPR1" / "sharp" / "1.png")
    assert detect(tmp_path / "gamma") == "gopro_gamma"


def test_pairs_beside_the_subsets_are_told(tmp_path: Path) -> None:
    def pair(folder: Path) -> None:
        for side in ("blur", "sharp"):
            picture(folder / side / "000001.png")

    for place in ("flat/train", "flat/validation", "flat", "gopro/train/A", "gopro/B", "gopro/C/D"):
        pair(tmp_path / place)
    for layout, others in (("flat", ["", "validation"]), ("gopro", ["B", "C"])):
        found = open_dataset(f"{layout}:{tmp_path / layout}")
        assert len(found.pairs) == 1
        places = [str(tmp_path / layout / other) for other in others]
        assert [problem.split(":")[0] for problem in found.problems] == places
        with pytest.raises(DataError, match="lies beside train, test, val"):
            require_healthy(found)


def test_links_and_specs(tmp_path: Path) -> None:
    picture(tmp_path / "real" / "1.png")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "sub").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "linked")
    assert [pair.name for pair in open_dataset(tmp_path / "linked").pairs] == ["sub/1"]
    for spec, message in (
        ("GoPro:/x", "unknown layout 'GoPro'"),
        ("", "names no path"),
        ("sharp:", "names no path"),
        ("/dev/null", "no such file or folder"),
        (f"prepared:{tmp_path / 'real'}", "it looks like sharp"),
        ("http://[", "is no URL"),
    ):
        with pytest.raises(DataError, match=message):
            open_dataset(spec)
    (tmp_path / "self.yaml").write_text(f"- {{data: {tmp_path / 'self.yaml'}}}")
    with pytest.raises(DataError, match="more than 5 deep"):
        open_dataset(tmp_path / "self.yaml")


def test_upright_sizes(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    source = open_dataset(tmp_path / "turned.jpg").pairs[0].sharp
    assert source.size() == (20, 40)
    assert source.load().shape == (40, 20, 3)
