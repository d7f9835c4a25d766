"""What must hold of the texts of any figure."""

import itertools

from matplotlib.text import Text


def visible_texts(fig):
    """Returns the texts that are drawn: ticks beyond the limits are not."""
    beyond = set()
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            beyond |= {
                label
                for tick in axis.get_major_ticks()
                if not low - slack <= tick.get_loc() <= high + slack
                for label in (tick.label1, tick.label2)
            }
    return [
        text
        for text in fig.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in beyond
    ]


def check_inside(fig):
    """Asserts that no text is clipped."""
    width, height = fig.bbox.size
    for text in visible_texts(fig):
        box = text.get_window_extent()
        inside = min(box.x0, box.y0, width - box.x1, height - box.y1) >= -1
        assert inside, (text.get_text(), box)


def check_apart(fig):
    """Asserts that no text lies on another."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in visible_texts(fig)]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        overlap_x = min(a.x1, b.x1) - max(a.x0, b.x0)
        overlap_y = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert overlap_x <= 1 or overlap_y <= 1, (one, other)
