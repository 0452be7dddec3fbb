"""`models`, `info`, `summary`, `export`, `demo` and the version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import unblur as package
from tests.cli.test_run import unblur
from tests.inference.test_deblurrer import random_network
from unblur.cli.export import blurred_photos
from unblur.imaging import read_photo
from unblur.inference.runtimes.onnx import read_card
from unblur.models import create_model
from unblur.models.checkpoint import save_checkpoint


def test_version() -> None:
    result = unblur("--version")
    assert result.exit_code == 0
    assert package.__version__ in result.output


def test_every_command_explains_itself() -> None:
    for command in ("run", "demo", "models", "info", "summary", "export"):
        result = unblur(command, "--help")
        assert result.exit_code == 0
        assert "Usage" in result.output


def test_models() -> None:
    listed = unblur("models")
    assert listed.exit_code == 0
    assert "small" in listed.output
    cards = json.loads(unblur("models", "--json").stdout)
    assert [card["name"] for card in cards] == ["small", "base"]
    for card in cards:
        assert card["bytes"] == Path(card["file"]).stat().st_size


def test_info() -> None:
    facts = json.loads(unblur("info", "--json").stdout)
    assert facts["unblur"] == package.__version__
    assert "cpu" in facts["runtimes"]["onnxruntime"]
    assert "small" in facts["models"]
    assert "onnxruntime" in unblur("info").output


def test_summary_of_a_network_and_of_a_checkpoint(tmp_path: Path) -> None:
    text = unblur("summary", "light_unet").output
    for expected in ("6,754,302", "bottleneck", "120.3", "the whole image", "8.8 ×"):
        assert expected in text
    values = json.loads(unblur("summary", "res_unet", "--json").stdout)
    assert values["parameters"] + values["running_statistics"] == 972_739
    few = json.loads(unblur("summary", "light_unet", "--set", "start_filters=8", "--json").stdout)
    assert few["options"] == {"start_filters": 8}
    model = create_model("light_unet", start_filters=8)
    torch.save({"model_state_dict": model.state_dict()}, tmp_path / "best.pth")
    same = json.loads(unblur("summary", tmp_path / "best.pth", "--json").stdout)
    assert same["parameters"] == few["parameters"]
    assert same["options"]["start_filters"] == 8


@pytest.mark.slow
def test_summary_of_a_shipped_model() -> None:
    shipped = json.loads(unblur("summary", "base", "--json").stdout)
    assert shipped["network"] == "wiener_unet"
    card = next(c for c in json.loads(unblur("models", "--json").stdout) if c["name"] == "base")
    assert shipped["parameters"] == card["parameters"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["light_unett"], "Did you mean 'light_unet'"),
        (["light_unet", "--set", "filters=3"], "start_filters"),
        (["light_unet", "--set", "start_filters"], "OPTION=VALUE"),
        (["missing.pt"], "no such file"),
    ],
)
def test_summary_errors(arguments: list[str], message: str) -> None:
    result = unblur("summary", *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output


def test_a_checkpoint_is_exported_and_run(tmp_path: Path, scene: np.ndarray) -> None:
    from unblur.imaging import Photo, write_photo

    model = create_model("unet16", width=4)
    state = {"architecture": "unet16", "options": {"width": 4}, "state_dict": model.state_dict()}
    torch.save(state, tmp_path / "mine.pt")
    (tmp_path / "card.json").write_text(json.dumps({"licence": "CC0", "training_data": "none"}))
    made = tmp_path / "mine.onnx"
    exported = unblur("export", tmp_path / "mine.pt", "-o", made, "--card", tmp_path / "card.json")
    assert exported.exit_code == 0, exported.output
    card = json.loads(unblur("models", made, "--json").stdout)[0]
    assert (card["name"], card["licence"]) == ("mine", "CC0")
    write_photo(Photo(scene[:50, :61]), tmp_path / "a.png")
    assert unblur("run", tmp_path / "a.png", "--model", made).exit_code == 0
    assert read_photo(tmp_path / "a_sharp.png").pixels.shape == (50, 61, 3)
    assert unblur("export", tmp_path / "mine.pt", "-o", made).exit_code == 2
    (tmp_path / "card.json").write_text(json.dumps({"license": "MIT"}))
    wrong = unblur("export", "unet16", "-o", tmp_path / "b.onnx", "--card", tmp_path / "card.json")
    assert wrong.exit_code == 2
    assert "licence" in wrong.output
    new = tmp_path / "new.onnx"
    for field in ({"limits": 5}, {"trained_on": "abc"}, {"measured": {"set": {}}}):
        (tmp_path / "card.json").write_text(json.dumps(field))
        wrong = unblur("export", "unet16", "-o", new, "--card", tmp_path / "card.json")
        assert (wrong.exit_code, "card.json: " in wrong.output) == (2, True)
        assert not new.exists()
    inside = unblur("export", "unet16", "-o", tmp_path / "a.png" / "b.onnx")
    assert (inside.exit_code, "cannot be made" in inside.output) == (1, True)


def test_a_model_file_is_exported_anew_in_int8(tmp_path: Path, scene: np.ndarray) -> None:
    from unblur.imaging import Photo, write_photo

    fields = {"licence": "CC0", "trained_on": ["a"], "seconds_per_megapixel": {"here": 3}}
    (tmp_path / "card.json").write_text(json.dumps(fields))
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    network = random_network("unet16", width=4)
    save_checkpoint(tmp_path / "mine.safetensors", "unet16", {"width": 4}, network)
    made = unblur(
        "export", tmp_path / "mine.safetensors", "-o", first, "--card", tmp_path / "card.json"
    )
    assert made.exit_code == 0, made.output
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        write_photo(Photo(scene[200 * number :, : 300 + number]), photos / f"{number}.png")
    again = ("export", first, "-o", second, "--calibrate")
    made = unblur(*again, photos, "--name", "quick")
    assert made.exit_code == 0, made.output
    card = json.loads(unblur("models", second, "--json").stdout)[0]
    assert (card["name"], card["licence"], card["trained_on"]) == ("quick", "CC0", ["a"])
    assert (card["dtype"], card["arithmetic"]) == ("int8", "int8")
    assert card["seconds_per_megapixel"] == {}  # it is quicker than that
    assert "int8, computes in int8" in unblur("models", second).output
    assert unblur("run", photos / "0.png", "--model", second).exit_code == 0

    twice = unblur("export", second, "-o", tmp_path / "third.onnx")
    assert (twice.exit_code, "computes in int8; say with --calibrate" in twice.output) == (2, True)
    second.unlink()
    for arguments, message in [
        ((tmp_path / "absent",), "--calibrate: "),
        ((photos, "--stored", "float16"), "--calibrate: stores weights in int8, not float16"),
        ((photos, "--set", "width=4"), "--set is for architectures"),
    ]:
        wrong = unblur(*again, *arguments)
        assert (wrong.exit_code, message in wrong.output) == (2, True), wrong.output
        assert not second.exists()


def test_weights_are_averaged(tmp_path: Path) -> None:
    from unblur.inference.weights import load_network

    options = {"widths": [8, 8], "encoder_blocks": [1, 1], "decoder_blocks": [1]}
    networks = [random_network("unshuffle_unet", **options) for _ in range(3)]
    files = []
    for number, network in enumerate(networks):
        with torch.no_grad():
            for weights in network.parameters():
                weights += number / 100
        files.append(tmp_path / f"{number}.safetensors")
        training = {"trained_on": [f"GOPR{number}"]}
        save_checkpoint(files[-1], "unshuffle_unet", options, network, training)
    mean = tmp_path / "mean.onnx"
    made = unblur("export", files[0], "--average", files[1], "--average", files[2], "-o", mean)
    assert made.exit_code == 0, made.output
    found = load_network(mean)[2].state_dict()
    for name, weights in networks[0].named_parameters():
        others = [dict(network.named_parameters())[name] for network in networks]
        assert not torch.equal(weights, others[1])
        assert torch.allclose(found[name], sum(others) / 3, atol=1e-6)
    assert read_card(mean).trained_on == ["GOPR0", "GOPR1", "GOPR2"]
    untold = tmp_path / "untold.safetensors"
    save_checkpoint(untold, "unshuffle_unet", options | {"factor": 2}, networks[0])  # the default
    unblur("export", untold, "--average", files[0], "-o", mean, "--overwrite")
    assert read_card(mean).trained_on is None
    save_checkpoint(
        wider := tmp_path / "wider.safetensors",
        "unet16",
        {"width": 8},
        create_model("unet16", width=8),
    )
    for other, message in ((wider, "another network"), (tmp_path / "no.safetensors", "no such")):
        wrong = unblur("export", files[0], "--average", other, "-o", tmp_path / "new.onnx")
        assert (wrong.exit_code, message in wrong.output) == (1, True), wrong.output
        assert not (tmp_path / "new.onnx").exists()


def test_idle_channels_are_left_out(tmp_path: Path, scene: np.ndarray) -> None:
    from unblur.imaging import Photo, write_photo

    options = {"widths": [20, 40], "encoder_blocks": [1, 1], "decoder_blocks": [1]}
    network = random_network("unshuffle_unet", **options)
    with torch.no_grad():
        network.encoders[1][0].conv1.bias[3:] = -100
    save_checkpoint(tmp_path / "mine.safetensors", "unshuffle_unet", options, network)
    photo = tmp_path / "photo.png"
    write_photo(Photo(scene), photo)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(50):
        write_photo(Photo(scene[8 * number :][:64, :64]), photos / f"{number}.png")
    pruning = ("export", tmp_path / "mine.safetensors", "--prune", photos, "--prune-share=0", "-o")
    few = tmp_path / "few"
    few.mkdir()
    write_photo(Photo(scene), few / "photo.png")
    for kind in ((), ("--stored", "int8")):
        small, whole = tmp_path / "small.onnx", tmp_path / "whole.onnx"
        made = unblur(*pruning, small, *kind, "--overwrite")
        assert made.exit_code == 0, made.output
        assert "36,868 parameters of 54,172, " in made.output
        assert unblur(*pruning[:2], "-o", whole, *kind, "--overwrite").exit_code == 0
        assert read_card(small).options == {**options, "hidden": [20, 16, 20]}
        cards = (read_card(small), read_card(whole))
        assert [card.macs_per_megapixel for card in cards] == [5_800_000_000, 6_880_000_000]
        results = []
        for model in (small, whole):
            restored = model.with_suffix(".png")
            ran = unblur("run", photo, "--model", model, "-o", restored, "--overwrite")
            assert ran.exit_code == 0, ran.output
            results.append(read_photo(restored).pixels.astype(int))
        assert np.abs(results[0] - results[1]).max() <= 1
        assert np.abs(results[0] - scene).mean() > 1
    default = unblur(*pruning[:4], "-o", tmp_path / "smaller.onnx")
    assert "33,980 parameters of 54,172, " in default.output  # 16 channels of an awake block, too
    for arguments, message in [
        (("--prune", tmp_path / "absent"), "--prune: "),
        (("--prune", few), "50 photos are needed, it has 1 of 256 pixels"),
        (("--prune", photos, "--measured", tmp_path / "m.json"), "--prune and --average change"),
        (("--prune-share", "0.1"), "--prune-share: say with --prune on what photos"),
        (("--prune", photos, "--prune-share", "0.6"), "less than or equal to 0.5"),
    ]:
        wrong = unblur(*pruning[:2], *arguments, "-o", tmp_path / "new.onnx")
        assert (wrong.exit_code, message in wrong.output) == (2, True), wrong.output
    wrong = unblur("export", "unet16", *pruning[2:], tmp_path / "new.onnx")
    assert (wrong.exit_code, "networks of plain residual blocks" in wrong.output) == (2, True)
    assert not (tmp_path / "new.onnx").exists()


def test_what_int8_is_calibrated_on(tmp_path: Path, scene: np.ndarray) -> None:
    from unblur.imaging import Photo, write_photo

    for folder, strength in (("sharp", 1), ("blur", 0.5)):
        (tmp_path / folder).mkdir()
        for number in range(20):
            side = 20 if number % 3 else 220  # thumbnails show too little of what photos are
            picture = (scene[:side, 9 * number :][:, :300] * strength).astype(np.uint8)
            write_photo(Photo(picture), tmp_path / folder / f"{number:02}.png")
    given = list(blurred_photos("--calibrate", str(tmp_path / "sharp"), 16))
    assert {photo.shape for photo in given} == {(3, 220, 220)}
    assert len(given) == 7
    sharp = np.asarray(scene[:220, 40:260].transpose(2, 0, 1), np.float32) / 255
    assert 0.001 < np.abs(given[0] - sharp).mean() < 0.2  # it was blurred
    real = next(blurred_photos("--calibrate", f"flat:{tmp_path}", 16))
    assert (
        np.abs(real - (scene[:220, 40:260] * 0.5).astype(np.uint8).transpose(2, 0, 1) / 255).max()
        < 1e-6
    )


def test_demo(tmp_path: Path) -> None:
    result = unblur("demo", "-o", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    names = {"original.png", "blurred.png", "restored.png", "compare.png"}
    assert {p.name for p in (tmp_path / "demo").iterdir()} == names
    sharp, blurred, restored = (
        read_photo(tmp_path / "demo" / f"{name}.png").pixels.astype(float)
        for name in ("original", "blurred", "restored")
    )
    assert ((restored - sharp) ** 2).mean() < ((blurred - sharp) ** 2).mean()
    assert unblur("demo", "-o", tmp_path / "demo").exit_code == 2
    inside_a_file = unblur("demo", "-o", tmp_path / "demo" / "blurred.png" / "new")
    assert inside_a_file.exit_code == 1
    assert "cannot be made" in inside_a_file.output
    assert unblur("demo", "-o", tmp_path / "demo", "--overwrite").exit_code == 0
