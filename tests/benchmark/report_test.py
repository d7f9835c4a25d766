import base64
import hashlib
import html.parser
import json
import re

import numpy as np
import pytest
import soundfile

from benchmark import report, results
from benchmark.errors import InputError
from benchmark.typing import Audio
from tests.benchmark.scored import CLOSED, TASKS, WORDS, write_model

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (
    SCRIPT + "\"'><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}"
    " \x1b[31m\x00\u202e =cmd()"
)


class Page(html.parser.HTMLParser):
    """Collects tags with attributes, and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("report")
    write_model(place / "a", "good", 0.95, talk="I judge it as {}.")
    write_model(place / "b", "poor", 0.55)
    return place / "a", place / "b"


@pytest.fixture(scope="module")
def page(folders, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    groups = report.write_report(folders, path, baseline=folders[1])
    return path, groups, Page(path.read_text(encoding="utf-8"))


def test_the_page_loads_nothing_from_elsewhere(page):
    path, _, parsed = page
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", text)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"link", "iframe", "object"})
    images = parsed.all("img")
    assert len(images) == 2
    assert all(image["src"].startswith("data:image/svg+xml") for image in images)
    assert all(image["alt"] for image in images)


def test_the_policy_allows_the_pages_own_script_alone(page):
    _, _, parsed = page
    (policy,) = (m["content"] for m in parsed.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    found = re.search("script-src '(sha256-[^']+)'", policy)[1]
    text = page[0].read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = hashlib.sha256(script.encode()).digest()
    assert found == f"sha256-{base64.b64encode(digest).decode()}"
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_tasks_models_and_numbers_are_there(page, folders):
    path, groups, parsed = page
    for name in ("good", "poor", *(task.name for task in TASKS)):
        assert name in parsed.text
    for folder in folders:
        for score in results.read_results(folder).task_scores:
            assert f"{score.value:.3f}" in parsed.text
    assert "mean of 2 instances" in parsed.text
    assert "Relative gain" in parsed.text
    assert "data_sha256" in parsed.text
    assert {group.model for group in groups} == {"good", "poor"}
    record = json.loads(path.with_suffix(".json").read_text())
    assert len(record["groups"]) == len(groups)
    assert path.with_suffix(".csv").read_text().count("\n") == 2 * len(TASKS) + 1


def test_examples_show_the_answer_how_it_was_read_and_the_judge(page):
    _, _, parsed = page
    assert "I judge it as joy." in parsed.text
    assert "<b>joy</b> \\x1b[2J" in parsed.text  # the judge's text, as text
    assert "other option" in parsed.text
    assert len(parsed.all("details")) == len(TASKS)


def test_wrong_answers_come_first(folders, tmp_path):
    report.write_report([folders[1]], tmp_path / "r.html", max_samples=4)
    parsed = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    tags = [a["class"] for a in parsed.all("span") if "tag" in a.get("class", "")]
    assert tags.count("tag wrong") >= 3 * 3  # of four examples in closed tasks


def test_hostile_text_is_text_everywhere(tmp_path):
    task = CLOSED._replace(name="T<b>", subdomain=HOSTILE, instances=("I<i>",))
    write_model(
        tmp_path / "a", f"m {HOSTILE}", 0.5, (task,), talk="judge {} " + SCRIPT,
        instruction=HOSTILE, speaker=HOSTILE, texts=(HOSTILE,),
    )  # fmt: skip
    path = tmp_path / "r.html"
    report.write_report([tmp_path / "a"], path, title=HOSTILE)
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert len(parsed.all("script")) == 1
    assert not any("onerror" in attrs for _, attrs in parsed.tags)
    assert not any(key.startswith("on") for _, attrs in parsed.tags for key in attrs)
    assert SCRIPT not in text
    assert "alert(1)" in parsed.text
    assert "{{ 7*7 }}" in parsed.text
    assert not set(text) & set("\x1b\x00\u202e")
    cells = path.with_suffix(".csv").read_text(encoding="utf-8")
    assert "\x1b" not in cells


def test_a_summary_fits_the_console_and_hides_escapes(tmp_path):
    write_model(tmp_path / "a", "m\x1b[2J" * 30, 0.5)
    groups = report.write_report([tmp_path / "a"], tmp_path / "r.html")
    text = report.summary(groups)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "data" / "a b#1.wav"
    path.parent.mkdir()
    soundfile.write(path, np.zeros(1600), 16_000)
    return path


def test_small_audio_is_embedded_and_large_audio_linked(recording, tmp_path):
    budget = [10_000]
    small = report.sound(str(recording), tmp_path, budget)
    assert small.data.startswith("data:audio/wav;base64,UklGR")
    assert budget == [10_000 - recording.stat().st_size]
    large = report.sound(str(recording), tmp_path, [100])
    assert (large.data, large.link) == ("", "data/a%20b%231.wav")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "audio within the data file"),
        ("/no/such.wav", "such.wav (not found)"),
        ("bad\x00name", "bad\x00name (not found)"),
    ],
)
def test_audio_that_is_not_there(path, name, tmp_path):
    assert report.sound(path, tmp_path, [100]) == report.Sound(name)


def test_what_is_no_audio_is_not_embedded(tmp_path):
    (tmp_path / "key.txt").write_text("secret")
    found = report.sound(str(tmp_path / "key.txt"), tmp_path, [10**6])
    assert (found.data, found.link) == ("", "key.txt")


def test_players_stand_in_the_page(recording, tmp_path):
    changes = {"audios": (Audio(str(recording)), Audio("/no/such.wav"))}
    write_model(tmp_path / "a", "m", 0.5, (CLOSED,), **changes)
    report.write_report([tmp_path / "a"], tmp_path / "r.html", max_samples=3)
    parsed = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert len(parsed.all("audio")) == 3
    assert parsed.text.count("such.wav (not found)") == 3


def test_published_results_stand_beside_ours_with_their_track(tmp_path):
    name = "DialogueEmotionClassification_DailyTalk"
    task = CLOSED._replace(name=name, instances=(name,))
    write_model(tmp_path / "a", "m", 0.5, (task,))
    report.write_report([tmp_path / "a"], tmp_path / "r.html")
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    published = report.read_published()
    cells = published.accuracy[name]
    assert "Whisper-LLM" in text
    assert f"{cells['Whisper-LLM']['value']:.1f}" in text
    for cell in cells.values():
        assert published.sources[cell["track"]] in text
    assert "A guess" in text
    assert f"{published.random['DialogueEmotionClassification'][0]:.1f}" in text


def test_every_published_number_is_a_percentage_with_a_source():
    published = report.read_published()
    cells = [cell for row in published.accuracy.values() for cell in row.values()]
    assert len(published.accuracy) == 56
    assert all(0 <= cell["value"] <= 100 for cell in cells)
    assert {cell["track"] for cell in cells} == set(published.sources)


def test_two_folders_of_one_model_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match="two folders"):
        report.write_report([folders[0], folders[0]], tmp_path / "r.html")


def test_without_chance_levels_there_is_no_chart(tmp_path):
    write_model(tmp_path / "a", "m", 0.5, TASKS[3:])
    report.write_report([tmp_path / "a"], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No task has a chance level" in text


def test_coverage_stands_beside_each_mean(tmp_path):
    zero = CLOSED._replace(name="Zero", instances=("Zero",))
    write_model(tmp_path / "a", "a", 0.9, (CLOSED, zero, WORDS))
    write_model(tmp_path / "b", "b", 0.9, (CLOSED, zero), number=60)
    write_model(tmp_path / "base", "base", 0.5, (CLOSED,))
    path, models = tmp_path / "r.html", [tmp_path / "a", tmp_path / "b"]
    groups = report.write_report(models, path, baseline=tmp_path / "base")
    text = " ".join(Page(path.read_text(encoding="utf-8")).text.split())
    assert "3 tasks, 160 examples" in text  # the larger number of each task
    assert "1.50 (2 tasks)" in text  # mean rank: the models have two in common
    assert "(1 task)" in text
    assert "Tasks without a relative gain (3)" in text
    assert "a, Zero: the baseline has no value" in text
    row = report.summary(groups).splitlines()[2].split()
    assert row[:3] + row[5:6] == ["a", "all", "3/3", "2"]


def test_models_that_were_scored_apart_are_noted_with_each_number(tmp_path):
    write_model(tmp_path / "a", "a", 0.9, (CLOSED,))
    write_model(tmp_path / "b", "b", 0.9, (CLOSED,), instruction="Another question?")
    report.write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "r.html")
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert text.count("models scored apart: data") == 2
    record = json.loads((tmp_path / "r.json").read_text())
    notes = [score["notes"] for score in record["scores"]]
    assert notes == [["models scored apart: data"]] * 2
