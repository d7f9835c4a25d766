"""CREMA-D as a TensorFlow Datasets package, without TensorFlow.

One example a clip: its audio and all its answers in all modalities, in array_record
files that `as_data_source` reads back at random. A split a speaker group: at most one
group's audio is in memory while it is written. What was skipped or doubtful is in the
metadata, so that each later load can say it again.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int16

from benchmark.audio import SAMPLE_RATE, load
from benchmark.headers import AudioError
from metaperser_jax.data import builds
from metaperser_jax.data.crema_d.answers import Answers, read_answers
from metaperser_jax.data.crema_d.folds import SPEAKER_GROUPS, group_of, speaker_of
from metaperser_jax.data.crema_d.published import check_published
from metaperser_jax.data.crema_d.sources import Sources, find_sources, fingerprint
from metaperser_jax.data.crema_d.spec import CremaDSpec
from metaperser_jax.errors import Problems

BUILDER_VERSION = "1.0.0"  # raise when the same files give other examples
SCHEMA = 1  # raise when the features or the metadata change
OTHER_GROUP = "other"  # the split of actors who are in no group
LONG_SECONDS = 10.0  # the corpus' clips last some 1.3 to 5 s
USELESS = ("silent_audio", "short_audio")  # warnings that leave nothing to hear


@dataclasses.dataclass(eq=False)
class CremaDConfig(tfds.core.BuilderConfig):
    """Which copy is read; the name carries a hash of its files."""

    spec: CremaDSpec = dataclasses.field(default_factory=CremaDSpec)


def config_name(sources: Sources, max_seconds: float) -> str:
    """Names a configuration after the files and what cuts their audio."""
    parts = (fingerprint(sources), float(max_seconds))
    return builds.config_name("files", SCHEMA, *parts)


class CremaDClips(tfds.core.GeneratorBasedBuilder):
    """Clips of CREMA-D with the answer of each listener."""

    VERSION = tfds.core.Version(BUILDER_VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Clone https://github.com/CheyneyComputerScience/CREMA-D with Git LFS and give "
        "its folder as manual_dir."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        tensor, text = tfds.features.Tensor, tfds.features.Text
        raw = tfds.features.Encoding.BYTES
        return builds.dataset_info(
            self,
            {
                "clip": text(),
                "speaker": text(),  # the actor, '1001'
                "group": text(),  # 'set1', '' = none
                "sha256": text(),
                "audio": tensor(shape=(None,), dtype=np.int16, encoding=raw),
                "rater": tensor(shape=(None,), dtype=np.int32),
                "modality": tensor(shape=(None,), dtype=np.uint8),
                "label": tensor(shape=(None,), dtype=np.uint8),
                "level": tensor(shape=(None,), dtype=np.float32),
                "response_ms": tensor(shape=(None,), dtype=np.float32),
            },
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        config, metadata = self.builder_config, self.info.metadata
        assert isinstance(config, CremaDConfig)
        assert metadata is not None
        root = config.spec.root or str(dl_manager.manual_dir)
        sources = find_sources(config.spec._replace(root=root))
        problems = Problems()
        shown = sources.shown(sources.responses)
        answers = read_answers(sources.responses, problems, shown)
        facts = {"answers_read": answers.num_read, "answers_kept": len(answers.rows)}
        facts |= check_published(answers, sources, problems)
        clips, left_out = match_clips(answers, sources, problems)
        metadata["facts"] = facts | left_out
        metadata["raters"] = list(answers.raters)
        metadata["problems"] = rows = [list(problem) for problem in problems.rows]
        members = {group: [] for group in (*SPEAKER_GROUPS, OTHER_GROUP)}
        for clip in clips:
            members[group_of(clip) or OTHER_GROUP].append(clip)
        groups = (
            (group, self._generate_examples(found, answers, sources, rows))
            for group, found in members.items()
        )
        return builds.filled_splits(groups, metadata)

    def _generate_examples(
        self,
        clips: list[str],
        answers: Answers,
        sources: Sources,
        rows: list[list[str]],
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        assert isinstance(config, CremaDConfig)
        answers_of = rows_by_clip(answers)
        index = 0
        for clip in clips:
            problems = Problems()
            audio = read_clip(clip, sources, config.spec.max_seconds, problems)
            rows += [list(problem) for problem in problems.rows]
            if audio is not None:
                yield index, make_example(clip, audio, answers_of[clip])
                index += 1


def match_clips(
    answers: Answers, sources: Sources, problems: Problems
) -> tuple[list[str], dict[str, int]]:
    """Finds the clips with both answers and a recording; the others are problems.

    Returns:
      The clips, sorted, and counts of what has no partner.
    """
    num_answers = np.bincount(answers.rows["clip"], minlength=len(answers.clips))
    pairs = zip(answers.clips, num_answers.tolist(), strict=True)
    answered = {clip: count for clip, count in pairs if count}
    silent = sorted(answered.keys() - sources.recordings.keys())
    for clip in silent:
        message = (
            f"clip {clip!r} has no recording; its {answered[clip]} answers are skipped"
        )
        problems.error("missing_audio", sources.shown(sources.audio_folder), message)
    unanswered = sorted(sources.recordings.keys() - answered.keys())
    for clip in unanswered:
        where = sources.shown(sources.recordings[clip])
        problems.error("unanswered_clip", where, "no answer to it; it is left out")
    counts = {
        "clips_without_recording": len(silent),
        "answers_without_recording": sum(answered[clip] for clip in silent),
        "recordings_without_answer": len(unanswered),
    }
    return sorted(answered.keys() & sources.recordings.keys()), counts


def rows_by_clip(answers: Answers) -> dict[str, np.ndarray]:
    """Returns the rows of each answered clip, by modality, then rater."""
    rows = answers.rows
    order = np.lexsort((rows["rater"], rows["modality"], rows["clip"]))
    starts = np.flatnonzero(np.diff(rows["clip"][order], prepend=-1))
    parts = np.split(rows[order], starts[1:])
    return {answers.clips[part["clip"][0]]: part for part in parts}


def read_clip(
    clip: str, sources: Sources, max_seconds: float, problems: Problems
) -> Int16[np.ndarray, " samples"] | None:
    """Reads a recording as 16-bit samples at 16 kHz; None = not to be used.

    Silent and nearly empty recordings are not used: nothing could be learnt of them.
    """
    path = sources.recordings[clip]
    where, found = sources.shown(path), Problems()
    try:
        wave = load(path, SAMPLE_RATE, max_seconds, found)
    except AudioError as error:
        message = f"{error.message}; {clip} is skipped"
        problems.error(error.kind, where, message)
        return None
    for problem in found.rows:
        if problem.kind in USELESS:
            message = f"{problem.message}; {clip} is skipped"
            problems.error(problem.kind, where, message)
            return None
    for problem in found.rows:
        problems.warning(problem.kind, where, problem.message)
    if len(wave) > LONG_SECONDS * SAMPLE_RATE:
        message = f"{len(wave) / SAMPLE_RATE:.1f} s, where clips last up to 5 s"
        problems.warning("unusually_long", where, message)
    return builds.to_int16(wave)


def make_example(
    clip: str, audio: Int16[np.ndarray, " samples"], rows: np.ndarray
) -> dict[str, Any]:
    """Returns a clip as the features that are written."""
    return {
        "clip": clip,
        "speaker": speaker_of(clip),
        "group": group_of(clip),
        "sha256": builds.samples_hash(audio),
        "audio": audio,
        "rater": rows["rater"],
        "modality": rows["modality"].astype(np.uint8),
        "label": rows["label"].astype(np.uint8),
        "level": rows["level"],
        "response_ms": rows["response_ms"],
    }
