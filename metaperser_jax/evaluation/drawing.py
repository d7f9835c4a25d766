"""The hand that all pictures are drawn with: palette, style, layout, saving.

Colours are the palette of Okabe and Ito (2008). Marker and line style carry the same
meaning as the colour, so that a grey-scale print can be read. The style does not
depend on the user's matplotlibrc and pyplot is not used: the same data give the same
bytes.
"""

import base64
import functools
import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import matplotlib
import numpy as np
from matplotlib import colors, font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metaperser_jax.evaluation import titles

WIDTH = 7.0  # inches: fits the text of an A4 page, so fonts keep their size
MAX_NUMBERED = 20  # columns of a matrix; more have no room for numbers in cells

BLACK, GREY, PALE = "#000000", "#767676", "#e3e3e3"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

_FONT = "DejaVu Sans"  # comes with matplotlib: the same everywhere
_RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "figure.titlesize": 10,
    "font.family": _FONT,
    "font.size": 8.5,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "metaperser_jax",
    "text.parse_math": False,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}

P = ParamSpec("P")


class Style(NamedTuple):
    """How a method is drawn everywhere: three cues for the same thing."""

    colour: str
    marker: str
    line: Any  # a matplotlib line style
    width: float = 1.3  # points
    size: float = 5.0  # points

    def options(self) -> dict[str, Any]:
        """Returns the style as keyword arguments of a line."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.line,
            "linewidth": self.width,
            "markersize": self.size,
        }


_DASH_DOT_DOT = (0, (6, 1.5, 1, 1.5, 1, 1.5))
_LONG_DASH = (0, (8, 3))
_FINE_DOTS = (0, (1, 2.5))

_STYLES = {
    "full": Style(BLUE, "o", "-", width=2.4, size=6.5),
    "no_adaptation": Style(BLACK, "s", "--"),
    "prior_calibration": Style(ORANGE, "^", "-."),
    "fine_tune": Style(GREEN, "D", ":"),
    "maml": Style(VERMILLION, "v", _LONG_DASH),
    "oracle": Style(PURPLE, "*", _DASH_DOT_DOT, size=7),
    "minus_csmt": Style(ORANGE, "X", "--"),
    "minus_da": Style(GREEN, "P", "-."),
    "minus_lslr": Style(PURPLE, "<", ":"),
    "fomaml": Style(SKY, ">", _DASH_DOT_DOT),
    "anil": Style(SKY, "h", "--"),
    "reptile": Style(ORANGE, "p", _FINE_DOTS),
    "prototypes": Style(SKY, "d", ":"),
    "listener_embedding": Style(GREEN, "8", _LONG_DASH),
    "nearest_listener": Style(VERMILLION, "H", _FINE_DOTS),
    "base_rate": Style(GREY, "1", ":", size=7),
    "scratch": Style(GREY, "2", "--", size=7),
    "wrong_listener": Style(GREY, "x", "-."),
    "ground_truth": Style(BLACK, "+", _FINE_DOTS, size=7),
}


def style_of(method: str) -> Style:
    """Returns the style of a method; unknown ones share a grey dotted one."""
    return _STYLES.get(method, Style(GREY, ".", _LONG_DASH))


def styled(build: Callable[P, Figure]) -> Callable[P, Figure]:
    """Lets a function build and lay out its figure in our style."""

    @functools.wraps(build)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context():
            _use_style()
            fig = build(*args, **kwargs)
            fig.draw_without_rendering()  # tick labels are made here, in our style
            fig.set_layout_engine("none")  # keeps the layout: saving need not repeat it
        return fig

    return wrapper


def _use_style() -> None:
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(_RC)


def new_figure(height: float) -> Figure:
    """Returns an empty figure of our width; `height` is in inches."""
    fig = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def method_handle(method: str, **changes: Any) -> Line2D:
    """Returns the legend entry of a method."""
    label = printable(titles.method_title(method))
    options: dict[str, Any] = {**style_of(method).options(), "label": label, **changes}
    return Line2D([], [], **options)


def legend_below(fig: Figure, handles: list[Line2D], columns: int) -> None:
    """Puts one legend for all panels under them, where it covers nothing."""
    columns = max(1, min(columns, len(handles)))
    fig.legend(handles=handles, loc="outside lower center", ncols=columns)


def draw_matrix(
    ax: Any, values: np.ndarray, limit: float, text: Callable[[float], str]
) -> Any:
    """Draws [rows, columns] as colours with a number in each cell, NaN as a dash.

    Args:
      ax: the panel.
      values: [rows, columns]; a negative one asks for a map centred at zero.
      limit: the largest magnitude of the colour map.
      text: writes the number of a cell.

    Returns:
      The image, for a colour bar.
    """
    signed = bool((values < 0).any())
    low = -limit if signed else 0.0
    cmap = "PuOr" if signed else "Blues"
    image = ax.imshow(values, aspect="auto", cmap=cmap, vmin=low, vmax=limit)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if values.shape[1] > MAX_NUMBERED:
        return image
    for (row, column), value in np.ndenumerate(values):
        known = math.isfinite(value)
        ink = _ink(image.to_rgba(value)) if known else BLACK
        label = text(float(value)) if known else titles.NONE
        ax.text(column, row, label, ha="center", va="center", color=ink, fontsize=8)
    return image


def drop_crowded_numbers(fig: Figure, ax: Any, columns: int) -> None:
    """Hides the numbers of a matrix if one is wider than its cell.

    Call it when the figure is complete: the width of a cell is what the layout leaves.
    """
    if not ax.texts:
        return
    fig.draw_without_rendering()
    cell = ax.get_window_extent().width / columns
    if max(text.get_window_extent().width for text in ax.texts) > 0.95 * cell:
        for text in ax.texts:
            text.set_visible(False)


def _ink(background: Any) -> str:
    """Returns black or white, whichever has the larger contrast (WCAG 2, luminance)."""
    channels = np.array(colors.to_rgb(background))
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else BLACK


def to_svg(fig: Figure) -> str:
    """Returns the figure as SVG: text as paths, no date, the same bytes every time."""
    buffer = io.StringIO()
    _save(fig, buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def to_png(fig: Figure, dpi: int = 150) -> bytes:
    """Returns the figure as PNG, without the name of the software that made it."""
    buffer = io.BytesIO()
    _save(fig, buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def to_data_uri(fig: Figure, max_svg_bytes: int = 600_000) -> str:
    """Returns an address that holds the picture: SVG, or PNG where SVG is heavy.

    As an image and not as inlined markup: the ids of two pictures cannot clash, and
    nothing in it can run.
    """
    svg = to_svg(fig).encode()
    if len(svg) <= max_svg_bytes:
        return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    return "data:image/png;base64," + base64.b64encode(to_png(fig)).decode()


def _save(fig: Figure, buffer: Any, **options: Any) -> None:
    with matplotlib.rc_context():
        _use_style()
        fig.savefig(buffer, facecolor="white", **options)


def printable(text: str, limit: int | None = None) -> str:
    """Returns what the font can draw of a text, '?' for the rest, cut to `limit`."""
    glyphs = _glyphs()
    drawn = "".join(c if ord(c) in glyphs else "?" for c in titles.clean_text(text))
    if limit is None or len(drawn) <= limit:
        return drawn
    return drawn[: limit - 6] + "\N{HORIZONTAL ELLIPSIS}" + drawn[-5:]


@functools.cache
def _glyphs() -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont(_FONT))
    return frozenset(font.get_charmap())
