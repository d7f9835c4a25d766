"""Makes tasks.json, the registry that the package ships, from the inventory.

python -m benchmark.make_tasks INVENTORY.json [--out tasks.json]

The inventory lists the released tasks as their authors published them. What is added
here (synonyms, ranges, languages, chance levels) is named in each record's
`reconstructed`; what is mended (revisions that are no commits) in its `notes`.
"""

import argparse
import collections
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.typing import Task

VERSION = "1"  # of the records; raised when one changes
COMMIT = re.compile(r"[0-9a-f]{40}")

MULTI_LABEL = frozenset(
    {
        *("MARBLEEmotionDetection_MTGMoodTheme", "MARBLEGenreClassification_MTG-Genre"),
        *(
            "MARBLEInstrumentClassification_MTGInstrument",
            "MARBLEMusicTagging_MTGTop50",
        ),
        "MARBLEMusicTagging_MagnaTagATune",
        "InstrumentCombinationRecognition-OpenMIC-2018",
        "DialogueActClassification_SLUE-HVB",
    }
)
# Names whose language the name or the corpus tells: that of the reference text.
LANGUAGES = (
    (r"_MLS-(de|en|es|fr|it|nl|pl|pt)$", r"\1"),
    (r"^PTBR", "pt-BR"),
    (r"AsrAr_", "ar"),
    (r"AsrEs_", "es"),
    (r"AsrZh_", "zh-CN"),
    (r"TaiwanMandarin|^Code-switchSpeechRecognition_NTUML2021", "zh-TW"),
    (r"_ASCEND$|^SongLyricRecognition_SingSet", "zh"),
    (r"^SuperbST_CoVoST2", "de"),
    (r"^SuperbASR_LibriSpeech|CORAAL|CHIME6|AMItest|SLUE-VoxPopuli|LibriTTS_PoS", "en"),
    (r"^SuperbSF_AudioSnips|^SpeechCommandRecognition_AudioMNIST", "en"),
)
# Lowest and highest value (None = no limit) and unit of the regressions.
RANGES: tuple[tuple[str, tuple[float, float | None] | None, str], ...] = (
    (r"^L2English\w+_speechocean762-Scoring", (0, 10), "points"),
    (r"^Phone(me)?SegmentCounting", (0, None), "segments"),
    (r"LibriCount", (0, 10), "speakers"),
    (r"_ASCEND$", (0, None), "switches"),
    (r"SingMOS", (1, 5), "points"),
    (r"^AudioDurationPrediction", (0, None), "s"),
    (r"^AudioSpatialDistance", (0, None), "m"),
)
# The inventory describes these labels instead of listing them.
LABELS = {
    "HowFarAreYou_3DSpeaker": (),
    "LanguageIdentification_VoxForge": (
        *("German", "English", "Spanish", "Italian", "Russian", "French"),
    ),
}
LABEL_NOTES = {
    "HowFarAreYou_3DSpeaker": "labels are distances in metres such as 0.4m",
    "LanguageIdentification_VoxForge": "spelling of the six labels is not known",
}
# Other spellings of a label, in tasks where no other label claims them.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "yes": ("true", "yeah", "yep"),
    "no": ("false", "nope"),
    "true": ("yes",),
    "false": ("no",),
    "zero": ("0", "0 dB", "zero dB"),
    "one": ("1",),
    "two": ("2",),
    "three": ("3",),
    "four": ("4",),
    "five": ("5", "5 dB", "five dB"),
    "ten": ("10", "10 dB", "ten dB"),
    "fifteen": ("15", "15 dB", "fifteen dB"),
    "spoofed": ("spoof", "fake"),
    "authentic": ("genuine", "real", "bona fide", "bonafide"),
    "clean": ("noise-free", "noiseless"),
    "presence": ("present",),
    "absence": ("absent",),
    "no_emotion": ("no emotion", "neutral"),
    "happy": ("happiness", "joy", "joyful"),
    "happiness": ("happy", "joy", "joyful"),
    "joy": ("joyful", "happy", "happiness"),
    "sad": ("sadness", "sorrow"),
    "sadness": ("sad", "sorrow"),
    "angry": ("anger", "mad"),
    "anger": ("angry", "mad"),
    "fear": ("fearful", "afraid", "scared"),
    "fearful": ("fear", "afraid", "scared"),
    "disgust": ("disgusted",),
    "surprise": ("surprised",),
    "surprised": ("surprise",),
    "calm": ("calmness",),
    "calmness": ("calm",),
    "amazement": ("amazed",),
    "solemnity": ("solemn",),
    "tenderness": ("tender",),
    "nostalgia": ("nostalgic",),
    "power": ("powerful",),
    "tension": ("tense",),
    "laughter": ("laugh", "laughing"),
    "laughing": ("laugh", "laughter"),
    "sigh": ("sighing",),
    "cough": ("coughing",),
    "coughing": ("cough",),
    "throat clearing": ("clearing throat", "throat-clearing"),
    "sneeze": ("sneezing",),
    "sneezing": ("sneeze",),
    "sniff": ("sniffing",),
    "snoring": ("snore",),
    "bangla": ("bengali",),
    "odiya": ("odia", "oriya"),
    "teenager (<20)": ("teenager", "teen"),
    "young adult (20-40)": ("young adult",),
    "middle-aged adult (40-60)": ("middle-aged adult", "middle-aged"),
    "elderly adult (60-80)": ("elderly adult", "elderly"),
    "healthy": ("normal",),
    "inform": ("informing",),
    "major": ("maj",),
    "minor": ("min",),
    "defence": ("defense",),
    "german": ("deutsch",),
    "crying baby": ("baby crying",),
    "mouse click": ("mouse clicking",),
    "keyboard typing": ("typing",),
    "car horn": ("horn",),
    "sea waves": ("waves",),
    "chirping birds": ("birds chirping",),
    "door wood knock": ("door knock",),
    "fireworks": ("firework",),
}
REVERBERANT = ("reverberant", "reverberated")


def records(inventory: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turns the rows of the inventory into the records of tasks.json.

    Args:
      inventory: one mapping a task, as in the inventory.

    Returns:
      One dict a task with the fields of `Task`; fields at their default are left out.
    """
    return [_record(row) for row in inventory]


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    name, single = row["name"], isinstance(row["hf_dataset"], str)
    datasets = (row["hf_dataset"],) if single else tuple(row["hf_dataset"])
    instances = tuple(dataset.rpartition("/")[2] for dataset in datasets)
    labels = LABELS.get(name, tuple(row["labels"] or ()))
    revisions, notes = _revisions(row, instances)
    own = {
        "synonyms": _synonyms(name, labels),
        "multi_label": name in MULTI_LABEL,
        "language": _language(name),
        "chance": _chance(row, labels),
        **_range(row),
    }
    if name in LABELS and labels:
        own["labels"] = labels
    if row["metric_note"] and "metric" in row["inferred"]:
        own["metric"] = row["metric"]
    named = {key: row[key] for key in ("type", "metric", "domain", "subdomain")}
    full = {
        "name": name,
        **named,
        "phase": row["phase"],
        "instances": instances,
        "hf_datasets": datasets,
        "revisions": revisions,
        "labels": labels,
        **own,
        "version": VERSION,
        "reconstructed": tuple(sorted(key for key, value in own.items() if value)),
        "inferred": tuple(row["inferred"]),
        "metric_note": row["metric_note"] or "",
        "replaces": row["replaces"] or "",
        "num_examples": row["n_instances"],
        "notes": (*notes, *filter(None, [LABEL_NOTES.get(name)])),
    }
    defaults = Task._field_defaults
    keep = {"version"}
    return {k: v for k, v in full.items() if k in keep or v != defaults.get(k, "")}


def _revisions(
    row: Mapping[str, Any], instances: tuple[str, ...]
) -> tuple[tuple[str, ...], list[str]]:
    """Returns a commit an instance, '' where none is known, and what was wrong."""
    given = row["hf_revision"]
    if not isinstance(given, dict):
        given = dict.fromkeys(instances, given)
    notes = []
    for instance, revision in given.items():
        if revision and not COMMIT.fullmatch(revision):
            notes.append(f"revision of {instance} is no commit: {revision}")
    counts = collections.Counter(filter(None, given.values()))
    for revision, count in counts.items():
        if count > 1:
            notes.append(
                f"{count} instances share the revision {revision}: one is wrong"
            )
    if row["hf_revision_year"] == 2023:
        notes.append("revision recorded in 2023, before the data were reduced")
    if not any(given.values()):
        notes.append("revision not known")
    revisions = [given.get(instance) or "" for instance in instances]
    return tuple(r if COMMIT.fullmatch(r) else "" for r in revisions), notes


def _synonyms(
    name: str, labels: tuple[str, ...]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns the other spellings of labels that only one label of the task claims."""
    table = {label: SYNONYMS.get(label.lower(), ()) for label in labels}
    if name.startswith("ReverberationDetection"):
        table["noisy"] = REVERBERANT
    if not name.startswith("NoiseSNR"):
        table = {k: tuple(s for s in v if "dB" not in s) for k, v in table.items()}
    claims = collections.Counter(s.lower() for spoken in table.values() for s in spoken)
    claims.update(label.lower() for label in labels)
    sole = {k: tuple(s for s in v if claims[s.lower()] == 1) for k, v in table.items()}
    return tuple((label, spoken) for label, spoken in sole.items() if spoken)


def _language(name: str) -> str:
    for pattern, language in LANGUAGES:
        if found := re.search(pattern, name):
            return found.expand(language)
    return ""


def _range(row: Mapping[str, Any]) -> dict[str, Any]:
    if row["type"] == "regression":
        for pattern, limits, unit in RANGES:
            if re.search(pattern, row["name"]):
                return {"value_range": limits, "unit": unit}
    return {}


def _chance(row: Mapping[str, Any], labels: tuple[str, ...]) -> float | None:
    """Returns the accuracy of a guess: the labels are closed, one is right."""
    closed = labels and row["type"] == "classification"
    return 1 / len(labels) if closed and row["name"] not in MULTI_LABEL else None


def dumps(tasks: Iterable[Mapping[str, Any]]) -> str:
    """Returns the text of tasks.json: one record a line, for readable differences."""
    lines = ",\n".join(json.dumps(task, ensure_ascii=False) for task in tasks)
    return '{"format": 1, "tasks": [\n' + lines + "\n]}\n"


def main(argv: list[str] | None = None) -> None:
    """Writes tasks.json."""
    parser = argparse.ArgumentParser(description="make the registry of tasks")
    parser.add_argument("inventory", type=pathlib.Path)
    beside = pathlib.Path(__file__).parent / "tasks.json"
    parser.add_argument("--out", type=pathlib.Path, default=beside)
    args = parser.parse_args(argv)
    rows = json.loads(args.inventory.read_text(encoding="utf-8"))
    args.out.write_text(dumps(records(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
