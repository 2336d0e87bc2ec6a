"""What all plots share: the look, right-to-left text, and figures as PNG or inline SVG.

matplotlib's object interface only (no pyplot, no global state), so that drawing works in any
thread and on machines without a display.
"""

from __future__ import annotations

import io
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b2330"
"""Text and axes. In inline SVG it becomes the page's own text colour."""
BLUE, ORANGE, GREEN, PURPLE = "#2b7bbf", "#e0752d", "#2f9e6e", "#8a63c4"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#b8860b", "#c2477f", "#5b8f9c", "#7d7d7d")
_DPI = 130


def shaped(text: str) -> str:
    """``text`` with Arabic-script letters joined and put in drawing order.

    matplotlib before 3.11 draws characters one by one from left to right; later ones shape text
    themselves. Text without right-to-left characters comes back as it is.
    """
    import matplotlib

    if not any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        return text
    if tuple(map(int, matplotlib.__version__.split(".")[:2])) >= (3, 11):
        return text
    from arabic_reshaper import ArabicReshaper
    from bidi.algorithm import get_display  # unlike bidi.get_display it mirrors brackets

    # matplotlib's own font has the lam-alef ligatures but not this one.
    joined = ArabicReshaper({"ARABIC LIGATURE ALLAH": False}).reshape(text)
    # Zero-width (non-)joiners have done their work once the letters have their joined forms.
    return str(get_display(joined.translate({0x200C: None, 0x200D: None})))


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches and its axes, row by row, in the common look."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(rows, columns, n + 1) for n in range(rows * columns)]
    for one in axes:
        one.set_facecolor("none")
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(INK)
        one.tick_params(colors=INK, labelsize=9)
        one.xaxis.label.set_color(INK)
        one.yaxis.label.set_color(INK)
        one.title.set_color(INK)
        one.title.set_fontsize(11)
    return figure, axes


def add_legend(axes: Axes, **options: Any) -> None:
    """A frameless legend in the common look."""
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, **options)


def to_png(figure: Figure) -> bytes:
    """The figure on white, as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element for an HTML page, the same text for the same figure.

    Letters are paths, so no font is needed. ``name`` is put before every id, so that several
    figures can stand in one page; the ink follows the page's text colour (light and dark).
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "sokhan", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    start, end = text.index("<metadata>"), text.index("</metadata>") + len("</metadata>")
    text = text[:start] + text[end:]
    for reference in ('id="', 'href="#', "url(#"):
        text = text.replace(reference, f"{reference}{name}-")
    return text.replace(INK, "currentColor").strip()
