"""The page of results: no machine in its commands, no verdict against its table."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
METRICS = ("micro_f1", "nll")


@pytest.fixture(scope="module")
def make_results():
    path = ROOT / "docs" / "make_results.py"
    spec = importlib.util.spec_from_file_location("make_results", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(method, metric, mean, scenario="unseen", k=16):
    return {
        "scenario": scenario,
        "num_support": k,
        "method": method,
        "metric": metric,
        "corpus": "toy",
        "mean": mean,
        "sd": 0.2,
        "low": mean - 0.1,
        "high": mean + 0.1,
        "num_listeners": 8,
        "num_draws": 3,
    }


def comparison(metric, difference, p, pair=("full", "no_adaptation")):
    return {
        "scenario": "unseen",
        "num_support": 16,
        "metric": metric,
        "method": pair[0],
        "reference": pair[1],
        "difference": difference,
        "low": difference - 0.1,
        "high": difference + 0.1,
        "p_value": p / 2,
        "p_holm": p,
        "share_worse": 0.25,
        "num_listeners": 8,
    }


@pytest.fixture
def make_run(make_results):
    def make(comparisons=(), command="python run.py", listeners=8):
        provenance = {
            "command": command,
            "config": {"evaluation.headline_support": 16},
            "versions": {
                "python": "3.11.1",
                "platform": "Linux x",
                "device": "1 x cpu",
            },
            "corpus": {
                "clips": 9,
                "listeners": 8,
                "ratings": 1234,
                "classes": {"a": 1},
            },
            "seeds": {"seed": 0},
            "notes": ["2 x warning short: see problems.jsonl"],
        }
        records = [
            record(method, metric, mean, k=k)
            for k in (4, 16)
            for method, mean in (("full", 0.6), ("no_adaptation", 0.5), ("oracle", 0.7))
            for metric in METRICS
        ]
        records = [{**r, "num_listeners": listeners} for r in records]
        listeners = [
            {**row, "annotator": name, "value": row["mean"] + shift}
            for row in records
            for name, shift in (("L1", -0.05), ("L2", 0.05))
        ]
        return make_results.Run(provenance, records, list(comparisons), listeners)

    return make


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("python run.py --workdir=/tmp/x/y", "python run.py"),
        ("python run.py --workdir /tmp/x/y --mode=all", "python run.py --mode=all"),
        (
            "python /home/me/run.py --config=/home/me/configs/nsc.py",
            "python run.py --config=configs/nsc.py",
        ),
        (
            "python run.py --config.data.root=../a/nsc --config.features.cache_dir=/c",
            "python run.py --config.data.root=FOLDER/nsc",
        ),
        (
            "python run.py --config.data.root /data/nsc/ --config.seed=1",
            "python run.py --config.data.root=FOLDER/nsc --config.seed=1",
        ),
        ("", "python run.py --config=configs/nsc.py "
             "--config.data.root=FOLDER/nsc_ratings"),
    ],
)  # fmt: skip
def test_the_shown_command_names_no_machine(make_results, make_run, command, shown):
    (nsc,) = (r for r in make_results.RECORDS if r.name == "nsc")
    assert make_results.shown_command(nsc, make_run(command=command)) == shown


@pytest.mark.parametrize(
    ("metric", "difference", "p", "verdict"),
    [
        ("micro_f1", 0.1, 0.01, "better in micro-F1"),
        ("micro_f1", -0.1, 0.01, "worse in micro-F1"),
        ("nll", 0.1, 0.01, "worse in NLL"),
        ("nll", -0.1, 0.01, "better in NLL"),
        ("nll", -0.1, 0.06, "not significant in NLL"),
    ],
)
def test_sentence_and_table_agree(
    make_results, make_run, metric, difference, p, verdict
):
    run = make_run([comparison(metric, difference, p)])
    (sentence,) = make_results.verdicts(run, "unseen", METRICS)
    assert sentence == f"`full` against `no_adaptation`: {verdict}."
    row = make_results.differences(run, "unseen", METRICS).splitlines()[4]
    assert row.endswith(f"| {verdict.split(' in ')[0]} |")
    assert f"{difference:+.3f}" in row


def test_few_listeners_are_told(make_results, make_run):
    told = list(make_results.verdicts(make_run(listeners=3), "unseen", METRICS))
    assert told == [
        "Only 3 listeners were tested: no difference between so few can be "
        "significant, whatever its size."
    ]


def test_the_best_deployable_mean_is_bold_in_the_right_direction(
    make_results, make_run
):
    run = make_run()
    lines = make_results.means_table(run.records[6:], METRICS).splitlines()
    bold = [re.findall(r"\*\*([\d.]+)", line) for line in lines]
    assert bold[2:] == [["0.600"], ["0.500"], []]  # full, no_adaptation, oracle


def test_the_page_shows_the_headline_and_the_notes(make_results, make_run, tmp_path):
    (tmp_path / "synthetic.md").write_text("By hand.\n")
    run = make_run([comparison("nll", -0.1, 0.01)])
    page = make_results.page({"synthetic": run}, tmp_path)
    assert "unseen clips, K = 16" in page
    assert "1,234 ratings" in page
    assert "Skipped or doubtful: 2 x warning short." in page
    link = "[results/synthetic.md](results/synthetic.md)"
    assert page.endswith(f"\n\nBy hand.\n\nAll tables of this run: {link}.\n")
    assert "-0.100 (better)" in page


def test_the_page_begins_with_what_follows_from_it(make_results, make_run, tmp_path):
    (tmp_path / "summary.md").write_text("## In short\n\nTies.\n")
    page = make_results.page({"synthetic": make_run()}, tmp_path)
    headings = re.findall("^## (.*)$", page, re.MULTILINE)
    assert headings[0] == "In short"
    assert headings[1].startswith("At a glance")


@pytest.mark.parametrize(
    ("difference", "p", "cell"),
    [
        (-0.1, 0.01, "-0.100 (helps)"),
        (0.1, 0.01, "+0.100 (hurts)"),
        (-0.1, 0.06, "-0.100 (tie)"),
    ],
)
def test_what_a_part_contributes_is_in_one_table(
    make_results, make_run, tmp_path, difference, p, cell
):
    run = make_run([comparison("nll", difference, p, ("full", "minus_lslr"))])
    page = make_results.page({"synthetic": run}, tmp_path)
    row = f"| synthetic | Unseen utterances | NLL ↓ | – | – | {cell} |"  # noqa: RUF001
    assert row in page.splitlines()


def test_methods_left_off_the_page_are_with_the_tables(make_results, make_run):
    run = make_run()
    run = run._replace(records=[*run.records, record("anil", "nll", 0.9)])
    (synthetic,) = (r for r in make_results.RECORDS if r.name == "synthetic")
    short = "\n".join(make_results.section(synthetic, run, ROOT / "none.md"))
    whole = make_results.details(synthetic, run)
    assert "| `anil` |" not in short
    assert "| `anil` |" in whole
    for line in short.splitlines():  # what both show is the same
        if line.startswith("| `"):
            assert line in whole


def test_all_pages_are_written(make_results, make_run, tmp_path):
    (tmp_path / "docs").mkdir()
    make_results.write_all({"nsc": make_run()}, tmp_path)
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.md")}
    assert names == {"docs/results.md", "docs/results/nsc.md"}


def test_the_pages_in_the_repository_are_all_there(make_results):
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for record in make_results.RECORDS:
        path = make_results.details_path(record)
        assert f"({path})" in page
        text = (ROOT / "docs" / path).read_text(encoding="utf-8")
        for title in ("Ablations", "How many labels it takes", "Single listeners"):
            assert f"### {title}" in text


def test_writing_twice_is_writing_once(make_results, make_run):
    start = (
        "Top\n\n<!-- picture -->\n\n## Run\n\n<!-- results -->\n<!-- /results -->\nEnd"
    )
    table = make_results.readme_table(make_run())
    once = make_results.with_table(make_results.with_picture(start), table)
    twice = make_results.with_table(make_results.with_picture(once), table)
    assert once == twice
    assert once.count("](docs/images/k_curve.png)") == 1
    assert table in once
    assert once.endswith("<!-- /results -->\nEnd")


def test_each_record_has_a_config_and_its_own_place(make_results):
    names = [record.name for record in make_results.RECORDS]
    assert len(set(names)) == len(names) == 9
    for record in make_results.RECORDS:
        for flag in record.flags:
            if flag.startswith("--config="):
                path = flag.removeprefix("--config=").partition(":")[0]
                assert (ROOT / path).is_file()


def test_all_tables_of_a_run_are_on_its_page(make_results, make_run):
    pairs = [("full", "no_adaptation"), ("full", "minus_lslr")]
    rows = [comparison("nll", -0.1, 0.01, pair) for pair in pairs]
    (synthetic,) = (r for r in make_results.RECORDS if r.name == "synthetic")
    page = make_results.details(synthetic, make_run(rows))
    for text in ("### Ablations", "How many labels it takes", "Single listeners"):
        assert text in page
    curve = page.partition("How many labels it takes")[2]
    assert "K = 4" in curve
    assert "| L1 |" in page.partition("Single listeners")[2]
    assert "LSLR contributes -0.100" in page


def test_a_sweep_shows_both_of_its_commands(make_results, make_run, tmp_path):
    command = "python run.py --config=configs/iemocap.py:fake --mode=tables"
    run = make_run(command=command)
    variant = {k: run.provenance[k] for k in ("versions", "corpus")}
    variants = [{**variant, "seed": seed} for seed in (0, 3)]
    config = run.provenance["config"]
    provenance = {"command": command, "config": config, "variants": variants}
    page = make_results.page(
        {"iemocap_fake": run._replace(provenance=provenance)}, tmp_path
    )
    assert f"{command.replace('tables', 'sweep')}\n{command}" in page
    assert "seed 0, 3." in page
    assert "### Main results" in page
