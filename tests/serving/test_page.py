"""The page in a real browser: pick, compare, download; refusals; no request to anybody else."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from unblur.imaging import read_photo
from unblur.inference import Deblurrer
from unblur.serving import Limits

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the PATH")
playwright = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])


class Visit:
    """A page, and what it asked for and complained of."""

    def __init__(self, browser: object, port: int, **options: object) -> None:
        context = browser.new_context(accept_downloads=True, **options)  # type: ignore[attr-defined]
        self.page = context.new_page()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.home = f"http://127.0.0.1:{port}/"
        self.page.goto(self.home)

    def pick(self, *files: Path) -> None:
        self.page.set_input_files("#pick", [str(file) for file in files])

    def rows(self, state: str) -> object:
        return self.page.locator(f"li[data-state={state}]")

    def split(self) -> float:
        return float(self.page.get_attribute("#divider", "aria-valuenow"))

    def close(self) -> None:
        assert not self.errors
        assert all(url.startswith((self.home, "blob:")) for url in self.asked)
        self.page.context.close()


@pytest.fixture
def visit(browser: object, live: Callable[..., int]) -> Iterator[Callable[..., Visit]]:
    opened = []

    def open_page(limits: Limits | None = None, key: str | None = None, **options: object) -> Visit:
        opened.append(Visit(browser, live(limits, api_key=key), **options))
        return opened[-1]

    yield open_page
    for each in opened:
        each.close()


@pytest.fixture
def photo(scene: np.ndarray, tmp_path: Path) -> Path:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", 6
    path = tmp_path / "holiday.JPEG"
    picture = Image.fromarray(scene[:300, :400]).filter(ImageFilter.GaussianBlur(1.5))
    picture.save(path, "JPEG", quality=95, exif=exif)
    return path


def test_from_a_blurred_photo_to_a_sharp_one(
    visit: Callable[..., Visit], photo: Path, small: Deblurrer
) -> None:
    seen = visit(viewport={"width": 1200, "height": 800})
    seen.pick(photo)
    seen.rows("done").wait_for(timeout=30_000)
    assert re.search(r"about [12]\.\d pixels of blur undone, ", seen.rows("done").inner_text())
    with seen.page.expect_download() as download:
        seen.page.click("#save")
    assert download.value.suggested_filename == "holiday_sharp.JPEG"
    result = Image.open(download.value.path())
    assert result.size == (300, 400)
    assert result.getexif()[0x010F] == "a camera"
    expected = small.restore_photo(read_photo(photo)).pixels
    assert np.abs(np.asarray(result).astype(int) - expected).mean() < 1.5  # JPEG
    assert np.abs(expected.astype(int) - read_photo(photo).pixels).mean() > 1.5

    # What is seen left and right of the divider is before and after.
    stage = seen.page.locator("#stage")
    box = stage.bounding_box()

    def shown() -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(stage.screenshot())).convert("RGB")).astype(int)

    seen.page.focus("#divider")
    seen.page.keyboard.press("Home")
    assert seen.split() == 0
    after = shown()
    seen.page.keyboard.press("End")
    assert seen.split() == 100
    before = shown()
    middle = box["width"] / 2
    seen.page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + middle, box["y"] + 200, steps=4)
    seen.page.mouse.up()
    assert abs(seen.split() - 50) <= 1
    both = shown()
    # Without the divider and the edge of its shadow.
    left, right = np.s_[40:, 5 : int(middle) - 30], np.s_[40:, int(middle) + 30 : -30]
    assert np.array_equal(both[left], before[left])
    assert np.array_equal(both[right], after[right])
    assert np.abs(before[left] - after[left]).max() > 30

    # Zoom and place are of both at once.
    stage.focus()
    seen.page.keyboard.press("1")
    assert float(stage.get_attribute("data-zoom")) == 1
    seen.page.mouse.move(box["x"] + 100, box["y"] + 100)
    seen.page.mouse.wheel(0, -800)
    seen.page.wait_for_timeout(100)
    assert float(stage.get_attribute("data-zoom")) > 4
    places = [
        seen.page.evaluate(f"document.getElementById('{i}').style.transform")
        for i in ("before", "after")
    ]
    assert places[0] == places[1]
    seen.page.keyboard.press("0")
    assert float(stage.get_attribute("data-zoom")) < 3.01


def test_a_choice_of_models(
    browser: object, process: Callable[..., tuple[object, str]], photo: Path
) -> None:
    _, address = process("--model", "base")
    seen = Visit(browser, int(address.rpartition(":")[2]))
    seen.page.locator("#model option").nth(1).wait_for(state="attached")
    names = seen.page.locator("#model option").all_inner_texts()
    assert names[0] == "small"
    assert re.fullmatch(r"base, about 1\.\d × as long", names[1])
    seen.page.select_option("#model", "base")
    seen.pick(photo)
    seen.rows("done").wait_for(timeout=30_000)
    assert "base" in seen.rows("done").inner_text()
    assert any("model=base" in url for url in seen.asked)
    seen.close()


@pytest.mark.parametrize(
    ("small", "base", "label"),
    [
        ({"a": 1.0, "b": 0.5}, {"b": 1.0}, "base, about 2 × as long"),
        ({"a": 0.4}, {"a": 0.57}, "base, about 1.4 × as long"),
        ({"a": 1.0}, {"a": 1.2}, "base"),
        ({"a": 1.0}, {"b": 2.0}, "base"),
    ],
    ids=["twice", "slower", "hardly slower", "not timed alike"],
)
def test_how_much_longer_a_model_takes(
    visit: Callable[..., Visit], small: dict[str, float], base: dict[str, float], label: str
) -> None:
    def answer(route: object) -> None:
        times = {"small": small, "base": base}
        cards = [{"name": name, "seconds_per_megapixel": each} for name, each in times.items()]
        route.fulfill(json={"models": cards})  # type: ignore[attr-defined]

    seen = visit()
    seen.page.route("**/v1/models", answer)
    seen.page.reload()
    option = seen.page.locator("#model option").nth(1)
    option.wait_for(state="attached")
    assert option.inner_text() == label


def test_several_photos_and_what_is_refused(
    visit: Callable[..., Visit], photo: Path, scene: np.ndarray, tmp_path: Path
) -> None:
    wide = tmp_path / "sixteen.tif"
    import pyvips

    pixels = scene[:100, :120].astype(np.uint16) * 257
    pyvips.Image.new_from_array(pixels, interpretation="rgb16").write_to_file(str(wide))
    empty, text, large = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "large.png"
    empty.write_bytes(b"")
    text.write_text("hello")
    large.write_bytes(b"x" * 1_100_000)
    # One place in all: whatever else is sent has to be sent again, which the page does alone.
    seen = visit(Limits(max_bytes=1_000_000, workers=1, waiting=0))
    seen.pick(photo, wide, empty, text, large)
    for _ in range(100):
        if seen.rows("done").count() + seen.rows("failed").count() == 5:
            break
        seen.page.wait_for_timeout(200)
    failed = seen.rows("failed").all_inner_texts()
    assert [name for each in failed for name in ("empty", "text", "large") if name in each] == [
        "empty", "text", "large",
    ]  # fmt: skip
    assert "larger than 1 MB" in failed[2]
    assert "not a known image" in failed[1]
    # A photo that the browser cannot show is shown by pictures of it, and downloaded as it was.
    seen.page.click("text=sixteen.tif")
    seen.page.wait_for_selector("#save:visible")
    with seen.page.expect_download() as download:
        seen.page.click("#save")
    assert download.value.suggested_filename == "sixteen_sharp.tif"
    assert read_photo(Path(download.value.path()).read_bytes()).pixels.dtype == np.uint16
    assert seen.page.evaluate("document.getElementById('before').naturalWidth") == 120
    # Other settings ask for another run.
    seen.page.select_option("#format", "webp")
    seen.page.click("#redo")
    seen.page.wait_for_selector("li.chosen[data-state=done]", timeout=20_000)
    with seen.page.expect_download() as download:
        seen.page.click("#save")
    assert download.value.suggested_filename == "sixteen_sharp.webp"
    seen.page.click("[aria-label='Remove text.png']")
    assert seen.page.locator("#photos li").count() == 4


def test_what_fails_with_some_settings_is_redone_with_others(
    visit: Callable[..., Visit], scene: np.ndarray, tmp_path: Path
) -> None:
    wide = tmp_path / "wide.png"
    Image.fromarray(np.tile(scene[:24, :960], (1, 18, 1))).save(wide)
    seen = visit()
    seen.page.select_option("#format", "webp")  # which holds 16,383 pixels a side
    seen.pick(wide)
    seen.rows("failed").wait_for(timeout=30_000)
    assert "16383" in seen.rows("failed").inner_text()
    assert not seen.page.locator("#redo").is_visible()
    seen.page.select_option("#format", "png")
    seen.page.click("#redo")
    seen.rows("done").wait_for(timeout=30_000)


@pytest.mark.parametrize(("kind", "event"), [("drop", "DragEvent"), ("paste", "ClipboardEvent")])
def test_dropped_and_pasted(
    kind: str, event: str, visit: Callable[..., Visit], photo: Path
) -> None:
    seen = visit()
    content = base64.b64encode(photo.read_bytes()).decode()
    seen.page.evaluate(
        """([kind, event, content]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
            const options = { bubbles: true, dataTransfer: data, clipboardData: data };
            document.body.dispatchEvent(new window[event](kind, options));
        }""",
        [kind, event, content],
    )
    seen.rows("done").wait_for(timeout=30_000)
    with seen.page.expect_download() as download:
        seen.page.click("#save")
    assert download.value.suggested_filename == "given_sharp.jpg"


def test_on_a_phone_with_a_key(visit: Callable[..., Visit], photo: Path) -> None:
    seen = visit(
        key="secret", viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark"
    )
    seen.page.fill("#key", "secret")
    seen.page.press("#key", "Tab")
    seen.pick(photo)
    seen.rows("done").wait_for(timeout=30_000)
    width = seen.page.evaluate("document.documentElement.scrollWidth")
    assert width == 390  # nothing to scroll sideways
    assert seen.page.is_visible("#stage")
    assert (
        seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 21)"
    )
