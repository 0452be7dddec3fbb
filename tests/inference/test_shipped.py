"""The models in the package: small files, honest cards, the same result always, no harm."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur import Deblurrer, list_models, metrics
from unblur.blur import parse_degradation, spoil
from unblur.data import Split, find_leak, open_dataset
from unblur.evaluation import Protocol, SetSpec, open_set, read_suite
from unblur.inference.models import DEFAULT_MODEL, find_model
from unblur.inference.runtimes import installed_runtimes
from unblur.inference.weights import load_exported

ROOT = Path(__file__).parents[2]
SUITE = {spec.name: spec for spec in read_suite(ROOT / "benchmarks" / "suite.yaml")}
LARGEST = {"small": 10e6, "base": 12e6}  # bytes; the base install has a limit, too
CARDS = [pytest.param(card, id=card.name) for card in list_models()]


@pytest.fixture(scope="module")
def photos(data: Path) -> list[np.ndarray]:
    """None of them was trained on."""
    pairs = open_dataset(data / "sharp" / "bsds500" / "test").pairs
    return [pair.sharp.load() for pair in pairs[::10]]


NAMES = [
    pytest.param(card.name, marks=() if card.name == DEFAULT_MODEL else pytest.mark.slow)
    for card in list_models()
]


@pytest.fixture(scope="module", params=NAMES)
def deblurrer(request: pytest.FixtureRequest) -> Deblurrer:
    return Deblurrer(request.param, runtime="onnxruntime")


def blurred(photo: np.ndarray, blur: str | list[Any], seed: int = 0) -> np.ndarray:
    return spoil(parse_degradation(blur).draw(np.random.default_rng(seed)), photo)


def psnr(image: np.ndarray, sharp: np.ndarray) -> float:
    return metrics.psnr(image / np.float32(255), sharp / np.float32(255))


@pytest.mark.parametrize("card", CARDS)
def test_files_and_cards(card) -> None:  # type: ignore[no-untyped-def]
    assert find_model(card.name).stat().st_size <= LARGEST[card.name]
    assert card.description
    assert card.limits
    assert card.licence == "MIT"
    assert "BSDS500" in card.training_data
    assert card.trained_on
    assert card.macs_per_megapixel > 1e9
    assert card.seconds_per_megapixel
    assert len(card.weights_sha256) == 64
    assert card.statistics == 0  # tiles agree
    assert len(card.measured) >= 8
    for values in card.measured.values():
        assert values["psnr"] > 0
    assert set(card.measured) == set(SUITE)
    source = json.loads((ROOT / "recipes" / f"{card.name}.card.json").read_text())
    assert {key: asdict(card)[key] for key in source} == source


@pytest.mark.parametrize("card", CARDS)
def test_the_weights_are_those_of_the_card(card) -> None:  # type: ignore[no-untyped-def]
    architecture, options, network = load_exported(find_model(card.name))
    assert (architecture, options) == (card.architecture, card.options)
    assert sum(weights.numel() for weights in network.parameters()) == card.parameters


@pytest.mark.parametrize("card", CARDS)
def test_nothing_was_trained_on_that_it_is_measured_on(card, data: Path) -> None:  # type: ignore[no-untyped-def]
    trained = Split("sequence", "", dict.fromkeys(card.trained_on, 1), {})

    def leaks(spec: SetSpec) -> set[str]:
        sequences = dict(open_set(spec, data).sequences)
        return set(find_leak(Split("sequence", "", {}, sequences), trained).sequences)

    for spec in SUITE.values():
        assert not leaks(spec), spec.data
    assert leaks(SetSpec("gopro:gopro")) == {"GOPR0384_11_02", "GOPR0477_11_00"}
    assert leaks(SetSpec("reds:reds")) == {"train/000"}
    assert len(leaks(SetSpec("sharp:sharp/bsds500"))) == 300  # without test
    assert len(leaks(SetSpec("sharp:sharp/urban100"))) == 20


def test_the_same_result_always(deblurrer: Deblurrer, photos: list[np.ndarray]) -> None:
    photo = blurred(photos[0], "gaussian:sigma=1.2")
    first = deblurrer.restore_pixels(photo)
    again = Deblurrer(deblurrer.card.name, runtime="onnxruntime").restore_pixels(photo)
    assert np.array_equal(first, again)
    assert np.array_equal(first, deblurrer.restore_pixels(photo))


@pytest.mark.parametrize("blur", ["none", "gaussian:size=3,sigma=0.3"])
def test_sharp_photos_stay_as_they_are(
    blur: str, deblurrer: Deblurrer, photos: list[np.ndarray]
) -> None:
    kept = [psnr(deblurrer.restore_pixels(blurred(photo, blur)), photo) for photo in photos]
    assert np.mean(np.minimum(kept, 100)) > 50
    assert min(kept) > 44


def measured(
    name: str, deblurrer: Deblurrer, data: Path, count: int | None = None, shift: int = 0
) -> np.ndarray:
    """dB of the blurred and the restored images of a set of the suite."""

    def quality(image: np.ndarray, sharp: np.ndarray) -> float:
        value = Protocol(shift=shift).measure(image / np.float32(255), sharp, ["psnr"])["psnr"]
        assert value is not None
        return value

    examples = [case.load() for case in open_set(replace(SUITE[name], count=count), data).cases]
    return np.array(
        [
            [
                quality(each.blurred, each.sharp),
                quality(deblurrer.restore_pixels(each.blurred), each.sharp),
            ]
            for each in examples
        ]
    )


# Some images lose (docs/models.md): of a tenth of the photos, not more of them, and not more dB.
def test_harm_is_where_it_is_known(deblurrer: Deblurrer, data: Path) -> None:
    pairs = measured("BSDS500 test × 12 kernels, noise 1/255", deblurrer, data, count=6)
    gains = pairs[:, 1] - pairs[:, 0]
    assert gains.mean() > 1.5
    assert gains.min() > -0.25
    assert np.count_nonzero(gains < -0.1) <= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("GoPro GOPR0374_11_00", {"small": (1.0, 0.0, 0), "base": (0.9, -0.1, 0)}),
        ("REDS 001", {"small": (1.9, 1.1, 0), "base": (2.2, 1.3, 0)}),
    ],
)
def test_real_pairs_as_the_card_says(
    name: str, bounds: dict[str, tuple[float, float, int]], deblurrer: Deblurrer, data: Path
) -> None:
    gain, worst, losing = bounds[deblurrer.card.name]
    pairs = measured(name, deblurrer, data)
    given, restored = pairs.mean(axis=0)
    told = deblurrer.card.measured[name]
    assert restored == pytest.approx(told["psnr"], abs=0.02)
    assert given == pytest.approx(told["psnr_input"], abs=0.01)
    gains = pairs[:, 1] - pairs[:, 0]
    assert gains.mean() > gain
    assert gains.min() > worst
    assert np.count_nonzero(gains < -0.1) <= losing


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GoPro GOPR0374_11_00", "REDS 001"])
def test_what_loses_most_is_sharp_but_displaced(
    name: str, deblurrer: Deblurrer, data: Path
) -> None:
    given, restored = measured(name, deblurrer, data, shift=4).T
    assert (restored - given).min() > -0.1


@pytest.mark.parametrize(
    ("blur", "gain"),
    [
        ("gaussian:size=7,sigma=1", 2.5),
        ("gaussian:size=11,sigma=1.6", 2.2),
        ([{"linear_light": [{"defocus": {"radius": 3}}]}], 2.6),
        (
            [
                {"linear_light": [{"shake": {"extent": 8, "exposure": 0.5}}]},
                {"noise": {"read": 0.004}},
            ],
            0.5,
        ),
    ],
)
def test_blurred_photos_gain(
    blur: str | list[Any], gain: float, deblurrer: Deblurrer, photos: list[np.ndarray]
) -> None:
    gains = []
    for seed, photo in enumerate(photos):
        given = blurred(photo, blur, seed)
        gains.append(psnr(deblurrer.restore_pixels(given), photo) - psnr(given, photo))
    assert np.mean(gains) > gain
    assert min(gains) > -0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "blur", ["gaussian:size=11,sigma=1.6", [{"linear_light": [{"defocus": {"radius": 3}}]}]]
)
@pytest.mark.parametrize("name", ["small", "base"])
def test_best_restores_better(name: str, blur: str | list[Any], photos: list[np.ndarray]) -> None:
    photos = photos[:3]  # `--best` takes eight times as long
    given = [blurred(photo, blur) for photo in photos]
    means = []
    for best in (False, True):
        model = Deblurrer(name, runtime="onnxruntime", best=best)
        pairs = zip(given, photos, strict=True)
        means.append(np.mean([psnr(model.restore_pixels(image), photo) for image, photo in pairs]))
    assert means[0] < means[1]


def test_in_bf16_as_well(deblurrer: Deblurrer, photos: list[np.ndarray]) -> None:
    if "openvino-bf16" not in installed_runtimes():
        pytest.skip("this processor has no bf16")
    quicker = Deblurrer(deblurrer.card.name, runtime="openvino-bf16")
    assert quicker.runtime == "openvino-bf16"
    if not deblurrer.card.bf16:  # computed in float32 instead
        exact = Deblurrer(deblurrer.card.name, runtime="openvino")
        given = blurred(photos[0], "gaussian:size=11,sigma=1.6")
        assert np.array_equal(quicker.restore_pixels(given), exact.restore_pixels(given))
        return
    differences = []
    for photo in photos:
        given = blurred(photo, "gaussian:size=11,sigma=1.6")
        exact, rounded = deblurrer.restore_pixels(given), quicker.restore_pixels(given)
        assert 45 < psnr(rounded, exact) < 90
        differences.append(psnr(rounded, photo) - psnr(exact, photo))
        assert psnr(quicker.restore_pixels(photo), deblurrer.restore_pixels(photo)) > 50
    assert max(map(abs, differences)) < 0.03
    assert abs(np.mean(differences)) < 0.01
