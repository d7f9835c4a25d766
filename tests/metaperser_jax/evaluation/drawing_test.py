"""Palette, style, saving."""

import base64
import io
import re

import matplotlib
import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from metaperser_jax.evaluation import drawing, titles


@drawing.styled
def toy_figure(label="label"):
    fig = drawing.new_figure(2.0)
    ax = fig.subplots()
    ax.plot([0, 1], [0, 1])
    ax.set_xlabel(label)
    drawing.legend_below(fig, [drawing.method_handle("full")], 3)
    return fig


def test_every_method_has_its_own_style():
    styles = {method: drawing.style_of(method) for method in titles.METHOD_TITLES}
    assert len({(s.colour, s.marker, str(s.line)) for s in styles.values()}) == len(
        styles
    )
    assert drawing.style_of("unknown") not in styles.values()


def test_markers_differ_so_that_colour_is_never_alone():
    markers = [drawing.style_of(method).marker for method in titles.METHOD_TITLES]
    assert len(set(markers)) == len(markers)


def test_the_style_of_the_user_neither_counts_nor_changes():
    plain = drawing.to_svg(toy_figure())
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        assert drawing.to_svg(toy_figure()) == plain
        assert matplotlib.rcParams["font.size"] == 30
    assert matplotlib.rcParams["text.parse_math"] is True


def test_svg_is_the_same_every_time_and_holds_no_date_and_no_text_element():
    svg = drawing.to_svg(toy_figure())
    assert svg == drawing.to_svg(toy_figure())
    assert "<svg" in svg
    assert "<text" not in svg  # paths: no font is needed
    assert not re.search(r"<dc:date>|20\d\d-\d\d-\d\d", svg)


def test_png_is_the_same_every_time_on_white():
    png = drawing.to_png(toy_figure(), dpi=50)
    assert png == drawing.to_png(toy_figure(), dpi=50)
    image = Image.open(io.BytesIO(png))
    assert image.size == (int(drawing.WIDTH * 50), 100)
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_heavy_picture_becomes_a_png():
    light, heavy = (drawing.to_data_uri(toy_figure(), limit) for limit in (10**6, 10))
    assert light.startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(light.split(",")[1]).decode() == drawing.to_svg(
        toy_figure()
    )
    assert heavy.startswith("data:image/png;base64,")
    assert base64.b64decode(heavy.split(",")[1]) == drawing.to_png(toy_figure())


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("E1", None, "E1"),
        ("$x$ & <b>", None, "$x$ & <b>"),
        ("聴 E1", None, "? E1"),
        ("a\x1b", None, "a\N{REPLACEMENT CHARACTER}"),
        ("abcdefghijklmnop", 12, "abcdef\N{HORIZONTAL ELLIPSIS}lmnop"),
        ("abcdefghijkl", 12, "abcdefghijkl"),
    ],
)
def test_names_are_made_drawable(text, limit, expected):
    assert drawing.printable(text, limit) == expected


def test_dollar_signs_are_not_formulas():
    drawing.to_svg(toy_figure("$\\frac{1}$"))  # an invalid formula would raise


def luminance(colour):
    channels = np.array(colors.to_rgb(colour))
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


def matrix_figure(values, limit):
    fig = drawing.new_figure(2.0)
    ax = fig.subplots()
    return ax, drawing.draw_matrix(ax, np.array(values), limit, "{:.2f}".format)


def test_numbers_in_cells_keep_their_contrast():
    values = np.linspace(-1, 1, 14).reshape(2, 7)
    ax, image = matrix_figure(values, 1.0)
    for text, value in zip(ax.texts, values.ravel(), strict=True):
        light, dark = sorted(
            [luminance(text.get_color()), luminance(image.to_rgba(value))], reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2 AA


def test_a_matrix_diverges_only_where_something_is_negative():
    assert matrix_figure([[0.1, 0.2]], 0.2)[1].get_clim() == (0, 0.2)
    assert matrix_figure([[-0.1, 0.2]], 0.2)[1].get_clim() == (-0.2, 0.2)


def test_unknown_cells_are_dashes_and_wide_matrices_have_no_numbers():
    ax, _ = matrix_figure([[0.1, np.nan]], 1.0)
    assert [text.get_text() for text in ax.texts] == ["0.10", titles.NONE]
    assert not matrix_figure(np.zeros((1, drawing.MAX_NUMBERED + 1)), 1.0)[0].texts
