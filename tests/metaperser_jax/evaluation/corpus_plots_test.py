"""The pictures of a corpus before training: what they hold, and that it can be read."""

import numpy as np
import pytest

from metaperser_jax.evaluation import corpus_plots
from tests.metaperser_jax.evaluation.figures import (
    check_apart,
    check_inside,
    visible_texts,
)

CLASSES = ["angry", "disappointed", "not_irritated_at_all", "neutral", "sad"]


def names(count, form="listener{:04d}".format):
    return [form(i) for i in range(count)]


def kappas(count, low=-0.2, missing=0.2):
    rng = np.random.default_rng(0)
    kappa = rng.uniform(low, 0.9, (count, count))
    kappa = (kappa + kappa.T) / 2
    kappa[np.triu(rng.random((count, count)) < missing)] = np.nan
    np.fill_diagonal(kappa, np.nan)
    return kappa


def rates(listeners, classes=5):
    table = np.random.default_rng(1).dirichlet(np.ones(classes), listeners)
    table[0, -1] = np.nan
    return table


def shares(listeners, numbers):
    return np.random.default_rng(2).dirichlet(np.ones(numbers), listeners)


def rate_map(listeners, classes=CLASSES, **options):
    table = rates(listeners, len(classes))
    return corpus_plots.rate_map(table, names(listeners, **options), classes, 0)


NULLS = [
    ("I(label; listener), same clips", 0.0901, np.linspace(0.010, 0.012, 199)),
    ("I(label; listener), any clip", 0.002, np.linspace(0.0, 0.005, 199)),
    ("saved by own label rates", 0.0, np.zeros(199)),
]
FIGURES = {
    "2 listeners": lambda: corpus_plots.kappa_map(kappas(2, 0.1, 0), names(2)),
    "20 listeners": lambda: corpus_plots.kappa_map(kappas(20), names(20)),
    "60 listeners": lambda: corpus_plots.kappa_map(kappas(60), names(60)),
    "long names": lambda: corpus_plots.kappa_map(
        kappas(12), names(12, ("x" * 200 + "{}").format)
    ),
    "rates": lambda: rate_map(3),
    "rates of 2,443": lambda: rate_map(2443),
    "rates of 17 classes": lambda: rate_map(26, names(17, "emotion{}".format)),
    "rates of long names": lambda: rate_map(5, form=("y" * 90 + "{}").format),
    "counts": lambda: corpus_plots.label_count_map(shares(3, 3), names(3)),
    "counts of 2,443": lambda: corpus_plots.label_count_map(
        shares(2443, 15), names(2443)
    ),
    "lengths": lambda: corpus_plots.length_histogram(np.linspace(0.5, 30, 7442)),
    "one length": lambda: corpus_plots.length_histogram(np.full(3, 2.0)),
    "classes": lambda: corpus_plots.class_bars([75_000, 3, 0, 120, 9999], CLASSES),
    "nulls": lambda: corpus_plots.null_panels(NULLS),
}


@pytest.fixture(scope="module", params=FIGURES, ids=list(FIGURES))
def figure(request):
    return FIGURES[request.param]()


def test_no_text_is_clipped_and_none_is_small(figure):
    check_inside(figure)
    assert min(text.get_fontsize() for text in visible_texts(figure)) >= 8


def test_no_text_lies_on_another(figure):
    check_apart(figure)


def test_the_figure_fits_a_page(figure):
    assert figure.get_figwidth() == 7.0
    assert figure.get_figheight() <= 11


def ticks(ax, axis="y"):
    return [label.get_text() for label in getattr(ax, f"get_{axis}ticklabels")()]


def test_pairs_without_kappa_have_no_colour():
    kappa = np.array([[np.nan, 0.5], [0.5, np.nan]])
    image = corpus_plots.kappa_map(kappa, ["a", "b"]).axes[0].images[0]
    shown = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_array_equal(shown, kappa)


def test_of_sixty_listeners_every_second_is_named_and_it_is_said():
    fig = corpus_plots.kappa_map(kappas(60), names(60))
    assert len(ticks(fig.axes[0])) == 30
    assert "every second listener is named" in fig.get_suptitle()


def test_rates_are_sorted_by_one_class_and_beyond_forty_a_selection_is_drawn():
    fig = rate_map(2443)
    shown = np.asarray(fig.axes[0].images[0].get_array())
    assert shown.shape == (40, 5)
    assert (np.diff(shown[:, 0]) <= 0).all()
    table = 100 * rates(2443)[:, 0]
    assert shown[[0, -1], 0].tolist() == [table.max(), table.min()]
    assert "shown: 40 of 2,443" in fig.get_suptitle()


def test_the_bars_of_a_listener_sum_to_one():
    fig = corpus_plots.label_count_map(shares(4, 9), names(4))
    bars = [bar for bars in fig.axes[0].containers for bar in bars]
    ends = {round(bar.get_y(), 3): [] for bar in bars}
    for bar in bars:
        ends[round(bar.get_y(), 3)].append(bar.get_width())
    assert [sum(widths) for widths in ends.values()] == pytest.approx([1] * 4)


@pytest.mark.parametrize(
    ("share", "groups"),
    [
        ([0, 1], [(1, 1)]),
        ([0.1, 0.5, 0.4], [(0, 0), (1, 1), (2, 2)]),
        ([0, 6, 3, 1, 1, 1, 1], [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)]),
        ([1] * 10, [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]),
        ([0, 0, 1, 1, 1, 1, 1, 1, 30], [(2, 7), (8, 8)]),
    ],
)
def test_numbers_of_labels_are_put_into_groups(share, groups):
    assert corpus_plots.count_groups(np.array(share, float)) == groups


def test_groups_hold_every_number_once():
    rng = np.random.default_rng(3)
    for _ in range(100):
        share = rng.dirichlet(np.full(rng.integers(1, 16), 0.5))
        groups = corpus_plots.count_groups(share)
        numbers = [n for low, high in groups for n in range(low, high + 1)]
        used = np.flatnonzero(share)
        assert numbers == list(range(used.min(), used.max() + 1))
        assert len(groups) <= 5


def test_classes_stand_in_the_order_of_their_counts():
    fig = corpus_plots.class_bars([5, 30, 10, 0, 7], CLASSES)
    assert ticks(fig.axes[0])[-1] == "disappointed"
    assert [bar.get_width() for bar in fig.axes[0].patches] == [0, 5, 7, 10, 30]


def test_the_observed_value_is_marked_beside_its_null():
    ax = corpus_plots.null_panels(NULLS).axes[0]
    assert ax.lines[0].get_xdata() == [0.0901, 0.0901]
    assert sum(patch.get_height() for patch in ax.patches) == 199
