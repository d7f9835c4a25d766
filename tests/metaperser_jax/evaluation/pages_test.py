"""Pages: self-contained, escaped."""

import base64
import hashlib
import re

from metaperser_jax.evaluation import pages


def page(title):
    return pages.render(
        "tables.html",
        ("report.css", "tables.css"),
        title=title,
        num_support=16,
        tables=[],
        pictures={},
        spans=None,
        starts=None,
        missing="missing",
        command="",
        facts=[],
    )


def test_text_is_escaped_and_control_characters_are_visible():
    shown = page("<script>alert(1)</script>\x1b[2J\u202e")
    assert "<script" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\N{REPLACEMENT CHARACTER}[2J" in shown


def test_the_policy_lets_in_exactly_the_style_sheets_that_stand_there():
    shown = page("x")
    (style,) = re.findall(r"<style>(.*?)</style>", shown, re.S)
    assert "small.beside" in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in shown.replace("&#39;", "'")
