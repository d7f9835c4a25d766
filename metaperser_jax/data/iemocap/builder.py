"""IEMOCAP as a TensorFlow Datasets package, without TensorFlow.

One example an utterance: its audio, its transcript and all that each rater wrote, in
array_record files that `as_data_source` reads back at random. A split a session: at
most one session's audio is in memory while it is written. What was skipped or doubtful
is in the metadata, so that each later load can say it again.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int16

from benchmark.audio import MAX_SECONDS, SAMPLE_RATE, load
from benchmark.headers import AudioError
from metaperser_jax.data import builds
from metaperser_jax.data.iemocap import published, tree
from metaperser_jax.data.iemocap.grammar import Block
from metaperser_jax.errors import InputError, Problem, Problems

BUILDER_VERSION = "1.0.0"  # raise when the same files give other examples
SCHEMA = 1  # raise when the features or the metadata change


@dataclasses.dataclass(eq=False)
class IemocapConfig(tfds.core.BuilderConfig):
    """Which copy is read; the name carries a hash of its files."""

    files: tree.Tree | None = None
    max_seconds: float = MAX_SECONDS


def config_name(digest: str, max_seconds: float) -> str:
    """Names a configuration after a tree's `fingerprint` and what cuts its audio."""
    return builds.config_name("files", SCHEMA, digest, float(max_seconds))


class IemocapUtterances(tfds.core.GeneratorBasedBuilder):
    """Utterances of IEMOCAP with all that each rater wrote."""

    VERSION = tfds.core.Version(BUILDER_VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "IEMOCAP is licensed: ask for it at https://sail.usc.edu/iemocap and give the "
        "folder with Session1 ... Session5 as manual_dir."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        tensor, text = tfds.features.Tensor, tfds.features.Text
        # As bytes: else float64 is written as float32, and int16 in up to ten bytes.
        raw, flag = tfds.features.Encoding.BYTES, tfds.features.Scalar(np.bool_)
        one, three = ({"shape": x, "dtype": np.float64} for x in ((), (3,)))
        return builds.dataset_info(
            self,
            {
                "utterance": text(),
                "dialog": text(),
                "session": text(),  # 'Ses01'
                "speaker": text(),  # 'Ses01F'
                "scenario": text(),  # 'impro01', 'script01_1'
                "kind": text(),  # 'script', 'improvisation', 'other'
                "scripted": flag,
                "start": tensor(encoding=raw, **one),  # seconds into the dialog
                "end": tensor(encoding=raw, **one),
                "transcript": text(),
                "has_transcript": flag,
                "consensus": text(),
                # valence, activation, dominance; NaN = none
                "triple": tensor(encoding=raw, **three),
                "sha256": text(),
                "audio": tensor(shape=(None,), dtype=np.int16, encoding=raw),
                "labels": tfds.features.Sequence(
                    {"rater": text(), "labels": text(), "comment": text()}
                ),  # labels joined by '|', '' = no annotation
                "dimensions": tfds.features.Sequence(
                    {
                        "rater": text(),
                        "comment": text(),
                        # val, act, dom; NaN = not rated
                        "values": tensor(encoding=raw, **three),
                    }
                ),
            },
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        config, metadata = self.builder_config, self.info.metadata
        assert isinstance(config, IemocapConfig)
        assert metadata is not None
        problems = Problems()
        files = config.files or tree.find_tree(dl_manager.manual_dir, problems)
        release = tree.read_release(files, problems)
        derived = published.check_derived(release.blocks, files.root, problems)
        metadata["published_differences"] = published.compare(release.blocks)
        metadata["derived"] = {name: result.text for name, result in derived.items()}
        metadata["raters"] = published.matrix_as_dict(
            published.count_labels(release.blocks)
        )
        metadata["facts"] = {"blocks": len(release.blocks), **release.facts}
        metadata["problems"] = rows = [list(problem) for problem in problems.rows]
        sessions = (
            (session, self._generate_examples(list(group), rows))
            for session, group in itertools.groupby(
                release.utterances, lambda x: x.name.session
            )
        )
        splits = builds.filled_splits(sessions, metadata)
        if not splits:
            found = Problems()
            found.rows = [Problem(*row) for row in rows]
            raise InputError(
                f"{files.root}: no utterance can be used.\n{found.summary()}"
            )
        metadata["root"] = files.root
        return splits

    def _generate_examples(
        self, utterances: list[tree.Utterance], rows: list[list[str]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        assert isinstance(config, IemocapConfig)
        index = 0
        for utterance in utterances:
            problems = Problems()
            try:
                wave = load(
                    utterance.recording, SAMPLE_RATE, config.max_seconds, problems
                )
            except AudioError as error:
                message = f"{error.message}; {utterance.id} is skipped"
                problems.error(error.kind, error.where, message)
                wave = None
            rows += [list(problem) for problem in problems.rows]
            if wave is not None:
                yield index, make_example(utterance, builds.to_int16(wave))
                index += 1


def make_example(
    utterance: tree.Utterance, audio: Int16[np.ndarray, " samples"]
) -> dict[str, Any]:
    """Returns an utterance as the features that are written."""
    block, name = utterance.block, utterance.name
    kind = scenario_kind(name.scenario)
    return {
        "utterance": block.utterance,
        "dialog": name.dialog,
        "session": name.session,
        "speaker": name.speaker,
        "scenario": name.scenario,
        "kind": kind,
        "scripted": kind == "script",
        "start": block.start,
        "end": block.end,
        "transcript": utterance.text or "",
        "has_transcript": utterance.text is not None,
        "consensus": block.code,
        "triple": _numbers(block.triple or (None, None, None)),
        "sha256": builds.samples_hash(audio),
        "audio": audio,
        **_rater_rows(block),
    }


def scenario_kind(scenario: str) -> str:
    """Returns 'script', 'improvisation' or 'other' for 'script01_1', 'impro04' ..."""
    if scenario.startswith("script"):
        return "script"
    return "improvisation" if scenario.startswith("impro") else "other"


def _rater_rows(block: Block) -> dict[str, list[dict[str, Any]]]:
    labels = [
        {"rater": row.rater, "labels": "|".join(row.labels), "comment": row.comment}
        for row in block.labels
    ]
    dimensions = [
        {
            "rater": row.rater,
            "comment": row.comment,
            "values": _numbers((row.val, row.act, row.dom)),
        }
        for row in block.dimensions
    ]
    return {"labels": labels, "dimensions": dimensions}


def _numbers(values: tuple[float | None, ...]) -> Float[np.ndarray, " values"]:
    return np.array([math.nan if x is None else x for x in values], np.float64)
