"""The registry holds what was released; a user's folder adds a task to it."""

import collections
import json
import math
import re

import hypothesis
import hypothesis.strategies as st
import pytest

from benchmark import tasks
from benchmark.errors import InputError, Problems
from benchmark.tasks import METRICS, load_tasks
from benchmark.typing import Example

TASKS = load_tasks()
OFFICIAL = {
    "name": "BirdMood_Garden",
    "description": "the mood of a bird",
    "keywords": ["birds"],
    "metrics": ["llm_classification"],
    "path": "someone/BirdMood_Garden",
    "version": "0" * 39 + "f",
}


def write_task(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    row = {k: v for k, v in {**OFFICIAL, **changes}.items() if v is not ...}
    (folder / "instance.json").write_text(json.dumps(row))
    return folder


def test_the_release_is_there():
    kinds = collections.Counter(task.type for task in TASKS.values())
    assert len(TASKS) == 181
    assert kinds == {"classification": 131, "sequence_generation": 39, "regression": 11}
    instances = [name for task in TASKS.values() for name in task.instances]
    assert len(instances) == len(set(instances)) == 231
    datasets = [name for task in TASKS.values() for name in task.hf_datasets]
    assert len(datasets) == len(set(datasets)) == 231
    assert sum(task.phase == "1" for task in TASKS.values()) == 51


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_record_holds_together(task):
    assert METRICS[task.metric] == task.type
    assert len(task.instances) == len(task.hf_datasets) == len(task.revisions)
    assert all(re.fullmatch("[0-9a-f]{40}|", r) for r in task.revisions)
    assert all(
        d == f"DynamicSuperb/{i}"
        for d, i in zip(task.hf_datasets, task.instances, strict=True)
    )
    assert len(set(task.labels)) == len(task.labels) != 1
    assert task.domain in ("Speech", "Audio & Music")
    assert task.subdomain
    assert {*task.reconstructed} <= {*task._fields}
    spoken = [s.lower() for _, spellings in task.synonyms for s in spellings]
    assert len({*spoken, *map(str.lower, task.labels)}) == len(spoken) + len(
        task.labels
    )
    assert {label for label, _ in task.synonyms} <= {*task.labels}
    if task.chance is not None:
        assert task.chance == 1 / len(task.labels)
        assert not task.multi_label
    if task.value_range is not None:
        assert task.type == "regression"
        assert task.value_range[0] < task.value_range[1]


def test_every_released_metric_is_known_and_no_other():
    assert {task.metric for task in TASKS.values()} == {*METRICS} - {"accuracy"}


def test_what_was_wrong_with_a_revision_is_noted():
    wrong = [
        name
        for name, task in TASKS.items()
        if any("no commit" in n for n in task.notes)
    ]
    assert wrong == [
        "BirdcallIdendification_Cornell",
        "SoundPositionPrediction_Dataset",
    ]
    shared = [
        name for name, task in TASKS.items() if any("share" in n for n in task.notes)
    ]
    assert shared == [
        "HEARLanguageIdentification_VoxLingua107Top10",
        "HEARSpeakerCountIdentification_LibriCount",
    ]
    unknown = [t for t in TASKS.values() if "revision not known" in t.notes]
    assert len(unknown) == 26
    blank = [t.name for t in TASKS.values() if "" in t.revisions]
    assert {*blank} == {*wrong, *(t.name for t in unknown)}


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("MultiLingualSpeechRecognition_MLS-de", "language", "de"),
        ("SuperbOODAsrZh_CommonVoice7-Test", "language", "zh-CN"),
        ("SingingAutomaticMOSPrediction_SingMOS", "value_range", (1.0, 5.0)),
        ("AudioDurationPrediction_NTUML2021", "value_range", (0.0, math.inf)),
        ("AudioDurationPrediction_NTUML2021", "unit", "s"),
        ("SoundPositionPrediction_Dataset", "value_range", None),
        ("MARBLEMusicTagging_MTGTop50", "multi_label", True),
        ("SarcasmDetection_Mustard", "chance", 0.5),
        ("HowFarAreYou_3DSpeaker", "labels", ()),
        ("SuperbER_RAVDESS", "replaces", "SuperbER_Iemocap-Session1..5"),
    ],
)
def test_fields_that_were_added(name, field, value):
    assert getattr(TASKS[name], field) == value
    if value and field != "replaces":
        assert field in TASKS[name].reconstructed


def test_a_task_is_found_by_its_name_or_by_a_fold():
    fold = "HEAREmotionRecognition_CREMAD-Fold3"
    task = tasks.find_task(TASKS, fold)
    assert task.name == "HEAREmotionRecognition_CREMAD"
    assert tasks.revision_of(task, fold) == "35bdd3d62289478ee7211688aff165d2be04ef14"
    assert tasks.revision_of(task, "elsewhere") == ""
    with pytest.raises(InputError, match="Did you mean 'SuperbER_RAVDESS'"):
        tasks.find_task(TASKS, "superber_ravdess")
    with pytest.raises(InputError, match="Did you mean 'SuperbER_RAVDESS'"):
        tasks.find_task(TASKS, "SuperbER_RAVDES")


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 181),
        ({"task_type": "reg"}, 11),
        ({"domain": "music"}, 51),
        ({"domain": "speech enhancement"}, 22),
        ({"metric": "word_error_rate"}, 17),
        ({"domain": "sound event", "task_type": "sequence"}, 2),
    ],
)
def test_tasks_are_selected(wanted, count):
    assert len(tasks.select_tasks(TASKS, **wanted)) == count


def test_a_type_or_domain_that_no_task_has_is_refused():
    with pytest.raises(InputError, match="--type 'xyz': expected one of classific"):
        tasks.select_tasks(TASKS, task_type="xyz")
    with pytest.raises(InputError, match=r"--domain 'nope'.*Paralinguistics"):
        tasks.select_tasks(TASKS, domain="nope")


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'word_error_rate'"):
        tasks.select_tasks(TASKS, metric="word_eror_rate")


def test_options_come_from_the_example_or_the_labels():
    task = TASKS["SuperbER_RAVDESS"]
    example = Example("a", "b", "c", ("d",))
    assert tasks.options_of(task) == tasks.options_of(task, example) == task.labels
    own = example._replace(extra={"options": ["x", 3]})
    assert tasks.options_of(task, own) == ("x", "3")


def test_a_fingerprint_changes_with_the_record_and_not_with_its_place():
    task = TASKS["SuperbER_RAVDESS"]
    same = tasks.fingerprint(task._replace(folder="/somewhere"))
    assert same == tasks.fingerprint(task)
    assert tasks.fingerprint(task._replace(metric="accuracy")) != same


def test_a_folder_adds_a_task(tmp_path):
    write_task(tmp_path / "BirdMood" / "BirdMood_Garden", labels=["gay", "grim"])
    problems = Problems()
    loaded = load_tasks([tmp_path], problems)
    assert len(loaded) == 182
    task = loaded["BirdMood_Garden"]
    assert (task.type, task.metric) == ("classification", "llm_classification")
    assert task.hf_datasets == ("someone/BirdMood_Garden",)
    assert task.revisions == (OFFICIAL["version"],)
    assert task.instances == ("BirdMood_Garden",)
    assert task.chance == 0.5
    assert task.folder == str(tmp_path / "BirdMood" / "BirdMood_Garden")
    assert problems.rows == []
    assert len(load_tasks()) == 181, "the released ones are left as they were"


def test_what_the_official_form_cannot_say_may_stand_beside_it(tmp_path):
    folder = write_task(
        tmp_path,
        metrics="singing_mos",
        value_range=[1, None],
        unit="points",
        language="nl",
        labels=None,
    )
    task = tasks.read_task(folder)
    assert task.type == "regression"
    assert task.value_range == (1.0, math.inf)
    assert (task.unit, task.language) == ("points", "nl")
    folder = write_task(tmp_path, labels=["a", "b"], synonyms={"a": ["alpha"]})
    assert tasks.read_task(folder).synonyms == (("a", ("alpha",)),)


def test_the_official_folder_of_a_released_task_pins_its_revision(tmp_path):
    fold = "HEAREmotionRecognition_CREMAD-Fold2"
    write_task(tmp_path, name=fold, path=f"DynamicSuperb/{fold}")
    loaded = load_tasks([tmp_path])
    task = loaded["HEAREmotionRecognition_CREMAD"]
    assert len(loaded) == 181
    assert task.revisions[1] == OFFICIAL["version"]
    assert task.revisions[0] == TASKS[task.name].revisions[0]
    assert task.folder == str(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": ["a", "b"], "synonyms": {"a": ["x"]}, "multi_label": True},
        {"metrics": "singing_mos", "value_range": [None, 5], "unit": "points"},
        {"domain": "Speech", "subdomain": "Birds", "language": "nl"},
    ],
)
def test_a_task_is_described_as_it_was_read(tmp_path, changes):
    task = tasks.read_task(write_task(tmp_path, **changes))
    row = tasks.about(task, task.name, task.revisions[0])
    assert {*tasks.OFFICIAL_KEYS} <= {*row}
    (tmp_path / "instance.json").write_text(json.dumps(row))
    assert tasks.read_task(tmp_path) == task


def test_a_released_task_is_described_in_the_official_form():
    task = TASKS["HEAREmotionRecognition_CREMAD"]
    row = tasks.about(task, task.instances[1], "f" * 40)
    assert [*row] == [*tasks.OFFICIAL_KEYS]
    assert row["path"] == "DynamicSuperb/HEAREmotionRecognition_CREMAD-Fold2"
    assert row["version"] == "f" * 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ...}, "key 'name' is missing"),
        ({"name": "../up"}, "key 'name': expected letters"),
        ({"name": 3}, "key 'name': expected text"),
        ({"name": "SuperbER_RAVDESS"}, "is taken by a released task"),
        ({"metrics": []}, "key 'metrics': expected a list"),
        ({"metrics": ["acuracy"]}, "key 'metrics': unknown metric.*'accuracy'"),
        ({"type": "regression"}, "key 'type': expected 'classification'"),
        ({"labels": "a,b"}, "key 'labels': expected a list of texts"),
        ({"labels": ["a", "a"]}, "key 'labels': expected texts"),
        ({"labels": ["a", 1]}, "key 'labels': expected a list of texts"),
        ({"synonyms": {"x": ["y"]}}, "key 'synonyms': expected labels"),
        ({"synonyms": ["y"]}, "key 'synonyms': expected an object"),
        ({"multi_label": "yes"}, "key 'multi_label': expected true or false"),
        ({"value_range": [5, 1]}, "key 'value_range': expected"),
        ({"value_range": [True, 2]}, "key 'value_range': expected"),
        ({"value_range": 3}, "key 'value_range': expected"),
        ({"version": 2}, "key 'version': expected text"),
    ],
)
def test_faults_of_a_folder_name_file_key_and_expectation(tmp_path, changes, message):
    write_task(tmp_path / "task", **changes)
    with pytest.raises(InputError, match=message) as caught:
        load_tasks([tmp_path])
    assert "instance.json" in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b" " * (1 << 20) + b"{}"]
)
def test_damaged_files_are_input_errors(tmp_path, data):
    (tmp_path / "instance.json").write_bytes(data)
    with pytest.raises(InputError, match=r"instance\.json"):
        load_tasks([tmp_path])


def test_a_second_metric_is_not_dropped_in_silence(tmp_path):
    write_task(tmp_path, metrics=["llm_classification", "word_error_rate"])
    problems = Problems()
    load_tasks([tmp_path], problems)
    told = [row.message for row in problems.rows if row.kind == "more_metrics"]
    assert told == ["key 'metrics': llm_classification is used, not word_error_rate"]


def test_what_is_doubtful_is_recorded(tmp_path):
    write_task(tmp_path, version="d54ebc4", metricss=["x"])
    problems = Problems()
    task = load_tasks([tmp_path], problems)["BirdMood_Garden"]
    assert task.revisions == ("",)
    assert problems.counts() == {"warning unknown_key": 1, "warning no_revision": 1}
    assert "Did you mean 'metrics'" in problems.rows[0].message


def test_two_folders_with_one_name(tmp_path):
    first, second = write_task(tmp_path / "a"), write_task(tmp_path / "b")
    with pytest.raises(InputError, match="is taken by"):
        load_tasks([first, second])


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_tasks(tmp_path, name):
    with pytest.raises(InputError, match=r"no such folder|no instance\.json"):
        load_tasks([tmp_path / name])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@hypothesis.given(
    st.dictionaries(
        st.sampled_from((*tasks.OFFICIAL_KEYS, *tasks.OWN_KEYS, "other")), VALUES
    )
)
@hypothesis.settings(max_examples=150, deadline=None)
def test_any_object_is_a_task_or_an_input_error(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("task")
    write_task(folder, **changes)
    try:
        task = tasks.read_task(folder, Problems())
    except InputError:
        return
    assert task.name == changes.get("name", OFFICIAL["name"])
