"""What a manifest's specification may say."""

import pytest

from metaperser_jax.data.manifest import ManifestSpec, check_spec
from metaperser_jax.errors import InputError


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_columns": ["primary", "secondary"], "classes": ["a", "b"]},
        {"graded_columns": ("happy", "sad"), "classes": ("sad",), "threshold": None},
        {"graded_columns": ("happy",), "label_columns": ()},
        {"separator": None, "unknown_labels": "drop_label", "delimiter": ";"},
        {"keep_rows": [["modality", ["voice"]]], "max_seconds": 5},
    ],
)
def test_good_specifications_pass(options):
    check_spec(ManifestSpec("folder", **options))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"label_columns": "label"}, "label_columns is 'label', expected a list"),
        ({"label_columns": ("a", "a")}, "a name twice: a, a"),
        ({"label_columns": (3,)}, "expected a list of names"),
        ({"label_columns": ()}, "both empty"),
        ({"label_columns": ("x",), "graded_columns": ("y",)}, "both given"),
        ({"graded_columns": ("y",), "classes": ("z",)}, r"\['z'\] are not among"),
        ({"classes": ()}, "classes is empty"),
        ({"classes": "abc"}, "classes is 'abc'"),
        ({"clip_column": ""}, "clip_column is ''"),
        ({"unknown_labels": "error"}, r"unknown_labels.*Did you mean 'error_row'"),
        ({"separator": ""}, "separator"),
        ({"delimiter": "tab"}, "one character"),
        ({"min_ratings": 0}, "min_ratings is 0"),
        ({"min_ratings": "3"}, "min_ratings is '3'"),
        ({"max_seconds": float("nan")}, "max_seconds is nan"),
        ({"max_seconds": -1.0}, "max_seconds is -1.0"),
        ({"sample_rate": True}, "sample_rate is True"),
        ({"threshold": "high"}, "threshold is 'high'"),
        ({"keep_rows": ("modality", "voice")}, "keep_rows holds 'modality'"),
        ({"keep_rows": [("modality", "voice")]}, r"\(column, \[value, \.\.\.\]\)"),
        ({"keep_rows": {"modality": "voice"}}, "keep_rows"),
    ],
)
def test_faults_are_named(options, word):
    with pytest.raises(InputError, match=word):
        check_spec(ManifestSpec("folder", **options))


def test_all_faults_are_listed_at_once():
    spec = ManifestSpec("folder", min_ratings=-1, separator="", threshold="x")
    with pytest.raises(InputError, match=r"separator.*min_ratings.*threshold"):
        check_spec(spec)
