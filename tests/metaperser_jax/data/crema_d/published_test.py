"""Comparison of a copy with the vote tables of its authors."""

import pytest

from metaperser_jax.data.crema_d import CremaDSpec, fake, published
from metaperser_jax.data.crema_d.answers import read_answers
from metaperser_jax.data.crema_d.sources import find_sources
from metaperser_jax.data.crema_d.spec import MODALITIES
from metaperser_jax.errors import InputError, Problems


@pytest.fixture
def answers(copy):
    return read_answers(copy / "finishedResponses.csv", Problems())


@pytest.fixture
def sources(copy):
    return find_sources(CremaDSpec(root=str(copy)))


def planned_votes(plan):
    """Cell -> counts, by going through the plan answer by answer."""
    votes = {}
    columns = zip(*plan.answers, strict=True)
    for _, clip, modality, _, label, _, _, click in columns:
        if click <= 10_000:
            cell = votes.setdefault((plan.clips[clip], MODALITIES[modality]), [0] * 6)
            cell[label] += 1
    return {cell: tuple(counts) for cell, counts in votes.items()}


def test_votes_without_late_clicks_are_those_of_the_tables(
    plan, copy, answers, sources
):
    problems = Problems()
    late = published.late_questions(sources.first_clicks, problems)
    votes = published.count_votes(answers, late)
    unknown = (plan.quirks["unknown_clip"], "voice")
    votes.pop(unknown, None)
    assert votes == published.read_votes(sources.votes, problems)
    assert votes == planned_votes(plan)
    assert problems.counts() == {}


def test_a_sound_copy_compares_without_a_difference(plan, answers, sources):
    problems = Problems()
    facts = published.check_published(answers, sources, problems)
    late = int((plan.answers.first_click_ms > 10_000).sum())
    assert late > 0
    assert problems.counts() == {}
    assert facts["published_votes_cells"] == len(planned_votes(plan))
    assert facts["published_votes_different"] == 0
    assert facts["published_majority_different"] == 0
    assert facts["answered_raters"] == fake.FakeSize(60, 24).num_raters
    # the planted repeat of a question that came late would be set aside with it
    assert facts["answers_the_authors_set_aside"] in (late, late + 1)


def test_without_first_clicks_only_votes_that_nobody_gave_are_different(
    answers, sources
):
    problems = Problems()
    facts = published.check_published(
        answers, sources._replace(first_clicks=None), problems
    )
    assert facts["published_votes_different"] == 0
    assert "published_majority_cells" not in facts
    assert problems.counts() == {}


def test_a_changed_table_is_shown_with_an_example(copy, answers, sources, tmp_path):
    lines = (copy / "processedResults" / "tabulatedVotes.csv").read_text().splitlines()
    number, angry, *counts, clip = lines[1].split(",")
    lines[1] = ",".join([number, str(int(angry) + 20), *counts, clip])
    path = tmp_path / "tabulatedVotes.csv"
    path.write_text("\n".join(lines))
    for clicks in (sources.first_clicks, None):
        problems = Problems()
        changed = sources._replace(votes=path, first_clicks=clicks)
        facts = published.check_published(answers, changed, problems)
        assert facts["published_votes_different"] == 1
        (problem,) = problems.rows
        assert problem.kind == "published_votes"
        assert clip.strip('"') in problem.message


CELL = ("1001_DFA_ANG_XX", "voice")
COMPARED = [  # found, published, exact, different
    ((2, 0, 0, 0, 1, 0), (2, 0, 0, 0, 1, 0), True, 0),
    ((2, 0, 0, 0, 1, 0), (1, 0, 0, 0, 1, 0), True, 1),
    ((2, 0, 0, 0, 1, 0), (1, 0, 0, 0, 1, 0), False, 0),
    ((2, 0, 0, 0, 1, 0), (1, 1, 0, 0, 1, 0), False, 1),
]


@pytest.mark.parametrize(("found", "table", "exact", "different"), COMPARED)
def test_what_counts_as_different(found, table, exact, different):
    compared = published.compare_votes({CELL: found}, {CELL: table}, exact)
    assert compared[:2] == (1, different)


def test_a_published_cell_without_an_answer_is_different():
    compared = published.compare_votes({}, {CELL: (1, 0, 0, 0, 0, 0)}, False)
    assert compared.different == 1
    assert compared.examples == ["1001_DFA_ANG_XX voice: 1A, here none"]


def test_a_majority_may_be_shared():
    assert published.majority_of((2, 0, 0, 0, 2, 1)) == {"A", "N"}
    compared = published.compare_majority(
        {CELL: (2, 0, 0, 0, 2, 1)}, {CELL: frozenset("A")}
    )
    assert compared.examples == ["1001_DFA_ANG_XX voice: A, here A:N"]


def test_only_the_published_corpus_has_its_counts():
    keys = ("answered_clips", "answered_actors", "answered_raters")
    for counts, warnings in (((7442, 91, 2443), 0), ((10, 1, 291), 1)):
        problems = Problems()
        facts = dict(zip(keys, counts, strict=True))
        published.check_counts(facts, "finishedResponses.csv", problems)
        assert len(problems.rows) == warnings


BAD_ROWS = {
    "votes": (published.read_votes, ",A,D,F,H,N,S,fileName\n4001,1,0,0,0,0,0,x\n1,a\n"),
    "majority": (
        published.read_majority,
        "FileName,VoiceVote,FaceVote,MultiModalVote\nx,Q,,A\n",
    ),
    "clicks": (
        published.late_questions,
        "sessionNums,queryType,questNum,ttr\n1,1,x,4\n1,1\n",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_cannot_be_read_are_counted(tmp_path, name):
    read, text = BAD_ROWS[name]
    path = tmp_path / "table.csv"
    path.write_text(text)
    problems = Problems()
    read(path, problems)
    assert len(problems.rows) == 2
    assert all("table.csv:" in problem.where for problem in problems.rows)


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_table_without_its_columns_is_refused(tmp_path, name):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column"):
        BAD_ROWS[name][0](path, Problems())
