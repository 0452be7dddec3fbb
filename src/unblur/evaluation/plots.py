"""The plots of a report, as SVG that follows the page's light or dark theme, and as PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unblur.evaluation.evaluate import Result
from unblur.files import atomic_path

# After M. Okabe and K. Ito's colours, which colour-blind people can tell apart, of a brightness
# that stands out on white and on black.
COLOURS = ("#2b8fd0", "#e06c1f", "#10a37f", "#cc79a7", "#d9a300", "#7a7fdc")
_MARKERS = "osv^"  # of those that share a colour
INPUT_COLOUR = "#8a8a8a"
_INK, _RULE = "#123456", "#d9dadb"  # stand-ins that the page's own colours replace
_WIDTH, _HEIGHT = 5.2, 3.3  # inches
_LEAST_SPAN = 0.5  # dB
_SHOWN_PSNR = 60.0  # dB; what is nearer than that looks the same


@dataclass(frozen=True)
class Plot:
    """A drawn plot. title: for those who cannot see it, and for its file's name."""

    title: str
    svg: str
    png: bytes

    def write(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(self.png)


def _draw(title: str, draw: Callable[[Any], None], width: float = _WIDTH) -> Plot:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
        "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _RULE,
        "xtick.color": _INK, "ytick.color": _INK, "grid.color": _RULE, "axes.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "axes.grid": True, "axes.axisbelow": True, "grid.linewidth": 0.6, "svg.hashsalt": "unblur",
        "text.parse_math": False,  # names may hold a $
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, _HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        vector, raster = io.StringIO(), io.BytesIO()
        figure.patch.set_alpha(0)
        FigureCanvasSVG(figure).print_svg(vector, metadata={"Date": None})  # type: ignore[no-untyped-call]
        figure.patch.set_alpha(1)
        FigureCanvasAgg(figure).print_png(raster)  # type: ignore[no-untyped-call]
    svg = vector.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "var(--ink)").replace(_RULE, "var(--rule)")
    # Identifiers must differ between the plots of one page.
    salt = f"p{abs(hash((title, svg))) % 10**10}"
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{salt}-", svg)
    return Plot(title, svg, raster.getvalue())


def _shown(values: Sequence[float]) -> np.ndarray:
    return np.minimum(np.asarray(values, float), _SHOWN_PSNR)


def colours(labels: Sequence[str]) -> dict[str, str]:
    return {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}


def histogram(result: Result, colour: str) -> Plot:
    """How many images have which PSNR, before and after."""
    rows = result.measured
    before = _shown([row["psnr_input"] for row in rows])
    after = _shown([row["psnr"] for row in rows])

    def draw(axes: Any) -> None:
        low, high = min(before.min(), after.min()), max(before.max(), after.max())
        edges = np.linspace(low, max(high, low + 1), min(30, max(6, len(rows) // 3)) + 1)
        axes.hist(before, edges, color=INPUT_COLOUR, alpha=0.55, label="input")
        axes.hist(after, edges, histtype="step", linewidth=2, color=colour, label="restored")
        axes.axvline(before.mean(), color=INPUT_COLOUR, linestyle="--", linewidth=1)
        axes.axvline(after.mean(), color=colour, linestyle="--", linewidth=1)
        axes.set(xlabel="PSNR (dB)", ylabel="images")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.legend()

    return _draw(f"PSNR of {result.model.label} on {result.data.name}", draw)


def gain_against_input(results: Sequence[Result], palette: dict[str, str]) -> Plot:
    """Is anything made worse? Gain of every image against the quality it had."""

    def draw(axes: Any) -> None:
        axes.axhline(0, color=INPUT_COLOUR, linewidth=1)
        for result in results:
            rows = result.measured
            axes.plot(
                _shown([row["psnr_input"] for row in rows]),
                [row["gain"] for row in rows],
                "o", markersize=5, alpha=0.75, color=palette[result.model.label],
                markeredgewidth=0, label=result.model.label,
            )  # fmt: skip
        axes.set(xlabel="PSNR of the input (dB)", ylabel="gain (dB)")
        axes.legend()

    return _draw(f"Gain against input quality on {results[0].data.name}", draw)


def time_axis(axes: Any, seconds: Sequence[float]) -> None:
    """Seconds per megapixel along a logarithmic x axis, in plain numbers."""
    axes.set(xlabel="seconds per megapixel", xscale="log")
    axes.xaxis.set_major_formatter("{x:g}")
    # Where there are several powers of ten, labels between them would overlap.
    axes.xaxis.set_minor_formatter("{x:g}" if max(seconds) < 8 * min(seconds) else "")
    axes.tick_params(axis="x", which="minor", labelsize=7)


def pareto(points: Sequence[tuple[str, float, float]], palette: dict[str, str], what: str) -> Plot:
    """dB gained against seconds per megapixel; points: (name, seconds, dB)."""

    times = [seconds for _, seconds, _ in points]
    middle = np.sqrt(min(times) * max(times))
    gains = [gain for _, _, gain in points]
    # Differences that nobody sees must not fill the picture.
    spare = max(0.0, _LEAST_SPAN - (max(gains) - min(gains))) / 2

    def draw(axes: Any) -> None:
        best = -np.inf
        front = []
        for name, seconds, gain in sorted(points, key=lambda point: (point[1], -point[2])):
            marker = _MARKERS[list(palette).index(name) // len(COLOURS) % len(_MARKERS)]
            axes.plot(seconds, gain, marker, markersize=8, color=palette[name], label=name)
            if gain > best:
                best = gain
                front.append((seconds, gain))
        xs, ys = zip(*front, strict=True)
        axes.step(xs, ys, where="post", color=INPUT_COLOUR, linewidth=1, linestyle=":")
        time_axis(axes, times)
        axes.set_ylabel("gain (dB)")
        axes.margins(x=0.1, y=0.15)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # names in it would overlap
        axes.update_datalim([(middle, min(gains) - spare), (middle, max(gains) + spare)])
        axes.autoscale_view()

    return _draw(f"Gain against time, {what}", draw, 7)
