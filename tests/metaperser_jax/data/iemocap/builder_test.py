"""The examples on disk hold every field of every utterance."""

import math

import numpy as np
import pytest
import tensorflow_datasets as tfds

from metaperser_jax.data import builds
from metaperser_jax.data.iemocap import builder as tfds_package
from metaperser_jax.data.iemocap import grammar, tree
from metaperser_jax.data.iemocap.grammar import Block, Dimensions, Labels
from metaperser_jax.errors import InputError, Problems


def number(value) -> float | None:
    return None if math.isnan(value) else float(value)


def text(value) -> str:
    return value.decode()


def as_utterance(example, path: str) -> tree.Utterance:
    """Undoes `make_example`."""
    labels, dimensions = example["labels"], example["dimensions"]
    triple = tuple(map(number, example["triple"]))
    block = Block(
        utterance=text(example["utterance"]),
        start=float(example["start"]),
        end=float(example["end"]),
        code=text(example["consensus"]),
        triple=None if None in triple else triple,
        labels=tuple(
            Labels(text(rater), tuple(filter(None, text(x).split("|"))), text(comment))
            for rater, x, comment in zip(
                labels["rater"], labels["labels"], labels["comment"], strict=True
            )
        ),
        dimensions=tuple(
            Dimensions(text(rater), *map(number, values), text(comment))
            for rater, values, comment in zip(
                dimensions["rater"],
                dimensions["values"],
                dimensions["comment"],
                strict=True,
            )
        ),
    )
    name = grammar.UtteranceName(
        *(text(example[x]) for x in ("dialog", "session", "scenario", "speaker"))
    )
    words = text(example["transcript"]) if example["has_transcript"] else None
    return tree.Utterance(block, name, words, path)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Returns a function that builds a planted tree and gives its examples."""

    def examples(planted):
        # Given as manual_dir, as other TensorFlow Datasets packages of local corpora.
        made = tfds_package.IemocapUtterances(
            data_dir=str(tmp_path_factory.mktemp("build")),
            config=tfds_package.IemocapConfig(name="mine"),
            file_format="array_record",
        )
        made.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=str(planted.root))
        )
        sources = [made.as_data_source(split=f"Ses0{number}") for number in range(1, 6)]
        assert made.info.splits is not None
        assert list(made.info.splits) == [f"Ses0{x}" for x in range(1, 6)]
        return [source[i] for source in sources for i in range(len(source))]

    return examples


@pytest.mark.parametrize("name", ["clean", "quirky"])
def test_every_field_comes_back(build, request, name):
    planted = request.getfixturevalue(name)
    examples = build(planted)
    assert len(examples) == len(planted.utterances)
    for example, utterance in zip(examples, planted.utterances, strict=True):
        assert as_utterance(example, utterance.recording) == utterance
        samples = planted.audio[utterance.id]
        assert example["audio"].dtype == np.int16
        np.testing.assert_array_equal(example["audio"], samples)
        assert text(example["sha256"]) == builds.samples_hash(samples)
        scripted = utterance.name.scenario.startswith("script")
        assert bool(example["scripted"]) == scripted
        assert text(example["kind"]) == ("script" if scripted else "improvisation")


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [("script01_1b", "script"), ("impro05a", "improvisation"), ("made00", "other")],
)
def test_kinds_of_scenarios(scenario, kind):
    assert tfds_package.scenario_kind(scenario) == kind


def test_the_name_tells_files_and_cuts_apart():
    names = {
        tfds_package.config_name(digest, seconds)
        for digest in ("a", "b")
        for seconds in (30.0, 60.0)
    }
    assert len(names) == 4
    assert tfds_package.config_name("a", 60.0) in names


def test_a_copy_without_a_usable_recording_is_refused(clean, tmp_path):
    folder = tmp_path / "Session1"
    evaluations = folder / "dialog" / "EmoEvaluation"
    evaluations.parent.mkdir(parents=True)
    evaluations.symlink_to(clean.root / "Session1" / "dialog" / "EmoEvaluation")
    files = tree.find_tree(tmp_path, Problems())
    made = tfds_package.IemocapUtterances(
        data_dir=str(tmp_path / "build"),
        config=tfds_package.IemocapConfig(name="mine", files=files),
        file_format="array_record",
    )
    with pytest.raises(InputError, match="no utterance can be used") as caught:
        made.download_and_prepare()
    assert "16 x error missing_audio" in str(caught.value)
