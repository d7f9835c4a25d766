"""The paper's tables, from rows to files."""

import csv
import math
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.evaluation import paper, sheet, titles
from metaperser_jax.evaluation.paper import PaperSpec, index_data
from tests.metaperser_jax.evaluation.page import Page

NAMES = ("main", "ablation", "k_curve", "per_listener", "per_encoder")
EVIL = "<script>alert('x')</script>"
KEYS = ("encoder", "group", "scenario", "num_support", "method", "metric")
SPEC = PaperSpec(
    16,
    title="Toy & co",
    provenance={"command": "python run.py --mode=tables", "seeds": {"seed": 0}},
    cells={"logmel": (10, 12)},
)


def key_of(row):
    return tuple(str(row[key]) for key in KEYS)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def labels(block):
    return [row.label for section in block.sections for row in section.rows]


def test_all_files_are_written_and_named(tmp_path, sweep):
    made = paper.write_tables(tmp_path / "new", *sweep(), SPEC)
    names = {path.name for path in made.paths}
    expected = {f"{name}.{end}" for name in NAMES for end in ("txt", "csv", "tex")}
    assert expected | {"tables.html", "k_curves_macro_f1_1.png"} <= names
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    assert all(path.stat().st_size for path in made.paths)
    assert "Main results" in made.text
    assert "LSLR 4 wins, 0 ties, 0 losses" in made.text


def test_the_same_rows_give_the_same_bytes(tmp_path, sweep):
    one, two = (
        paper.write_tables(tmp_path / name, *sweep(groups=("",)), SPEC).paths
        for name in "ab"
    )
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_main_table_has_scenarios_over_metrics_and_a_block_for_each_kind(sweep):
    made = paper.main_table(index_data(*sweep()[:2], SPEC))
    assert [block.title for block in made.blocks] == [
        "Log-mel (no weights), Observers",
        "Log-mel (no weights), Self-raters",
    ]
    assert sheet.spans(made.blocks[0].columns) == [
        ("Seen utterances", 2),
        ("Unseen utterances", 2),
    ]
    assert [column.head for column in made.blocks[0].columns[:2]] == [
        "macro-F1 ↑",
        "NLL ↓",
    ]
    assert [section.title for section in made.blocks[0].sections] == [
        "The method",
        "Its ablations",
        "Baselines",
        "Controls and bounds",
    ]


def test_caption_says_corpus_support_counts_and_completeness(sweep):
    text = paper.main_table(index_data(*sweep()[:2], SPEC)).caption
    for part in (
        "on toy with K = 16",
        "(12 listeners, 20 draws, 3 seeds, 5 folds)",
        "6 of 6 methods; sweep 83 % complete (10 of 12 cells)",
        "worse than no adaptation with p < 0.05",
    ):
        assert part in text


def test_missing_cells_show_and_count(sweep):
    records, comparisons, _ = sweep()
    kept = [
        row
        for row in records
        if not (row["method"] == "oracle" and row["scenario"] == "unseen")
    ]
    spec = SPEC._replace(methods=("reptile",))
    made = paper.main_table(index_data(kept, comparisons, spec))
    text = sheet.as_text(made)
    assert "missing" in text
    assert "6 of 7 methods; 12 of 56 numbers missing" in " ".join(text.split())
    assert sum(row["status"] == "missing" for row in made.rows) == 12


def test_a_headline_support_without_results_is_missing_all_over(sweep):
    made = paper.main_table(index_data(*sweep()[:2], SPEC._replace(headline_support=7)))
    assert {row["status"] for row in made.rows} == {"missing"}
    assert "0 of 6 methods; 48 of 48 numbers missing" in made.caption
    assert "missing" in sheet.as_text(made)


def test_ablation_table_has_full_its_ablations_and_the_parts(sweep):
    made = paper.ablation_table(index_data(*sweep()[:2], SPEC))
    titles_of = [titles.method_title(m) for m in ("full", *titles.ABLATIONS)]
    assert labels(made.blocks[0]) == [*titles_of, "CSMT", "DA", "LSLR"]
    lslr = made.blocks[0].sections[-1].rows[2].cells
    assert [cell.mean for cell in lslr] == ["+0.030", "-0.030"] * 2
    assert [cell.mark for cell in lslr] == ["+"] * 4
    assert len(made.sentences) == 2 + 2 * 2 * 2  # metrics; and kinds, scenarios
    by_method = {row["method"]: row for row in made.rows}
    assert by_method["minus_da"]["compared"] == "full"
    assert by_method["minus_da"]["reference"] == "minus_da"


def test_k_curve_has_every_support_under_every_scenario(sweep):
    spec = SPEC._replace(supports=(4, 8, 16, 32))
    made = paper.k_curve_table(index_data(*sweep()[:2], spec))
    heads = [column.head for column in made.blocks[0].columns]
    assert heads == ["K = 4", "K = 8", "K = 16", "K = 32"] * 2
    assert "48 of 96" not in made.caption
    assert "96 of 192 numbers missing" in made.caption  # K = 4 and K = 32
    assert len(made.blocks) == 4  # kinds, lead metrics


def test_encoders_stand_side_by_side(sweep):
    rows = sweep(encoders=("logmel", "microsoft/wavlm-base-plus", "facebook/x"))
    made = paper.encoder_table(index_data(*rows[:2], SPEC))
    heads = [column.head for column in made.blocks[0].columns]
    assert heads == ["Log-mel (no weights)", "WavLM Base+", "facebook/x"] * 2
    assert [block.title for block in made.blocks][:2] == [
        "Observers, macro-F1 ↑",
        "Observers, NLL ↓",
    ]


def test_a_kind_that_lacks_a_scenario_shows_no_column_and_is_named(sweep):
    records, comparisons, _ = sweep()
    kept = [r for r in records if (r["group"], r["scenario"]) != ("self", "unseen")]
    made = paper.main_table(index_data(kept, comparisons, SPEC))
    assert len(made.blocks[1].columns) == 2
    assert (
        "No results at all: Log-mel (no weights), Self-raters, Unseen" in made.caption
    )


def test_one_method_one_listener_one_support(tmp_path, record, value):
    rows = [record(sd=None, num_listeners=1, num_draws=1, num_seeds=1, num_folds=1)]
    made = paper.write_tables(tmp_path, rows, [], [value()], PaperSpec(16))
    assert "1 listener, 1 draw, 1 seed, 1 fold" in " ".join(made.text.split())
    assert "0.500 [0.480, 0.520]*?" in made.text
    assert not list(tmp_path.glob("*.png"))
    (row,) = read(tmp_path / "main.csv")
    assert row["sd"] == ""


def test_nothing_at_all_is_said_and_not_an_error(tmp_path):
    made = paper.write_tables(tmp_path, [], [], [], PaperSpec(16))
    assert "No results." in made.text
    assert "No results." in (tmp_path / "tables.html").read_text()


def test_nan_and_none_are_dashes_in_text_and_empty_in_csv(tmp_path, record):
    none = {"mean": math.nan, "sd": None, "low": math.nan, "high": math.nan}
    rows = [record(**none), record("maml")]
    paper.write_tables(tmp_path, rows, [], [], PaperSpec(16))
    assert "nan" not in (tmp_path / "main.txt").read_text().lower()
    assert "& -- " in (tmp_path / "main.tex").read_text()
    full, _ = read(tmp_path / "main.csv")
    assert (full["mean"], full["status"]) == ("", "undefined")


def test_csv_keeps_full_precision_and_disarms_formulas(tmp_path, record, value):
    rows = [record("=1+1", mean=1 / 3)]
    values = [value("@SUM(A1)", "=1+1", 2 / 3)]
    paper.write_tables(tmp_path, rows, [], values, PaperSpec(16))
    (row,) = read(tmp_path / "main.csv")
    assert float(row["mean"]) == 1 / 3
    assert row["method"] == "'=1+1"
    (row,) = read(tmp_path / "per_listener.csv")
    assert float(row["value"]) == 2 / 3
    assert row["annotator"] == "'@SUM(A1)"


def test_the_page_is_well_formed_self_contained_and_runs_nothing(tmp_path, sweep):
    rows = sweep(listeners=(EVIL, "E2"), encoders=(EVIL,), groups=("observer", EVIL))
    paper.write_tables(tmp_path, *rows, SPEC._replace(title=EVIL))
    source = (tmp_path / "tables.html").read_text()
    page = Page(source)
    assert not page.all("script")
    assert "default-src 'none'" in source
    for tag, values in page.tags:
        assert not any(name.startswith("on") for name in values)
        address = values.get("src", values.get("href", "#"))
        assert address.startswith(("#", "data:image/")), tag
    ids = [values["id"] for _, values in page.tags if "id" in values]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', source)) <= set(ids)
    images = page.all("img")
    assert len(images) == 6  # kinds times macro-F1, its ablations, NLL
    assert all("Line chart" in values["alt"] for values in images)


def test_lines_of_a_page_table_have_the_same_number_of_cells(tmp_path, sweep):
    metrics = tuple(titles.METRICS)
    paper.write_tables(tmp_path, *sweep(metrics=metrics, supports=(16,)), SPEC)
    for rows in Page((tmp_path / "tables.html").read_text()).tables:
        width = max(rows)
        assert set(rows) <= {width, width - 1}  # the corner spans two lines
        assert width <= 13


def test_the_page_repeats_the_run(tmp_path, sweep):
    paper.write_tables(tmp_path, *sweep(supports=(16,)), SPEC)
    page = (tmp_path / "tables.html").read_text()
    assert "python run.py --mode=tables" in page
    assert "10 of 12" in page
    assert "Toy &amp; co" in page


def test_text_tables_fit_the_console(sweep):
    rows = sweep(
        metrics=("macro_f1", "uar", "nll"), methods=tuple(titles.METHOD_TITLES)
    )
    data = index_data(*rows[:2], SPEC)
    makers = (paper.main_table, paper.k_curve_table, paper.encoder_table)
    made = [paper.ablation_table(data), *(make(data) for make in makers)]
    made.append(paper.listener_table(rows[2], SPEC))
    texts = [sheet.as_text(one) for one in made]
    assert max(len(line) for text in texts for line in text.splitlines()) <= 100


def test_the_console_text_fits_the_encoding(tmp_path, sweep):
    rows = sweep(supports=(16,))
    made = paper.write_tables(tmp_path, *rows, SPEC, encoding="ascii")
    made.text.encode("ascii")
    assert "±" in (tmp_path / "main.txt").read_text()


PLACES = st.tuples(
    st.sampled_from(["logmel", "mine"]),
    st.sampled_from(["", "observer", "self", "all"]),
    st.sampled_from(["seen", "unseen"]),
    st.sampled_from([4, 16]),
    st.sampled_from(["full", "minus_da", "no_adaptation", "own"]),
    st.sampled_from(["macro_f1", "nll", "odd"]),
)


@settings(max_examples=40)
@given(st.dictionaries(PLACES, st.floats() | st.none(), max_size=30))
def test_every_record_stands_exactly_once_in_the_long_form_of_its_tables(found):
    records = [
        dict(zip(KEYS, key, strict=True))
        | {"corpus": "toy", "mean": mean, "sd": None, "low": mean, "high": mean}
        | dict.fromkeys(("num_listeners", "num_draws", "num_seeds", "num_folds"), 1)
        for key, mean in found.items()
    ]
    values = [
        {**dict(zip(KEYS, key, strict=True)), "annotator": "E1", "value": mean}
        for key, mean in found.items()
    ]
    data = index_data(records, [], PaperSpec(16))
    headline = {key_of(row) for row in records if row["num_support"] == 16}
    parts = {key for key in headline if key[4] == "full" or key[4] == "minus_da"}
    wanted = (
        (paper.main_table(data), headline),
        (paper.ablation_table(data), parts),
        (paper.k_curve_table(data), {key_of(row) for row in records}),
        (paper.encoder_table(data), headline),
        (paper.listener_table(values, PaperSpec(16)), headline),
    )
    for made, keys in wanted:
        rows = sheet.as_csv_rows(made)
        present = [key_of(row) for row in rows if row["status"] != "missing"]
        assert sorted(present) == sorted(keys)
        every = [key_of(row) for row in rows]
        assert len(every) == len(set(every))
        sheet.as_text(made)
