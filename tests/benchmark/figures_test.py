"""No label is cut and no name lies on what it names, however long they are."""

import io

import matplotlib.figure
import pytest
from matplotlib.backends import backend_agg

from benchmark import figures

LONG = "A-model-with-a-name-of-forty-characters-x"
MODELS = (LONG, LONG[::-1], "c", "d", "e")
PLACES = ("Spoken Language Understanding", "Signal Characteristics", "Pitch") * 6
VALUES = {name: [0.1 * i] * len(PLACES) for i, name in enumerate(MODELS)}
DRAW = {
    "radar": lambda: figures.radar(PLACES, VALUES),
    "bars": lambda: figures.bars(
        PLACES,
        {
            name: [figures.Bar(v, v - 0.3, v + 0.1) for v in row]
            for name, row in VALUES.items()
        },
    ),
    "dumbbell": lambda: figures.dumbbell(
        [figures.Pair(LONG * 2, 0.2, 0.9, True)] * 5, *MODELS[:2], "score"
    ),
}


@pytest.fixture
def boxes(monkeypatch):
    """Collects what is drawn: the saved part, the axes, the legend and all labels."""
    found = {}
    save = matplotlib.figure.Figure.savefig

    def saving(figure, *args, **kwargs):
        canvas = backend_agg.FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        found["saved"] = figure.get_tightbbox(renderer).transformed(
            figure.dpi_scale_trans
        )
        found["is_tight"] = kwargs.get("bbox_inches") == "tight"
        (plot,) = figure.axes
        radial = plot.name == "polar"  # its places stand around, not below each other
        labels = plot.get_xticklabels() if radial else plot.get_yticklabels()
        found["labels"] = [t.get_window_extent(renderer) for t in labels]
        found["plot"] = plot.get_window_extent(renderer)
        (legend,) = figure.legends
        found["legend"] = legend.get_window_extent(renderer)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", saving)
    return found


@pytest.mark.parametrize("kind", DRAW)
def test_long_names_find_room(boxes, kind):
    assert b"<svg" in DRAW[kind]()
    assert boxes["is_tight"]
    saved, legend = boxes["saved"], boxes["legend"]
    for box in (*boxes["labels"], legend):
        assert saved.x0 - 1 <= box.x0
        assert box.x1 <= saved.x1 + 1
    assert not legend.overlaps(boxes["plot"])
    assert not any(legend.overlaps(box) for box in boxes["labels"] if box.width > 1)


def test_labels_of_the_radar_stay_out_of_the_disc(boxes):
    figures.radar(PLACES[:3], {"m": [0.5] * 3})
    disc = boxes["plot"]
    middle, radius = (disc.x0 + disc.x1) / 2, disc.height / 2
    for box in boxes["labels"][1:3]:
        nearest = min(abs(box.x0 - middle), abs(box.x1 - middle))
        height = abs((box.y0 + box.y1) / 2 - (disc.y0 + disc.y1) / 2)
        assert (nearest**2 + height**2) ** 0.5 > radius


def test_figures_are_the_same_each_time():
    assert DRAW["radar"]() == DRAW["radar"]()
    assert io.BytesIO(DRAW["bars"]()).read(5) == b"<?xml"
