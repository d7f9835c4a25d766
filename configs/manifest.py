"""Your own listeners: a folder with ratings and recordings, or a table of features.

Command: python run.py --config=configs/manifest.py --config.data.root=FOLDER
With an encoder of the hub or a folder: --config.encoder.name=microsoft/wavlm-base-plus

A trial of the way through an encoder's checkpoint, without a download; its weights are
drawn, so the numbers mean nothing:
  python -m metaperser_jax.encoders.drawn wavlm_tiny checkpoints/wavlm_tiny
  python run.py --config=configs/manifest.py:wavlm_tiny --config.data.root=FOLDER
"""

import ml_collections

from configs.common import base_config


def optional(kind, value):
    """Returns a field of a type that may also be None."""
    return ml_collections.FieldReference(value, field_type=kind)


ENCODERS = {"": "logmel", "wavlm_tiny": "checkpoints/wavlm_tiny"}


def get_config(encoder=""):
    if encoder not in ENCODERS:
        raise ValueError(f"{encoder!r}: expected one of {', '.join(ENCODERS)}")
    config = base_config()
    config.encoder.name = ENCODERS[encoder]
    config.corpus = "manifest"
    config.data.root = ""
    config.data.name = ""  # '' = the folder's name
    config.data.ratings = "auto"  # ratings.csv, votes.csv, ... jsonl, parquet
    config.data.items = "auto"  # a table with a row a clip, joined
    config.data.audio = optional(str, "auto")  # the recordings' folder; None = none
    config.data.features = optional(str, None)  # a table of precomputed features
    config.data.features_clip_column = "auto"
    config.data.clip_column = "clip"
    config.data.annotator_column = "annotator"
    config.data.label_columns = ("label",)
    config.data.separator = "|"  # between labels in one cell
    config.data.graded_columns = ()  # one number a class instead of labels
    config.data.threshold = 0.0  # a grade above it is a label
    config.data.classes = optional(tuple, None)  # None = all that are found
    config.data.unknown_labels = "error_row"  # or drop_label
    config.data.speaker_column = "auto"
    config.data.session_column = "auto"
    config.data.dimension_columns = ()
    config.data.min_ratings = 1
    config.data.max_seconds = 60.0

    config.loss.class_balanced = False
    config.head.hidden = 64
    config.meta.init_learning_rate = 0.1
    config.meta.learning_rate = 1e-3
    config.meta.rate_learning_rate = 1e-2
    config.meta.cosine = True
    config.meta.num_support = (4, 32)
    config.meta.evaluations = 5
    return config
