"""The report: one page that holds all, hides nothing and fetches nothing."""

import base64
import hashlib
import math
import re
import subprocess
import sys

import pytest

from metaperser_jax.errors import InputError
from metaperser_jax.evaluation import report, titles
from tests.metaperser_jax.evaluation import result_rows
from tests.metaperser_jax.evaluation.page import Page

EVIL = "<script>alert('x')</script>"


def records(scenarios=("seen", "unseen"), ks=(8, 16), methods=None):
    methods = methods or ["full", "no_adaptation", "minus_da", "maml", "oracle"]
    return [
        result_rows.record(
            method,
            metric,
            0.5 - 0.01 * i,
            scenario=scenario,
            num_support=k,
            low=0.45 - 0.01 * i,
            high=0.56 - 0.01 * i,
        )
        for scenario in scenarios
        for k in ks
        for i, method in enumerate(methods)
        for metric in ("macro_f1", "nll")
    ]


def comparisons(**changes):
    numbers = {"difference": 0.0812, "low": 0.0601, "high": 0.1003, "p_holm": 0.0042}
    return [
        result_rows.comparison(reference, scenario=scenario, **(numbers | changes))
        for scenario in ("seen", "unseen")
        for reference in ("no_adaptation", "maml")
    ]


def full_data(**changes):
    gains = {EVIL: 0.1, "E2": -0.1, "聴取者": 0.0}
    per_listener = [
        row
        for scenario in ("seen", "unseen")
        for row in result_rows.before_and_after(gains, 0.4, scenario=scenario)
    ]
    bins = {"confidence": [0.2, 0.7], "frequency": [0.1, 0.9], "count": [10, 30]}
    curves = result_rows.curve_points(["full"])
    data = report.ReportData(
        title=f"Run {EVIL}",
        command="python run.py --config=configs/x.py && echo '<done>'",
        config={"meta.num_steps": 5, "data.root": EVIL},
        versions={"jax": "0.10"},
        hashes={"features": "cd" * 32},
        seeds={"episodes": 7},
        corpus={
            "name": "toy",
            "clips": 1234,
            "hours": 1.23456,
            "classes": {"angry": 30, f"happy{EVIL}": 10},
            "neutral_rate": {"min": 0.05, "max": 0.95},
            "information_bits": {"listener given clip": 0.3712},
        },
        records=records(),
        comparisons=comparisons(),
        per_listener=per_listener,
        learning_rates={"head/a/kernel": [0.01, 0.02], "head/a/bias": [0.1, -0.2]},
        reliability={"full": bins, "no_adaptation": bins},
        cooccurrence={m: [[3.0, 1.0], [1.0, 1.0]] for m in ("full", "no_adaptation")},
        curves=curves,
        notes=["2 listeners were skipped.", EVIL],
    )
    return data._replace(**changes)


def minimal_data(**changes):
    data = report.ReportData(
        "Run", "run", {}, {}, {}, {}, {}, [], [], [], {}, {}, {}, [], []
    )
    return data._replace(**changes)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return report.write_report(full_data(), tmp_path_factory.mktemp("run") / "a" / "b")


@pytest.fixture(scope="module")
def source(written):
    return written.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def page_of(data, folder):
    return Page(report.write_report(data, folder).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "words",
    [
        "Personalisation helps: with K = 16 labelled utterances, macro-F1 changes by "
        "+0.081 [+0.060, +0.100]",
        "Seen utterances, K = 16",
        "Unseen utterances, K = 16",
        "Meta-PerSER (full) 0.500 [0.450, 0.560]",
        "Over 12 listeners, 20 draws.",
        "95% interval",
        "No adaptation (SSL-E) +0.081 [+0.060, +0.100] 0.004 25 % 12 better",
        "macro-F1 at every K, Seen utterances",
        "clips 1,234",
        "hours 1.235",
        "neutral_rate / max 0.95",
        "angry 30 (75.0 %)",
        "Mutual information, in bits information_bits / listener given clip 0.3712",
        "python run.py --config=configs/x.py && echo '<done>'",
        "meta.num_steps 5",
        "jax 0.10",
        "cd" * 32,
        "episodes 7",
        "2 listeners were skipped.",
    ],
)
def test_the_page_says(page, words):
    assert words in page.words()


def test_names_are_escaped(source, page):
    assert "<script" not in source
    assert page.words().count(EVIL) >= 4  # as text: title, config, label, note
    assert not page.all("script")


def test_nothing_is_fetched(source, page):
    assert not re.search(r"(https?:)?//\w", re.sub(r"base64,[\w+/=]+", "", source))
    assert not page.all("link")
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert all(link["href"].startswith("#") for link in page.all("a"))


def test_the_policy_forbids_all_but_our_style_and_inlined_images(source, page):
    (policy,) = (
        meta["content"]
        for meta in page.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    (style,) = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not any("style" in attributes for _, attributes in page.tags)
    assert "@media print" in style
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style


def test_every_picture_is_described_and_lies_beside_the_page(written, page):
    images = page.all("img")
    names = sorted(path.stem for path in written.parent.glob("*.png"))
    assert len(images) == len(names)
    assert names == [
        "cooccurrence",
        "k_curves_macro_f1",
        "k_curves_macro_f1_ablations",
        "k_curves_nll",
        "learning_rates",
        "listeners_seen",
        "listeners_unseen",
        "reliability",
        "training_curves",
    ]
    assert all(len(image["alt"]) > 60 for image in images)
    assert len({image["alt"] for image in images}) >= len(images) - 1


def test_tables_have_captions_and_can_be_reached_by_keyboard(page):
    tables = len(page.all("table"))
    assert tables >= 8
    assert len(page.all("caption")) == tables
    regions = [div for div in page.all("div") if div.get("role") == "region"]
    assert len(regions) == tables
    assert all(div["tabindex"] == "0" and div["aria-label"] for div in regions)
    assert all("scope" in heading for heading in page.all("th"))


def test_links_and_labels_point_to_what_exists(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)
    assert {s["aria-labelledby"] for s in page.all("section")} == set(ids)


def test_the_best_deployable_method_is_marked(source):
    assert re.search(r'class="best"><strong>0\.500</strong>', source)
    oracle = source[source.index("Oracle (all own labels)") :][:400]
    assert "best" not in oracle


def test_the_same_data_give_the_same_bytes(written, tmp_path):
    again = report.write_report(full_data(), tmp_path)
    assert again.read_bytes() == written.read_bytes()
    for path in written.parent.glob("*.png"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_run_without_anything_still_has_a_page(tmp_path):
    page = page_of(minimal_data(), tmp_path)
    assert page.words().count("Not part of this run:") == 9
    assert "None were recorded." in page.words()
    assert list(tmp_path.glob("*.png")) == []


def test_one_scenario_and_one_k_are_enough(tmp_path):
    data = minimal_data(records=records(("unseen",), (8,), ["maml"]))
    words = page_of(data, tmp_path).words()
    assert "Unseen utterances, K = 8" in words
    assert "Seen utterances, K" not in words
    assert "Not part of this run: results at more than one K." in words
    assert "Meta-PerSER (full) was not evaluated here." in words
    assert "Not part of this run: paired comparisons in this scenario" in words


def test_scenarios_may_differ_in_k(tmp_path):
    rows = records(("seen",), (4,)) + records(("unseen",), (16,))
    words = page_of(minimal_data(records=rows), tmp_path).words()
    assert "Not part of this run: results of this scenario at this K." in words


def test_values_that_are_not_numbers_are_dashes_and_explained(tmp_path):
    rows = records(ks=(16,))
    rows[0] |= {"mean": math.nan, "low": math.nan, "high": math.nan}
    data = minimal_data(
        records=rows,
        comparisons=comparisons(difference=math.nan, low=math.nan, p_holm=math.nan),
        corpus={"hours": math.nan},
    )
    words = page_of(data, tmp_path).words()
    assert f"{titles.NONE} means not measured, or not defined" in words
    assert f"Meta-PerSER (full) {titles.NONE} " in words
    assert "not tested" in words
    assert f"hours {titles.NONE}" in words
    assert "nan" not in words


def test_results_without_gaps_need_no_explanation(page):
    assert "means not measured" not in page.words()


def test_a_lost_comparison_is_said_in_the_headline(tmp_path):
    data = minimal_data(
        records=records(ks=(16,)), comparisons=comparisons(difference=-0.05)
    )
    assert "Personalisation hurts" in page_of(data, tmp_path).words()


def test_the_level_of_the_intervals_is_said(tmp_path):
    data = minimal_data(records=records(ks=(16,)), interval_level=0.9)
    words = page_of(data, tmp_path).words()
    assert "90% interval" in words
    assert "95%" not in words


def test_characters_that_hide_are_made_visible(tmp_path):
    page = page_of(
        minimal_data(title="a\u202eb\x00\ud800", notes=["one\ntwo"]), tmp_path
    )
    assert "a\ufffdb\ufffd\ufffd" in page.words()
    assert "one two" in page.words()


def test_two_values_for_one_cell_are_refused(tmp_path):
    with pytest.raises(InputError, match="two rows for full, macro_f1"):
        report.write_report(minimal_data(records=records(ks=(16,)) * 2), tmp_path)


def test_long_facts_are_cut_and_counted():
    rows = report.facts({f"rater {i}": i for i in range(100)})
    assert len(rows) == report.MAX_ROWS + 1
    assert rows[-1] == ("and 40 more rows", "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10039, "10,039"),
        (3000.0, "3,000"),
        (0.000123456, "0.0001235"),
        (True, "True"),
        (None, "None"),
        ("text", "text"),
        ([1, 2.5, "a"], "1, 2.5, a"),
        ((), ""),
        (list(range(25)), ", ".join(map(str, range(20))) + " ... and 5 more"),
    ],
)
def test_facts_are_formatted(value, expected):
    assert report.format_fact(value) == expected


def test_importing_the_report_does_not_load_matplotlib():
    code = (
        "import sys; from metaperser_jax.evaluation import report, tables; "
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
