"""The pictures: what they hold, and that all of it can be read."""

import math
import subprocess
import sys

import numpy as np
import pytest

from metaperser_jax.errors import InputError
from metaperser_jax.evaluation import plots, titles
from tests.metaperser_jax.evaluation import result_rows
from tests.metaperser_jax.evaluation.figures import (
    check_apart,
    check_inside,
    visible_texts,
)

CLASSES = [
    "frustrated",
    "angry",
    "sad",
    "disgust",
    "excited",
    "fear",
    "neutral",
    "surprise",
    "happy",
]


def records(
    methods=tuple(titles.METHOD_TITLES), ks=(4, 8, 16, 32), scenarios=("seen", "unseen")
):
    return [
        result_rows.record(
            method,
            metric,
            0.3 + 0.01 * i + 0.001 * k,
            scenario=scenario,
            num_support=k,
            high=0.33 + 0.01 * i + 0.001 * k,
        )
        for scenario in scenarios
        for k in ks
        for i, method in enumerate(methods)
        for metric in ("macro_f1", "nll")
    ]


def per_listener(gains, metric="macro_f1", name="listener {}".format):
    return [
        result_rows.listener_value(
            name(i), method, 0.5 + 0.001 * (i % 7) + shift, metric=metric
        )
        for i, gain in enumerate(gains)
        for method, shift in (("no_adaptation", 0.0), ("full", gain))
    ]


def dumbbell(gains, **options):
    rows = plots.listener_gains(per_listener(gains, **options), "macro_f1", "seen", 16)
    return plots.dumbbell(rows, "macro_f1", "Seen utterances, K = 16")


def learning_rates(tensors=6, steps=5, sign=1.0):
    paths = [
        f"params/encoder_head/layer_{i}/attention_projection/kernel"
        for i in range(tensors)
    ]
    return {
        path: [sign * 0.01 * (1 + i + s) for s in range(steps)]
        for i, path in enumerate(paths)
    }


def bins(shift=0.0, size=10):
    centres = (np.arange(size) + 0.5) / size
    return {
        "confidence": centres.tolist(),
        "frequency": np.clip(centres + shift, 0, 1).tolist(),
        "count": [10 ** (6 - i % 6) for i in range(size)],
    }


def curves(methods=("full", "maml", "minus_da"), stages=("pretrain", "meta")):
    return result_rows.curve_points(
        methods, stages, range(0, 100_000, 10_000), height=2
    )


def confusion(size=9):
    return (np.ones((size, size)) + 9 * np.eye(size)).tolist()


FIGURES = {
    "k-curves": lambda: plots.k_curves(records(), "macro_f1"),
    "k-curves of a loss": lambda: plots.k_curves(
        records(), "nll", plots.ABLATION_METHODS
    ),
    "k-curves, one scenario": lambda: plots.k_curves(
        records(scenarios=("seen",)), "macro_f1"
    ),
    "k-curves, one K": lambda: plots.k_curves(records(ks=(16,)), "macro_f1"),
    "k-curves from K = 0": lambda: plots.k_curves(
        records(ks=(0, 1, 2, 64)), "macro_f1"
    ),
    "3 listeners": lambda: dumbbell([0.1, -0.1, 0.0]),
    "1 listener": lambda: dumbbell([0.1]),
    "40 listeners": lambda: dumbbell(np.linspace(-0.1, 0.2, 40)),
    "2,443 listeners": lambda: dumbbell(np.linspace(-0.1, 0.2, 2443)),
    "long names": lambda: dumbbell([0.1, -0.1], name=("x" * 200 + " {}").format),
    "learned rates": lambda: plots.learning_rate_map(learning_rates()),
    "negative rates": lambda: plots.learning_rate_map(learning_rates(sign=-1.0)),
    "tiny rates": lambda: plots.learning_rate_map({"a/b": [1e-7, -2e-9] * 7}),
    "300 tensors": lambda: plots.learning_rate_map(learning_rates(300, 40)),
    "reliability": lambda: plots.reliability_diagram(
        {"full": bins(), "no_adaptation": bins(-0.1), "prior_calibration": bins(0.1)}
    ),
    "reliability, one method": lambda: plots.reliability_diagram({"full": bins()}),
    "co-occurrence": lambda: plots.cooccurrence_maps(
        {"full": confusion(), "no_adaptation": confusion()}, CLASSES
    ),
    "co-occurrence, one method": lambda: plots.cooccurrence_maps(
        {"full": confusion()}, CLASSES
    ),
    "co-occurrence, two classes": lambda: plots.cooccurrence_maps(
        {"full": confusion(2), "maml": confusion(2)}, ["yes", "no"]
    ),
    "training": lambda: plots.training_curves(curves(plots.ABLATION_METHODS)),
    "training, one stage": lambda: plots.training_curves(curves(stages=("meta",))),
}


@pytest.fixture(scope="module", params=FIGURES, ids=list(FIGURES))
def figure(request):
    return FIGURES[request.param]()


def test_no_text_is_clipped(figure):
    check_inside(figure)


def test_no_text_lies_on_another(figure):
    check_apart(figure)


def test_no_font_is_smaller_than_eight_points(figure):
    assert min(text.get_fontsize() for text in visible_texts(figure)) >= 8


def test_every_labelled_panel_names_its_axes(figure):
    outer = figure.get_supxlabel()
    for ax in figure.axes:
        named = ax.get_xlabel() or outer or ax.get_label() == "<colorbar>"
        assert named, ax


def test_the_figure_fits_a_page(figure):
    assert figure.get_figwidth() == 7.0


def test_the_overlap_check_can_fail():
    fig = plots.k_curves(records(), "macro_f1")
    fig.text(0.5, 0.5, "here")
    fig.text(0.5, 0.5, "there")
    with pytest.raises(AssertionError):
        check_apart(fig)
    fig.text(-0.1, 0.5, "clipped")
    with pytest.raises(AssertionError):
        check_inside(fig)


def legend_texts(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_k_curves_draw_at_most_six_methods_the_full_one_first():
    fig = plots.k_curves(records(), "macro_f1")
    assert legend_texts(fig) == [titles.METHOD_TITLES[m] for m in plots.CURVE_METHODS]
    assert len(legend_texts(fig)) == plots.MAX_METHODS
    assert [ax.get_title() for ax in fig.axes] == [
        "Seen utterances",
        "Unseen utterances",
    ]


def test_k_curves_highlight_the_full_method():
    (ax,) = plots.k_curves(records(scenarios=("seen",)), "macro_f1").axes
    widths = [container.lines[0].get_linewidth() for container in ax.containers]
    assert widths[0] > max(widths[1:])


def test_k_curves_show_the_numbers_given():
    rows = records(methods=("full",), scenarios=("seen",))
    (ax,) = plots.k_curves(rows, "macro_f1").axes
    (container,) = ax.containers
    expected = [row["mean"] for row in rows if row["metric"] == "macro_f1"]
    np.testing.assert_allclose(container.lines[0].get_ydata(), expected)
    (bars,) = container.lines[2]
    ends = [path.vertices[:, 1] for path in bars.get_paths()]
    np.testing.assert_allclose(
        ends, [(row["low"], row["high"]) for row in rows if row["metric"] == "macro_f1"]
    )


def test_k_curves_leave_out_what_is_not_a_number():
    rows = records(methods=("full", "maml"), scenarios=("seen",))
    rows = [
        row | {"mean": math.nan} if row["method"] == "maml" else row for row in rows
    ]
    assert legend_texts(plots.k_curves(rows, "macro_f1")) == ["Meta-PerSER (full)"]


def test_one_mark_of_a_method_means_the_same_in_all_panels():
    left, right = plots.k_curves(records(), "macro_f1").axes
    looks = [
        [
            (
                c.lines[0].get_color(),
                c.lines[0].get_marker(),
                c.lines[0].get_linestyle(),
            )
            for c in ax.containers
        ]
        for ax in (left, right)
    ]
    assert looks[0] == looks[1]
    for cue in range(2):  # colour, marker
        assert len({look[cue] for look in looks[0]}) == plots.MAX_METHODS


def test_gains_are_paired_by_listener_and_sorted():
    rows = per_listener([0.1, -0.2, 0.05])
    gains = plots.listener_gains(rows, "macro_f1", "seen", 16)
    assert gains.annotators == ["listener 1", "listener 2", "listener 0"]
    np.testing.assert_allclose(gains.gain, [-0.2, 0.05, 0.1])
    np.testing.assert_allclose(gains.after - gains.before, gains.gain)


def test_a_lower_loss_is_a_gain():
    rows = per_listener([0.1, -0.2], metric="nll")
    gains = plots.listener_gains(rows, "nll", "seen", 16)
    np.testing.assert_allclose(gains.gain, [-0.1, 0.2])


def test_listeners_without_a_value_are_counted_not_drawn():
    rows = per_listener([0.1, -0.2, 0.3, 0.0])[:-1]
    rows[0]["value"] = math.nan
    gains = plots.listener_gains(rows, "macro_f1", "seen", 16)
    assert gains.annotators == ["listener 1", "listener 2"]
    assert plots.gain_counts(gains) == (
        "1 of 2 listeners better, 1 worse, 2 without a value"
    )


def test_two_values_of_a_listener_are_refused():
    rows = per_listener([0.1])
    with pytest.raises(InputError, match="two rows for full, listener 0"):
        plots.listener_gains([*rows, rows[1]], "macro_f1", "seen", 16)


def test_nobody_to_pair_is_no_gain():
    gains = plots.listener_gains([], "macro_f1", "seen", 16)
    assert gains.annotators == []


def test_those_made_worse_differ_in_shape_line_and_colour():
    (ax,) = dumbbell([0.1, -0.1]).axes
    looks = {
        (line.get_marker(), line.get_color())
        for line in ax.lines
        if line.get_marker() in ("o", "v") and line.get_markerfacecolor() != "white"
    }
    assert looks == {("v", "#D55E00"), ("o", "#0072B2")}
    assert [line.get_linestyle() for line in ax.lines[::3]] == ["--", "-"]


def test_the_legend_of_the_dumbbell_names_only_what_occurs():
    assert len(legend_texts(dumbbell([0.1, 0.2]))) == 2
    assert len(legend_texts(dumbbell([0.1, 0.0, -0.1]))) == 4


def test_many_listeners_are_sampled_at_ranks_and_this_is_said():
    fig = dumbbell(np.linspace(-0.1, 0.2, 2443))
    title = fig.get_suptitle()
    assert "shown: 40 of 2,443" in title
    assert "1,628 of 2,443 listeners better, 814 worse, 1 the same" in title
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert len(labels) == 40
    assert labels[0] == "listener 0"
    assert labels[-1] == "listener 2442"
    assert "shown" not in dumbbell(np.linspace(-0.1, 0.2, 40)).get_suptitle()


@pytest.mark.parametrize(
    ("total", "limit"), [(0, 5), (3, 5), (5, 5), (6, 5), (2443, 40)]
)
def test_a_spread_is_distinct_and_holds_both_ends(total, limit):
    chosen = plots.spread(total, limit)
    assert len(set(chosen)) == len(chosen) == min(total, limit)
    if total:
        assert (chosen[0], chosen[-1]) == (0, total - 1)


def test_rates_stand_in_their_cells():
    fig = plots.learning_rate_map(
        {"head/a/kernel": [0.01, -0.5], "head/b/kernel": [1e-5, 3]}
    )
    ax = fig.axes[0]
    assert [t.get_text() for t in ax.texts] == [
        "0.0100",
        "-0.5000",
        "1.0e-05",
        "3.0000",
    ]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a / kernel", "b / kernel"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2"]
    assert ax.images[0].get_clim() == (-3, 3)


def test_numbers_without_room_are_left_out():
    def shown(steps):
        ax = plots.learning_rate_map({"a/b": [1e-7] * steps}).axes[0]
        return [text.get_visible() for text in ax.texts]

    assert shown(5) == [True] * 5
    assert shown(14) == [False] * 14


def test_rates_that_are_not_finite_or_zero_can_be_drawn():
    fig = plots.learning_rate_map({"a/b": [math.nan, math.inf, 0.0], "c/d": [0.0]})
    cells = [text.get_text() for text in fig.axes[0].texts]
    assert cells == [
        titles.NONE,
        titles.NONE,
        "0.0000",
        "0.0000",
        titles.NONE,
        titles.NONE,
    ]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (
            ["params/head/a/kernel", "params/head/b_c/bias"],
            ["a / kernel", "b c / bias"],
        ),
        (["head/classifier/kernel"], ["classifier / kernel"]),
        (["kernel"], ["kernel"]),
        (["a/kernel", "a/b/kernel"], ["a / kernel", "a / b / kernel"]),
        ([], []),
    ],
)
def test_tensor_names_lose_the_folders_that_all_share(paths, names):
    assert plots.tensor_names(paths) == names


def test_ece_of_bins():
    table = plots.filled_bins(
        {
            "confidence": [0.2, 0.7, math.nan],
            "frequency": [0.1, 0.9, math.nan],
            "count": [1, 3, 0],
        }
    )
    assert table.shape == (3, 2)
    assert plots.bins_ece(table) == pytest.approx((0.1 + 3 * 0.2) / 4)
    assert math.isnan(plots.bins_ece(np.zeros((3, 0))))


def test_reliability_shows_before_then_after_with_ece_and_counts():
    fig = plots.reliability_diagram({"full": bins(), "no_adaptation": bins(-0.1)})
    before, after, counts, _ = fig.axes
    assert before.get_title().startswith("No adaptation")
    assert "ECE of these bins: 0.000" in after.get_title()
    assert [bar.get_height() for bar in counts.patches] == bins()["count"]


def test_rows_of_cooccurrence_are_shares():
    shares = plots.row_shares(np.array([[1.0, 3.0], [0.0, 0.0]]))
    np.testing.assert_allclose(shares, [[0.25, 0.75], [np.nan, np.nan]])
    matrices = {"full": [[1, 3], [0, 0]], "no_adaptation": [[1, 0], [1, 1]]}
    fig = plots.cooccurrence_maps(matrices, ["yes", "no"])
    before, after = fig.axes[:2]
    assert before.get_title() == "No adaptation (SSL-E)"
    assert [t.get_text() for t in after.texts] == ["25", "75", titles.NONE, titles.NONE]


def test_training_curves_show_training_losses_where_they_do_not_clutter():
    many, one = curves(stages=("meta",)), curves(("maml",), ("pretrain",))
    pretrain, meta = plots.training_curves(many + one).axes
    assert len(pretrain.lines) == 2
    assert len(meta.lines) == 4  # three on development listeners, one training loss
    np.testing.assert_allclose(pretrain.lines[0].get_ydata()[:2], [2, 2 / 10_001])


def test_training_curves_are_sorted_by_step():
    (ax,) = plots.training_curves(curves(("full",), ("meta",))[::-1]).axes
    assert list(ax.lines[0].get_xdata()) == list(range(0, 100_000, 10_000))


def test_pyplot_is_never_loaded():
    code = (
        "import sys; from metaperser_jax.evaluation import plots; "
        "plots.to_png(plots.learning_rate_map({'a/b': [0.1]})); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
