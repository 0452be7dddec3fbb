"""Steps, presets and specs: seeded, composable, alike on arrays and tensors, honest records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from unblur.blur import (
    STEPS,
    BlurError,
    Choice,
    DefocusBlur,
    FrameAverage,
    GaussianBlur,
    Jpeg,
    Keep,
    LinearLight,
    LinearMotionBlur,
    LogUniform,
    MeasuredBlur,
    ObjectMotion,
    OneOf,
    PillowGaussianBlur,
    Rescale,
    Saturation,
    SensorNoise,
    Sequential,
    ShakeBlur,
    Sharpen,
    Shuffled,
    Sometimes,
    Step,
    SwayBlur,
    Unchanged,
    VaryingBlur,
    WebP,
    aperture_kernel,
    average_frames,
    build_degradation,
    convolve,
    convolve_kernels,
    gaussian_kernel,
    list_presets,
    motion_kernel,
    parse_degradation,
    pillow_gaussian_kernel,
    read_kernel,
    spoil,
    srgb_to_linear,
)

ALL_STEPS: list[Step] = [
    Unchanged(),
    GaussianBlur((0.0, 3.0)),
    GaussianBlur(2.0, ratio=(0.2, 0.9)),
    PillowGaussianBlur(2.5),
    ShakeBlur(LogUniform(2, 20), exposure=(0.1, 1)),
    ShakeBlur(12.0, frames=(7, 13), softness=0.5),
    SwayBlur(LogUniform(2, 20), smoothness=(0.1, 2), centre="middle"),
    LinearMotionBlur((2.0, 15.0)),
    DefocusBlur((1.0, 6.0)),
    DefocusBlur(5.0, blades=Choice((5, 6))),
    VaryingBlur(ShakeBlur((3.0, 9.0))),
    ObjectMotion(LinearMotionBlur(9.0)),
    Saturation(),
    SensorNoise(0.01, 0.001),
    Rescale((0.4, 1.0)),
    Sharpen((0.2, 0.8)),
    Jpeg((60, 95)),
    WebP((60, 95)),
    Sequential((GaussianBlur(1.0), Jpeg(80))),
    Shuffled((GaussianBlur(1.0), SensorNoise(0.02), Rescale(0.7))),
    OneOf((GaussianBlur(1.0), DefocusBlur(2.0)), (1, 3)),
    Sometimes(0.5, (GaussianBlur(1.0),)),
    LinearLight((ShakeBlur(9.0), SensorNoise(0.01))),
    LinearLight((DefocusBlur(2.0),), gamma=2.2),
    Keep((Jpeg(80),)),
]
BLURS = [s for s in ALL_STEPS if "Blur" in type(s).__name__ or isinstance(s, ObjectMotion)]
NOT_NOISY = [
    s
    for s in ALL_STEPS
    if not isinstance(s, SensorNoise | Shuffled | Rescale) and "noise" not in repr(s).lower()
]


def name_of(step: Step) -> str:
    return f"{step.name}-{repr(step)[:30]}"


@pytest.fixture
def photo(scene: np.ndarray) -> np.ndarray:
    return (scene[300:396, 300:428] / 255).astype(np.float32)


def test_every_step_is_tested() -> None:
    assert {step.name for step in ALL_STEPS} | {"kernels"} == set(STEPS)


@pytest.mark.parametrize("step", ALL_STEPS, ids=name_of)
def test_drawn_once_does_the_same_always(step: Step, photo: np.ndarray) -> None:
    before = photo.copy()
    results = [step.draw(np.random.default_rng(3))(photo) for _ in range(2)]
    drawn = step.draw(np.random.default_rng(3))
    again = [drawn(photo), drawn(photo)]
    for result in (*results, *again):
        assert result.shape == photo.shape
        assert result.dtype == np.float32
        assert np.array_equal(result, results[0])
    assert np.array_equal(photo, before)
    json.dumps(drawn.records)
    assert drawn.reach < 60


@pytest.mark.parametrize("step", NOT_NOISY, ids=name_of)
def test_tensors_as_arrays(step: Step, photo: np.ndarray) -> None:
    drawn = step.draw(np.random.default_rng(1))
    array, tensor = drawn(photo), drawn(torch.from_numpy(photo))
    assert isinstance(tensor, torch.Tensor)
    assert np.abs(array - tensor.numpy()).max() < 2e-3


def test_resizing_tensors_as_arrays(photo: np.ndarray) -> None:
    drawn = Rescale(0.6).draw(np.random.default_rng(1))
    assert np.abs(drawn(photo) - drawn(torch.from_numpy(photo)).numpy()).mean() < 2e-3


def test_noise_on_tensors_has_the_same_statistics() -> None:
    drawn = SensorNoise(0.02, 0.001).draw(np.random.default_rng(1))
    flat = np.full((200, 200, 3), 0.25, np.float32)
    for noisy in (drawn(flat), drawn(torch.from_numpy(flat)).numpy()):
        assert noisy.mean() == pytest.approx(0.25, abs=4e-4)
        assert noisy.std() == pytest.approx(np.sqrt(0.02**2 + 0.001 * 0.25), rel=0.02)


@pytest.mark.parametrize("step", BLURS, ids=name_of)
def test_blurs_keep_flat_areas_and_brightness(step: Step, scene: np.ndarray) -> None:
    photo = (scene / 255).astype(np.float32)
    for seed in range(3):
        drawn = step.draw(np.random.default_rng(seed))
        for kernel in drawn.kernels:
            assert kernel.sum() == pytest.approx(1, abs=1e-5)
            assert kernel.min() >= 0
            assert kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1
        assert np.allclose(drawn(np.full((60, 70, 3), 0.3, np.float32)), 0.3, atol=1e-5)
        assert drawn(photo).mean() == pytest.approx(photo.mean(), rel=3e-3)
        half = np.zeros((80, 80, 3), np.float32)
        half[:, :20] = 1  # wrap-around would carry light to the other side
        assert drawn(half)[:, -20:].max() < 1e-4


@pytest.mark.parametrize("step", BLURS, ids=name_of)
def test_a_crop_with_its_reach_blurs_as_the_whole(step: Step, scene: np.ndarray) -> None:
    drawn = step.draw(np.random.default_rng(5))
    if not drawn.uniform:
        pytest.skip("depends on the place in the photo")
    photo = (scene / 255).astype(np.float32)
    reach = drawn.reach
    whole = drawn(photo)[200:264, 300:364]
    part = drawn(photo[200 - reach : 264 + reach, 300 - reach : 364 + reach])
    assert np.allclose(part[reach : reach + 64, reach : reach + 64], whole, atol=1e-5)


def test_pillows_gaussian_is_pillows() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (120, 120, 3)).astype(np.uint8)
    for radius in (0.5, 1.0, 2.0, 5.0, 7.3):
        expected = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(radius)))
        result = spoil(PillowGaussianBlur(radius).draw(rng), noise)
        inner = np.s_[30:-30, 30:-30]  # Pillow repeats the edge instead of mirroring it
        difference = np.abs(result[inner].astype(int) - expected[inner])
        assert difference.max() <= 2  # it rounds after each of six passes
    assert pillow_gaussian_kernel(0).max() == 1


def test_directions_of_kernels() -> None:
    level = gaussian_kernel(3, 21, 0.2, 0)
    assert level.sum(axis=0).max() < level.sum(axis=1).max()  # spread along x
    assert np.allclose(gaussian_kernel(3, 21, 0.2, 90), level.T, atol=1e-6)
    rising = motion_kernel(10, 45)
    assert rising[0, -1] + rising[1, -2] > 0.01  # up and to the right
    assert rising[0, 0] == rising[1, 1] == 0
    assert motion_kernel(0).tolist() == [[1]]
    second = (motion_kernel(12, 0) * (np.arange(13) - 6) ** 2).sum()
    assert second == pytest.approx(12**2 / 12, rel=0.05)


def test_apertures() -> None:
    square = aperture_kernel(8, 4, 45)  # turned to stand on a side
    inside = square[8 - 4 : 8 + 5, 8 - 4 : 8 + 5]
    assert inside.std() < 1e-6
    assert square[8, 0] == 0
    area = (aperture_kernel(10, 6) / aperture_kernel(10, 6).max()).sum()
    assert area == pytest.approx(1.5 * np.sqrt(3) * 100, rel=0.02)


def test_two_kernels_as_one() -> None:
    first, second = motion_kernel(7, 30), gaussian_kernel(1.0)
    both = convolve_kernels(first, second)
    image = np.random.default_rng(0).random((60, 60, 1), np.float32)
    at_once = convolve(image, both, "valid")
    in_turn = convolve(convolve(image, first, "valid"), second, "valid")
    assert np.allclose(at_once, in_turn, atol=1e-5)


def test_measured_kernels(data: Path) -> None:
    step = MeasuredBlur(data / "kernels", flip=True)
    names = {step.draw(np.random.default_rng(seed)).records[0]["file"] for seed in range(60)}
    assert len(names) == 12
    kernel = read_kernel(data / "kernels" / "kair_01.npy")
    assert kernel.shape == (25, 25)


def test_kernel_files(tmp_path: Path) -> None:
    np.save(tmp_path / "even.npy", np.ones((4, 6)))
    assert read_kernel(tmp_path / "even.npy").shape == (5, 7)
    Image.new("L", (9, 9), 200).save(tmp_path / "grey.png")
    assert np.allclose(read_kernel(tmp_path / "grey.png"), 1 / 81)
    for name, values in (
        ("negative", -np.ones((3, 3))),
        ("zero", np.zeros((3, 3))),
        ("nan", np.full((3, 3), np.nan)),
        ("cube", np.ones((3, 3, 3))),
        ("large", np.ones((2000, 3))),
        ("objects", np.array([[{}]])),
    ):
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(BlurError, match=name):
            read_kernel(tmp_path / f"{name}.npy")
    with (tmp_path / "bomb.npy").open("wb") as file:  # 32 TB, as it says
        header = {"descr": "<f8", "fortran_order": False, "shape": (2**21, 2**21)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(80))
    with pytest.raises(BlurError, match=r"bomb\.npy: is no kernel"):
        read_kernel(tmp_path / "bomb.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(BlurError, match=r"text\.npy"):
        read_kernel(tmp_path / "text.npy")
    with pytest.raises(BlurError, match="no such"):
        MeasuredBlur(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BlurError, match="no kernels"):
        MeasuredBlur(tmp_path / "empty")


def test_real_frames_averaged_look_like_a_real_gopro_blur(data: Path) -> None:
    paths = sorted((data / "gopro_240fps" / "GOPR0477_11_00").glob("*.png"))
    frames = [np.asarray(Image.open(path)) for path in paths]
    middle = frames[len(frames) // 2].astype(float)

    def likeness(blurred: np.ndarray, sharp: np.ndarray) -> tuple[float, float, float]:
        """PSNR, change of brightness, and how much of the fine contrast is left."""
        psnr = 10 * np.log10(255**2 / np.mean((blurred - sharp) ** 2))
        fine = [np.abs(np.diff(image, axis=1)).mean() for image in (blurred, sharp)]
        return psnr, blurred.mean() - sharp.mean(), fine[0] / fine[1]

    real = []
    for path in sorted((data / "gopro/train/GOPR0477_11_00/blur").glob("*.png")):
        sharp = np.asarray(Image.open(path.parent.parent / "sharp" / path.name), float)
        real.append(likeness(np.asarray(Image.open(path), float), sharp))
    linear = likeness(average_frames(frames).astype(float), middle)
    gamma = likeness(average_frames(frames, 2.2).astype(float), middle)
    lowest, highest = (f([r[0] for r in real]) for f in (min, max))
    assert lowest - 3 < linear[0] < highest + 3
    assert abs(linear[1]) < 0.5
    assert linear[1] < gamma[1] < linear[1] + 2  # light averages to more than code values do
    assert min(r[2] for r in real) - 0.15 < linear[2] < 1
    # The mean of one frame is that frame.
    assert np.array_equal(average_frames(frames[:1], 2.2), frames[0])
    with pytest.raises(BlurError, match="one size"):
        average_frames([frames[0], frames[1][:10]])


def test_windows_are_odd() -> None:
    rng = np.random.default_rng(0)
    widths = {FrameAverage((7, 13)).draw_window(rng, 99) for _ in range(100)}
    assert widths == {7, 9, 11, 13}
    assert FrameAverage(5).draw_window(rng, 5) == 5
    assert FrameAverage(5).draw_window(rng, 4) is None
    assert FrameAverage((7, 13)).draw_window(rng, 8) == 7
    assert FrameAverage(Choice((3, 11))).draw_window(rng, 10) == 3
    with pytest.raises(BlurError, match="odd"):
        FrameAverage(4)


def test_light_and_saturation() -> None:
    lamp = np.zeros((41, 41, 3), np.float32)
    lamp[18:23, 18:23] = 1
    blur = LinearMotionBlur(20, 0)
    dim = LinearLight((blur,)).draw(np.random.default_rng(0))(lamp)
    bright = LinearLight((Saturation(3.0), blur)).draw(np.random.default_rng(0))(lamp)
    assert srgb_to_linear(dim).sum() == pytest.approx(srgb_to_linear(lamp).sum(), rel=1e-3)
    assert bright.sum() > 1.3 * dim.sum()
    assert bright.max() <= 1


def test_what_is_kept_belongs_to_the_sharp_photo_too(photo: np.ndarray) -> None:
    degradation = build_degradation(
        [{"linear_light": [{"keep": [{"noise": {"read": 0.01}}]}, {"gaussian": {"sigma": 1}}]}]
    )
    photo = 0.2 + 0.6 * photo  # nothing is clipped
    drawn = degradation.draw(np.random.default_rng(0))
    blurred, sharp = spoil(drawn, photo), spoil(drawn.target, photo)
    assert not np.array_equal(sharp, photo)
    again = LinearLight((GaussianBlur(1.0),)).draw(np.random.default_rng(0))
    assert np.abs(spoil(again, sharp) - blurred).max() < 1e-5
    alone = build_degradation({"keep": ["camera"]}).draw(np.random.default_rng(0))
    assert np.array_equal(spoil(alone, photo), spoil(alone.target, photo))


def test_varying_blur_takes_single_kernels_only() -> None:
    for blur in ({"preset": "any-blur"}, [{"gaussian": {"sigma": 1}}, {"defocus": {"radius": 2}}]):
        with pytest.raises(BlurError, match="varying blends single kernels"):
            parse_degradation([{"varying": {"blur": blur}}])


def test_varying_blur_varies(photo: np.ndarray) -> None:
    step = VaryingBlur(OneOf((Unchanged(), GaussianBlur(4.0))), count=4, grid=3)
    drawn = step.draw(np.random.default_rng(8))
    assert not drawn.uniform
    change = np.abs(drawn(photo) - photo).mean(axis=2)
    corners = [change[:40, :40].mean(), change[-40:, -40:].mean(), change[:40, -40:].mean()]
    assert max(corners) > 1.5 * min(corners)
    with pytest.raises(BlurError, match="single kernels"):
        VaryingBlur(Sequential((GaussianBlur(1.0), GaussianBlur(2.0))))


def test_an_object_moves_and_the_rest_stands_still(scene: np.ndarray) -> None:
    photo = (scene / 255).astype(np.float32)
    drawn = ObjectMotion(LinearMotionBlur(15.0), size=0.3).draw(np.random.default_rng(2))
    changed = np.abs(drawn(photo) - photo).max(axis=2) > 1e-3
    assert 0.01 < changed.mean() < 0.2
    rows, columns = np.nonzero(changed)
    assert max(np.ptp(rows), np.ptp(columns)) < 0.3 * 640 + 40


def test_choices_follow_their_weights() -> None:
    step = OneOf((Unchanged(), GaussianBlur(1.0)), (1, 3))
    rng = np.random.default_rng(0)
    names = [step.draw(rng).records[0]["step"] for _ in range(400)]
    assert 60 < names.count("none") < 140
    some = Sometimes(0.25, (GaussianBlur(1.0),))
    assert 60 < sum(bool(some.draw(rng).records) for _ in range(400)) < 140
    order = Shuffled((GaussianBlur(1.0), Jpeg(90), Rescale(0.5)))
    orders = {tuple(r["step"] for r in order.draw(rng).records) for _ in range(60)}
    assert len(orders) == 6


@given(st.floats(0.1, 5), st.floats(0, 5))
@settings(max_examples=30)
def test_distributions(low: float, more: float) -> None:
    from unblur.blur.parameters import bounds, draw

    rng = np.random.default_rng(0)
    for parameter in (low, (low, low + more), LogUniform(low, low + more), Choice((low, 7.0))):
        first, last = bounds(parameter)
        assert all(first - 1e-9 <= draw(parameter, rng) <= last + 1e-9 for _ in range(20))


@pytest.mark.parametrize("name", list_presets())
def test_presets(name: str, scene: np.ndarray) -> None:
    degradation = parse_degradation(name)
    photo = scene[300:364, 300:372]
    if degradation.frames is not None:
        assert degradation.frames.draw_window(np.random.default_rng(0), 99) in (7, 9, 11, 13)
        return
    results = [degradation(photo, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert results[0].dtype == np.uint8
    assert results[0].shape == photo.shape
    assert np.array_equal(results[0], results[1])
    batch = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None].repeat(3, 1, 1, 1) / 255
    spoiled = degradation(batch, np.random.default_rng(1))
    assert spoiled.shape == batch.shape
    assert 0 <= spoiled.min() <= spoiled.max() <= 1


def test_the_three_kernels_of_system_two() -> None:
    step = parse_degradation("gaussian3").step
    shapes = {step.draw(np.random.default_rng(s)).kernels[0].shape for s in range(30)}
    assert shapes == {(3, 3), (7, 7), (11, 11)}


def test_specs() -> None:
    step = parse_degradation("gaussian:sigma=1.6,size=11").step
    assert step == GaussianBlur(1.6, 11)
    several = parse_degradation("shake:extent=5..30,exposure=0.5+noise:read=0.01+jpeg:quality=70")
    assert isinstance(several.step, Sequential)
    assert several.step.steps == (
        ShakeBlur((5.0, 30.0), exposure=0.5),
        SensorNoise(0.01),
        Jpeg(70.0),
    )
    frames = parse_degradation("frames:window=7..11,gamma=2.2+noise:read=0.01")
    assert frames.frames == FrameAverage((7.0, 11.0), 2.2)
    assert isinstance(frames.step, SensorNoise)


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "- linear_light:\n"
        "    steps:\n"
        "      - one_of:\n"
        "          - {weight: 3, shake: {extent: {log: [2, 20]}}}\n"
        "          - defocus: {radius: 2, blades: {choice: [5, 7]}}\n"
        "    gamma: 2.2\n"
        "- preset: camera\n"
    )
    degradation = parse_degradation(str(path))
    assert isinstance(degradation.step, Sequential)
    light = degradation.step.steps[0]
    assert light == LinearLight(
        (OneOf((ShakeBlur(LogUniform(2, 20)), DefocusBlur(2.0, Choice((5, 7)))), (3.0, 1.0)),), 2.2
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sharpness", "unknown blur 'sharpness'.*gaussian.*presets: .*photo"),
        ("gaussian", "gaussian needs sigma"),
        ("gaussian:radius=3", "no parameter 'radius': sigma, size"),
        ("gaussian:sigma", "name=value"),
        ("gaussian:sigma=-1", "sigma must be between 0 and 100"),
        ("gaussian:sigma=a..b", "expected a number"),
        ("gaussian:sigma=1,sigma=2", "says sigma twice"),
        ("motion:length=1:30", "expected a number"),
        ("motion:length=3,angle=0..inf", "expected a number"),
        ("gaussian:sigma=wide", "expected a number"),
        ("gaussian:sigma=2,size=4", "must be odd"),
        ("gaussian:sigma=.inf", "expected a number"),
        ("shake:extent=9..2", "larger than"),
        ("jpeg:quality=0", "between 1 and 100"),
        ("noise+frames:window=7", "frames must come first"),
        ("kernels:path=/nowhere", "no such kernel"),
        ("nowhere.yaml", "cannot be read"),
        ("object_motion:blur=saturation", "does not fit"),
        ("sometimes:chance=2,steps=saturation", "between 0 and 1"),
    ],
)
def test_mistakes_are_explained(text: str, message: str) -> None:
    with pytest.raises(BlurError, match=message):
        parse_degradation(text)


def test_hostile_yaml(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    for content, message in (
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("- [" * 50 + "]" * 50, "nested|not YAML"),
        ("- {gaussian: {sigma: 1}, jpeg: {quality: 3}}", "expected one step"),
        ("12", "expected one step"),
        ("- preset: ../../secret", "unknown preset"),
        ("- one_of: {gaussian: {sigma: 1}}", "takes a list"),
        ("- one_of: []", "at least one"),
        ("- one_of: [{weight: -1, none: }]", "weight"),
        ("#" * 200_000, "too large"),
        ("- &a {gaussian: {sigma: 1}}\n- [*a, *a]", "anchors"),
    ):
        path.write_text(content)
        with pytest.raises(BlurError, match=message):
            parse_degradation(str(path))


def test_types_of_images(photo: np.ndarray) -> None:
    blur = parse_degradation("photo")
    rng = np.random.default_rng(0)
    batch = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert blur(batch.to(dtype), rng).dtype == dtype
    assert blur(batch[:0], rng).shape == batch[:0].shape
    assert blur(photo.astype(np.float64), rng).dtype == np.float64
    for wrong in (batch[0], (batch * 255).byte(), photo[:, :, 0], (photo * 9).astype(np.uint16)):
        with pytest.raises(BlurError):
            blur(wrong, rng)
    with pytest.raises(BlurError, match="frames of a sequence"):
        parse_degradation("gopro-frames")((photo * 255).astype(np.uint8), rng)


def test_gradients_survive_black() -> None:
    image = torch.zeros(1, 3, 24, 24)
    image[..., 12:] = 0.5
    image.requires_grad_(True)
    for text in ("out-of-focus", "camera-shake"):
        result = parse_degradation(text)(image, np.random.default_rng(0))
        (gradient,) = torch.autograd.grad(result.sum(), image)
        assert torch.isfinite(gradient).all()


def test_presets_are_steps_and_paths_are_words(data: Path) -> None:
    both = parse_degradation("camera-shake+camera")
    assert isinstance(both.step, Sequential)
    assert len(both.step.steps) == 2
    path = data / ".." / "data" / "kernels"
    assert isinstance(parse_degradation(f"kernels:path={path}").step, MeasuredBlur)
    assert parse_degradation("noise:read=1e-3").step == SensorNoise(0.001)
    assert len(parse_degradation("+".join(["gaussian:sigma=1"] * 40)).step.steps) == 40  # type: ignore[attr-defined]
