"""The demonstration: a scene drawn by this project, a camera shake, and its restoration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unblur.blur import add_noise, blur_photo, shake_kernel
from unblur.files import make_folder
from unblur.imaging import ImageError, Photo, comparison, write_photo
from unblur.inference.deblurrer import Deblurrer
from unblur.metrics import psnr

WIDTH, HEIGHT = 960, 640


def draw_scene() -> NDArray[np.uint8]:
    """An evening street: sky, houses with lit windows, a shop sign, a paved road. 640×960×3."""
    rng = np.random.default_rng(7)
    scale = 2  # drawn at twice the size and reduced, for smooth edges
    width, height = WIDTH * scale, HEIGHT * scale
    rows = np.linspace(0, 1, height)[:, None, None]
    sky = np.array([38, 52, 98]) * (1 - rows) + np.array([246, 176, 120]) * rows
    clouds = Image.fromarray((rng.random((10, 16)) * 255).astype(np.uint8))
    cloud = np.asarray(clouds.resize((width, height), Image.Resampling.BICUBIC), float)[:, :, None]
    canvas = np.clip(sky + (cloud - 128) * 0.22, 0, 255) * np.ones((1, width, 1))
    image = Image.fromarray(canvas.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    ground = int(height * 0.78)
    x = -30
    while x < width:
        house = int(rng.integers(200, 330))
        top = int(rng.integers(int(height * 0.14), int(height * 0.4)))
        wall = rng.integers([96, 70, 62], [190, 140, 128])
        draw.rectangle((x, top, x + house, ground), fill=tuple(int(v) for v in wall))
        darker = tuple(int(v * 0.82) for v in wall)
        for row, y in enumerate(range(top + 10, ground, 14)):  # courses of bricks
            draw.line((x, y, x + house, y), fill=darker, width=2)
            for joint in range(x + (row % 2) * 14, x + house, 28):
                draw.line((joint, y, joint, y + 14), fill=darker, width=2)
        roof = [
            (x - 14, top),
            (x + house // 2, top - int(rng.integers(50, 110))),
            (x + house + 14, top),
        ]
        draw.polygon(roof, fill=tuple(int(v * 0.5) for v in wall))
        for y in range(top + 36, ground - 190, 92):
            for left in range(x + 26, x + house - 58, 76):
                lit = rng.random() < 0.6
                glass = (255, 222, 150) if lit else (52, 60, 80)
                draw.rectangle((left - 5, y - 5, left + 47, y + 63), fill=(236, 230, 220))
                draw.rectangle((left, y, left + 42, y + 58), fill=glass)
                draw.line((left + 21, y, left + 21, y + 58), fill=(236, 230, 220), width=4)
                draw.line((left, y + 26, left + 42, y + 26), fill=(236, 230, 220), width=4)
        x += house + int(rng.integers(0, 24))
    _shop(draw, width, ground)
    draw.rectangle((0, ground, width, height), fill=(74, 74, 82))
    for row, y in enumerate(range(ground, height, 26)):  # paving stones
        for left in range(-40 + (row % 2) * 35, width, 70):
            shade = int(rng.integers(84, 122))
            draw.rectangle((left + 2, y + 2, left + 67, y + 23), fill=(shade, shade, shade + 8))
    _trees(image, rng, ground)
    grain = rng.normal(0, 5, (height, width, 1))
    textured = np.clip(np.asarray(image, float) + grain, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(textured).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _shop(draw: ImageDraw.ImageDraw, width: int, ground: int) -> None:
    left, right, top = int(width * 0.3), int(width * 0.7), ground - 180
    draw.rectangle((left, top, right, ground), fill=(34, 58, 62))
    draw.rectangle((left, top, right, top + 74), fill=(250, 244, 226))
    draw.text(
        (left + 30, top + 6), "Cafe Unblur", font=ImageFont.load_default(58), fill=(150, 30, 40)
    )
    draw.text(
        (left + 400, top + 26),
        "open 8 to 22: coffee & cake",
        font=ImageFont.load_default(28),
        fill=(40, 40, 40),
    )
    for pane in range(5):
        x = left + 20 + pane * (right - left - 20) // 5
        draw.rectangle(
            (x, top + 90, x + (right - left) // 5 - 24, ground - 14), fill=(255, 214, 140)
        )
        draw.line(
            (x, top + 130, x + (right - left) // 5 - 24, top + 130), fill=(34, 58, 62), width=6
        )


def _trees(image: Image.Image, rng: np.random.Generator, ground: int) -> None:
    draw = ImageDraw.Draw(image)
    for trunk in (int(image.width * 0.12), int(image.width * 0.86)):
        draw.rectangle((trunk - 12, ground - 240, trunk + 12, ground + 40), fill=(66, 48, 38))
        for _ in range(900):
            angle, reach = rng.uniform(0, 2 * np.pi), 150 * np.sqrt(rng.random())
            x, y = trunk + reach * np.cos(angle), ground - 310 + 0.9 * reach * np.sin(angle)
            size = rng.uniform(4, 11)
            green = rng.integers([40, 80, 30], [96, 150, 70])
            draw.ellipse(
                (x - size, y - size / 2, x + size, y + size / 2), fill=tuple(int(v) for v in green)
            )


def shaken(scene: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The scene as a shaking hand would have photographed it."""
    rng = np.random.default_rng(2)
    kernel = shake_kernel(rng, extent=8, exposure=0.6, shakiness=0.4)
    blurred = blur_photo(scene.astype(np.float32) / np.float32(255), kernel)
    noisy = add_noise(blurred, rng, read=1 / 255)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def make_demo(folder: Path, model: str) -> tuple[float, float]:
    """Write original, blurred, restored and compared, over earlier ones.

    Returns the PSNR of the middle two.
    """
    deblurrer = Deblurrer(model)
    scene = draw_scene()
    original, blurred = Photo(scene), Photo(shaken(scene))
    restored = deblurrer.restore_photo(blurred)
    make_folder(folder, ImageError)
    write_photo(original, folder / "original.png", overwrite=True)
    write_photo(blurred, folder / "blurred.png", overwrite=True)
    write_photo(restored, folder / "restored.png", overwrite=True)
    write_photo(comparison(blurred, restored), folder / "compare.png", overwrite=True)
    blurred_psnr, restored_psnr = (
        psnr(photo.pixels / 255, scene / 255) for photo in (blurred, restored)
    )
    return blurred_psnr, restored_psnr
