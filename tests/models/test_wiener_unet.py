"""Kernels that are seen and divided by: transforms, windows, filters, and the whole network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.models.test_networks import LIGHT, perturbed
from unblur.blur import convolve, defocus_kernel, gaussian_kernel, motion_kernel, sway_kernel
from unblur.imaging import read_photo
from unblur.inference.describe import synthetic_photo
from unblur.models import ConfigError, create_model
from unblur.models.fourier import (
    WindowTransform,
    cut_apart,
    cut_windows,
    fade_at_edges,
    join_windows,
    mirrored,
    spread,
)
from unblur.models.kernel_estimator import Estimate, KernelEstimator, kernel_distance
from unblur.models.wiener_unet import WienerFilter
from unblur.padding import reflected_indices

KERNELS = {
    "gaussian": gaussian_kernel(1.6),
    "elongated": gaussian_kernel(2.5, None, 0.3, 30.0),
    "defocus": defocus_kernel(3.0),
    "motion": motion_kernel(9.0, 20.0),
    "sway": sway_kernel(np.random.default_rng(0), 14.0, 0.3, centre="box"),
}


@pytest.fixture(scope="module")
def estimator() -> KernelEstimator:
    return create_model("wiener_unet").estimator  # type: ignore[return-value]


@pytest.fixture(scope="module")
def lumas(data: Path) -> Tensor:
    """Photos, 3×1×256×384."""
    files = sorted((data / "sharp" / "bsds500" / "test").glob("*.jpg"))[:40]
    photos = [read_photo(file).pixels for file in files]
    wide = [photo for photo in photos if photo.shape[0] < photo.shape[1]][:3]
    planes = [torch.from_numpy(photo[:256, :384] / np.float32(255)).mean(2) for photo in wide]
    return torch.stack(planes)[:, None]


def at_centre(kernel: np.ndarray, reach: int = 16) -> Tensor:
    placed = torch.zeros(2 * reach, 2 * reach)
    top, left = (reach - side // 2 for side in kernel.shape)
    placed[top : top + kernel.shape[0], left : left + kernel.shape[1]] = torch.from_numpy(kernel)
    return placed


def estimate_of(*kernels: np.ndarray, balance: float = 5e-3) -> Estimate:
    """Equally likely kernels in all cells of 256×384 pixels."""
    guesses = torch.stack([at_centre(kernel) for kernel in kernels])
    return Estimate(guesses.expand(1, 2, 3, -1, -1, -1), torch.full((1, 2, 3), balance))


def filters(*gammas: float) -> WienerFilter:
    """Those of `wiener_unet` for such cells, for the values as they are and light unless given."""
    return WienerFilter(192, 128, 16, gammas or (1.0, 2.2))


def under(kernel: np.ndarray, lumas: Tensor, noise: float = 0.0) -> Tensor:
    blurred = torch.stack([convolve(luma.permute(1, 2, 0), kernel)[..., 0] for luma in lumas])
    generator = torch.Generator().manual_seed(0)
    return (blurred[:, None] + noise * torch.randn(lumas.shape, generator=generator)).clamp(0, 1)


def psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * (first - second).square().mean().log10())


@settings(max_examples=20, deadline=None)
@given(
    half=st.integers(1, 16),
    first=st.integers(-40, 40),
    share=st.floats(0.1, 1),
    training=st.booleans(),
)
def test_transforms_are_fourier_transforms(
    half: int, first: int, share: float, training: bool
) -> None:
    side = 2 * half
    count = max(1, int(share * side))
    transform = WindowTransform(side, first, count).train(training)
    image = torch.rand(2, count, count, dtype=torch.float32)
    period = torch.zeros(2, side, side)
    places = (torch.arange(count) + first) % side
    period[:, places[:, None], places] = image
    spectrum = torch.fft.rfft2(period)
    real, imaginary = transform(image)
    assert torch.allclose(real, spectrum.real, atol=1e-3)
    assert torch.allclose(imaginary, spectrum.imag, atol=1e-3)
    assert torch.allclose(transform.inverse(real, imaginary), image, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    half=st.integers(1, 4),
    more=st.integers(0, 5),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
)
def test_windows_come_together_again(half: int, more: int, rows: int, columns: int) -> None:
    """As the filters cut them: those that hold the image reach half of an overlap past it."""
    hop, side = 2 * half + more, 4 * half + more
    x = torch.rand(2, 1, rows * hop, columns * hop)
    windows = cut_windows(F.pad(x, (half, hop - half) * 2), side, hop)[:, :, :, 0]
    assert windows.shape == (2, rows, columns, side, side)
    assert torch.equal(
        windows[:, 0, 0, half:, half:], F.pad(x, (0, half) * 2)[:, 0, : side - half, : side - half]
    )
    assert torch.allclose(join_windows(windows, hop), x, atol=1e-6)


def test_windows_fade_into_each_other() -> None:
    """What one says of an overlap gives way to what the next one says, from edge to edge."""
    hop, half = 8, 3
    windows = torch.zeros(1, 1, 2, hop + 2 * half, hop + 2 * half)
    windows[:, :, 1] = 1
    joined = join_windows(windows, hop)[0, 0]
    assert torch.equal(joined[:, : hop - half], torch.zeros(hop, hop - half))
    assert torch.equal(joined[:, hop + half :], torch.ones(hop, hop - half))
    seam = joined[0, hop - half : hop + half]
    assert (seam[1:] > seam[:-1]).all()
    assert torch.allclose(seam + seam.flip(0), torch.ones(2 * half))


@pytest.mark.parametrize("name", KERNELS)
def test_least_squares_find_the_kernel(
    name: str, estimator: KernelEstimator, lumas: Tensor
) -> None:
    truth = at_centre(KERNELS[name])
    found, trust = estimator.targets(under(KERNELS[name], lumas, 0.002), lumas)
    assert found.shape == (3, 1, 2, 32, 32)
    assert torch.allclose(found.sum((-2, -1)), torch.ones(3, 1, 2))
    errors = (found - truth).square().sum((-2, -1)) / truth.square().sum()
    assert errors.max() < 0.1
    assert trust.min() > 0.8
    # As guesses they are right, and one point is not.
    assert kernel_distance(found[..., None, :, :], found).max() < 1e-3
    point = (
        estimate_of(np.ones((1, 1), np.float32)).guesses[:, :1, :2].expand(3, -1, -1, -1, -1, -1)
    )
    assert kernel_distance(point, found).min() > 0.5


def test_noise_is_not_trusted(estimator: KernelEstimator, lumas: Tensor) -> None:
    flat = torch.full_like(lumas, 0.5)
    generator = torch.Generator().manual_seed(0)
    noises = [flat + 0.01 * torch.randn(flat.shape, generator=generator) for _ in range(2)]
    assert estimator.targets(*noises)[1].max() < 0.1


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(("height", "width", "bound"), [(256, 384, -1.5), (160, 288, -1.0)])
def test_filters_with_the_true_kernel_restore(
    name: str, height: int, width: int, bound: float, lumas: Tensor
) -> None:
    """Beside cells that are cut off at the edges, too, where mirror images have other kernels."""
    lumas = lumas[..., :height, :width]
    blurred = under(KERNELS[name], lumas, 1 / 255)
    wiener, truth = filters(), estimate_of(KERNELS[name])
    changes = wiener(blurred, truth)
    assert changes.shape == (3, 2, height, width)
    alone = filters(2.2)(blurred, truth)
    assert torch.allclose(alone, changes[:, 1:], atol=1e-5)
    gains = [psnr(blurred + change[:, None], lumas) for change in changes.unbind(1)]
    assert max(gains) > psnr(blurred, lumas) + 1.5
    errors = wiener.error(blurred, lumas, changes)
    assert errors.shape == (3, 2, 2, 3)
    assert errors[:, :, : height // 128, : width // 128].mean((0, 2, 3)).min() < bound


def test_what_guesses_disagree_on_is_left_alone(lumas: Tensor) -> None:
    blurred = under(KERNELS["motion"], lumas, 1 / 255)
    wrong = motion_kernel(9.0, 110.0)
    wiener = filters()
    errors = [
        wiener.error(blurred, lumas, wiener(blurred, estimate_of(*guesses))).mean()
        for guesses in ([KERNELS["motion"]], [KERNELS["motion"], wrong], [wrong])
    ]
    assert errors[0] < errors[1] < errors[2]
    assert errors[1] < 0 < errors[2]


def test_a_kernel_of_one_point_changes_next_to_nothing(lumas: Tensor) -> None:
    changes = filters()(lumas, estimate_of(np.ones((1, 1), np.float32), balance=1e-3))
    assert changes.abs().max() < 0.01
    assert changes.abs().mean() < 1e-3


def test_windows_have_kernels_of_their_own() -> None:
    """On the left a point, on the right a Gaussian: only the right one is changed."""
    image = synthetic_photo(256, 640).mean(1, keepdim=True)
    point, gaussian = at_centre(np.ones((1, 1), np.float32)), at_centre(gaussian_kernel(2.0))
    guesses = torch.stack([point, point, point, gaussian, gaussian])[None, None, :, None]
    estimate = Estimate(guesses.expand(1, 2, -1, -1, -1, -1), torch.full((1, 2, 5), 0.01))
    changes = filters()(image, estimate).abs()
    assert changes[..., :256].mean() < 0.1 * changes[..., 384:].mean()


def test_it_begins_as_the_network_that_it_grows_out_of() -> None:
    light = LIGHT["wiener_unet"]
    small = {key: light[key] for key in ("widths", "encoder_blocks", "decoder_blocks")}
    trained = perturbed("unshuffle_unet", modulated=True, **small).eval()
    grown = create_model("wiener_unet", **light).eval()
    grown.begin_with(trained)  # type: ignore[operator]
    image = torch.rand(1, 3, 64, 96)  # which both accept as it is
    with torch.no_grad():
        assert torch.allclose(grown(image), trained(image), atol=1e-5)
    with pytest.raises(ConfigError, match="trained with confidence"):
        grown.begin_with(create_model("unshuffle_unet", confidence=True, **small))  # type: ignore[operator]
    with pytest.raises(ConfigError, match="was trained with more"):
        grown.begin_with(create_model("unshuffle_unet", **{**small, "widths": [8, 12]}))  # type: ignore[operator]


def test_one_filter_stands_for_all() -> None:
    trained = perturbed("wiener_unet", **LIGHT["wiener_unet"], gammas=[1.5, 1.5, 1.5]).eval()
    one = create_model("wiener_unet", **LIGHT["wiener_unet"], gammas=[1.5]).eval()
    one.begin_with(trained)  # type: ignore[operator]
    image = synthetic_photo(64, 96)
    with torch.no_grad():
        expected = trained(image)
        assert not torch.allclose(expected, image, atol=1e-2)
        assert torch.allclose(one(image), expected, atol=1e-5)
    two = create_model("wiener_unet", **LIGHT["wiener_unet"])
    with pytest.raises(ConfigError, match="trained with other options"):
        two.begin_with(one)  # type: ignore[operator]


def test_one_that_grew_restores_as_before_and_learns() -> None:
    light = LIGHT["wiener_unet"]
    trained = perturbed("wiener_unet", **light, draft=32).eval()
    larger = {
        "widths": [each + 4 for each in light["widths"]],
        "encoder_blocks": [each + 1 for each in light["encoder_blocks"]],
        "edge_widths": [each + 8 for each in light["edge_widths"]],
        "head": light["head"] + 4,
        "head_blocks": light["head_blocks"] + 2,
    }
    grown = create_model("wiener_unet", **light | larger, draft=32).eval()
    image = synthetic_photo(96, 128)
    assert not torch.allclose(grown(image), trained(image), atol=1e-3)
    grown.begin_with(trained)  # type: ignore[operator]
    with torch.no_grad():
        assert torch.allclose(grown(image), trained(image), atol=1e-5)
    optimizer = torch.optim.Adam(grown.parameters(), lr=1e-3)
    for _ in range(3):  # what nothing read from before gets a gradient in the second step
        optimizer.zero_grad()
        restored, losses = grown.restore_and_compare(image, image.flip(3))  # type: ignore[operator]
        (restored.square().mean() + sum(losses.values())).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in grown.parameters())


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"maps": 3}, "other options"),
        ({"guesses": 3}, "other options"),
        ({"head_blocks": 1}, "more, or other"),
    ],
)
def test_what_cannot_grow_is_refused(other: dict[str, int], said: str) -> None:
    light = LIGHT["wiener_unet"]
    grown = create_model("wiener_unet", **light | other)
    with pytest.raises(ConfigError, match=said):
        grown.begin_with(create_model("wiener_unet", **light))  # type: ignore[operator]


def test_drafts_that_are_new_change_nothing_at_first() -> None:
    trained = perturbed("wiener_unet", **LIGHT["wiener_unet"]).double().eval()
    drafting = create_model("wiener_unet", **LIGHT["wiener_unet"], draft=32).double().eval()
    drafting.begin_with(trained)  # type: ignore[operator]
    image = synthetic_photo(96, 128).double()
    with torch.no_grad():
        assert torch.allclose(drafting(image), trained(image), rtol=0, atol=1e-12)


def test_kernels_are_seen_with_the_draft_in_sight() -> None:
    network = perturbed("wiener_unet", **LIGHT["wiener_unet"], draft=32)
    image = synthetic_photo(96, 128)
    survey = network.survey(torch.cat([image, image], 1))  # type: ignore[operator]
    with_draft = network.survey(torch.cat([image, F.avg_pool2d(image, 5, 1, 2)], 1))  # type: ignore[operator]
    assert (survey - with_draft).abs().mean() > 1e-6
    blurred = F.avg_pool2d(image, 9, 1, 4)
    _, losses = network.restore_and_compare(blurred, image)  # type: ignore[operator]
    losses["kernels"].backward()
    reads = network.estimator.edges.intro.weight.grad  # type: ignore[union-attr]
    assert (reads.abs().amax((0, 2, 3)) > 0).all()  # type: ignore[union-attr, operator]


@settings(max_examples=20, deadline=None)
@given(
    hop=st.integers(2, 5),
    rows=st.integers(2, 6),
    columns=st.integers(2, 6),
    short=st.integers(0, 4),
)
def test_windows_side_by_side_hold_all(hop: int, rows: int, columns: int, short: int) -> None:
    x = torch.rand(2, 1, rows * hop - short % hop, columns * hop)
    apart = cut_apart(x, 2 * hop)
    assert apart.shape == (2, -(-rows // 2), -(-columns // 2), 1, 2 * hop, 2 * hop)
    assert apart.sum().item() == pytest.approx(x.sum().item(), rel=1e-4)
    # Spread over windows that overlap by half, those between two have their mean.
    values = apart.mean((3, 4, 5))
    overlapping = spread(values, rows - 1, columns - 1)
    assert overlapping.shape == (2, rows - 1, columns - 1)
    assert torch.equal(overlapping[:, ::2, ::2], values[:, : rows // 2, : columns // 2])
    if rows > 2:
        assert torch.allclose(overlapping[:, 1, 0], (values[:, 0, 0] + values[:, 1, 0]) / 2)


@given(length=st.integers(2, 30), before=st.integers(0, 29), behind=st.integers(0, 58))
def test_images_are_mirrored_as_everywhere(length: int, before: int, behind: int) -> None:
    start, stop = -min(before, length - 1), min(length + behind, 3 * length - 2)
    places = torch.arange(length)
    expected = reflected_indices(start, stop, length)
    assert mirrored(places, 0, start, stop).tolist() == expected.tolist()


def test_images_fade_at_their_edges_only() -> None:
    faded = fade_at_edges(torch.ones(1, 1, 40, 60), 8)
    assert torch.equal(faded[..., 8:-8, 8:-8], torch.ones(1, 1, 24, 44))
    assert faded[..., 0, :].max() < 0.01
    assert torch.equal(faded, faded.flip(2, 3))


@pytest.mark.parametrize("bias", [-200.0, 200.0])
def test_no_certainty_is_beyond_all_numbers(bias: float) -> None:
    """Of noise that is next to none, or all there is, filters and their gradients are numbers."""
    network = perturbed("wiener_unet", **LIGHT["wiener_unet"])
    torch.nn.init.constant_(network.estimator.noise.bias, bias)  # type: ignore[union-attr, arg-type]
    sharp = synthetic_photo(64, 64)
    blurred = F.avg_pool2d(sharp, 9, 1, 4)
    restored, losses = network.restore_and_compare(blurred, sharp)  # type: ignore[operator]
    (restored.square().mean() + sum(losses.values())).backward()
    norms = [p.grad.norm() for p in network.parameters() if p.grad is not None]
    assert torch.isfinite(torch.stack(norms)).all()


@pytest.mark.parametrize("size", [(96, 160), (72, 136), (40, 64)])
def test_surveys_say_all_that_restoring_needs(size: tuple[int, int]) -> None:
    """Of the cells that only begin at the lower and right edges, too."""
    network = perturbed("wiener_unet", **LIGHT["wiener_unet"]).eval()
    image = synthetic_photo(*size)
    with torch.no_grad():
        survey = network.survey(image)  # type: ignore[operator]
        assert survey.shape == (1, -(-size[0] // 32), -(-size[1] // 32), network.survey_size)
        assert torch.equal(network.restore_surveyed(image, survey), network(image))  # type: ignore[operator]


def test_flat_images_do_not_spoil_a_training() -> None:
    network = perturbed("wiener_unet", **LIGHT["wiener_unet"])
    for level in (0.0, 0.5):
        flat = torch.full((1, 3, 64, 64), level)
        restored, losses = network.restore_and_compare(flat, flat)  # type: ignore[operator]
        (restored.square().mean() + sum(losses.values())).backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name  # type: ignore[arg-type]


def test_half_precision_of_a_training_leaves_spectra_alone() -> None:
    network = perturbed("wiener_unet", **LIGHT["wiener_unet"]).eval()
    image = synthetic_photo(64, 96)
    with torch.no_grad():
        exact = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(image)
    assert (exact - rounded).abs().mean() < 0.02 * (exact - image).abs().mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reach": 6}, "multiple of 4"),
        ({"reach": 12}, "at most an eighth"),
        ({"window": 4096}, "at most 1024"),
        ({"window": 72, "reach": 4}, "grids"),
        ({"gammas": []}, "between 1 and 4"),
        ({"gammas": [1.0, 0.45]}, "between 1 and 4"),
        ({"edge_hidden": [8]}, "edge_hidden channels for"),
        ({"hidden": [8]}, "hidden channels for"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("wiener_unet", **{**LIGHT["wiener_unet"], **options})
