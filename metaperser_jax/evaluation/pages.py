"""Web pages that need nothing beside them: templates filled, text escaped."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe

from metaperser_jax.evaluation import titles


def render(
    template: str, styles: Sequence[str] = ("report.css",), **values: Any
) -> str:
    """Fills a template of this package.

    The template sees `style`, the style sheets joined, and `style_hash`, by which its
    content security policy lets them in and nothing else.

    Args:
      template: name of the file in `templates`.
      styles: names of the style sheets in `templates`.
      **values: what the template shows; strings are escaped, control characters made
        visible.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("metaperser_jax.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    loader = environment.loader
    assert loader is not None
    style = "".join(loader.get_source(environment, name)[0] for name in styles)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=markupsafe.Markup(style), style_hash=f"sha256-{digest}", **values
    )


def _visible(value: Any) -> Any:
    """Makes control characters of names visible; markup of ours passes."""
    if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
        return "\n".join(titles.clean_text(line) for line in value.split("\n"))
    return value
