"""What travels between the rooms: NamedTuples whose fields carry their shapes."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray
Params = Any  # nested dict of arrays
Data = Any  # whatever loss_fn(params, data) reads; in this project a Batch
Order = Literal["first", "second"]
SupportMode = Literal["independent", "same", "disjoint"]
Inner = Literal["auto", "general", "dual"]


class Batch(NamedTuple):
    """Labelled clips of one listener, padded; leading axes (tasks) may be added.

    Where dimensions are learned, their columns stand after those of the classes.
    """

    inputs: Array  # [samples, layers, width] pooled hidden states
    targets: Array  # [samples, classes + dimensions] multi-hot, then standardised
    #   ratings; 0 where not answered
    mask: Array  # [samples, classes + dimensions] True = this answer counts; padding
    #   is all False
    weights: Array | None = None  # [samples, classes] of class-balanced losses; data,
    #   not constants, so that folds share their compiled functions


class Episode(NamedTuple):
    """One listener's draw: adapt on the support set, judge on the query set."""

    support: Batch
    query: Batch


class EpisodeRows(NamedTuple):
    """Which ratings of a pool an episode reads; -1 is padding."""

    support: Array  # [support] int32; leading axes (tasks) may be added
    query: Array  # [query] int32


class MetaParams(NamedTuple):
    """What meta-training learns."""

    params: Params  # the shared starting point theta
    learning_rates: Mapping[str, Array]  # path of an adapted tensor -> [steps];
    #   closed forms keep {'strength': [1]} here, what the shared model is worth


class AdaptInfo(NamedTuple):
    """What the inner loop saw."""

    support_losses: Array  # [steps] loss on the support set before each step


class MetaInfo(NamedTuple):
    """What the outer loss saw."""

    query_loss: Array  # [] mean over the tasks
    support_losses: Array  # [steps] mean over the tasks
    per_task: Array  # [tasks] query loss of each task


class EncoderOutput(NamedTuple):
    """What an encoder returns."""

    hidden_states: Array  # [batch, layers, frames, width]
    mask: Array  # [batch, frames] True = a frame of the clip, not of the padding
    last_hidden_state: Array | None = None  # [batch, frames, width] after the final
    #   norm, where the stack ends with one; otherwise the last hidden state


class Ratings(NamedTuple):
    """Who labelled what: one row for each (clip, listener) pair."""

    clip: np.ndarray  # [ratings] int32, index into Corpus.clips
    annotator: np.ndarray  # [ratings] int32, index into Corpus.annotators
    targets: np.ndarray  # [ratings, classes] float32 multi-hot, 0 where not answered
    mask: np.ndarray  # [ratings, classes] bool, True = this answer counts
    dimensions: np.ndarray  # [ratings, dimensions] float32, NaN = not rated


class Corpus(NamedTuple):
    """A corpus of clips and of what each listener heard in them."""

    name: str
    clips: tuple[str, ...]  # clip ids
    annotators: tuple[str, ...]  # listener ids
    classes: tuple[str, ...]  # label names, in the order of the targets' columns
    dimensions: tuple[str, ...]  # names of the dimensional ratings, may be empty
    speakers: np.ndarray  # [clips] str, '' = unknown
    sessions: np.ndarray  # [clips] str, '' = unknown
    ratings: Ratings
    content_hashes: tuple[str, ...]  # [clips] sha256 of the audio or of the features
    read_audio: Callable[[int], np.ndarray] | None  # clip index -> [samples] 16 kHz
    features: np.ndarray | None  # [clips, layers, width] when precomputed
    ground_truth: np.ndarray | None  # [ratings, classes] P(label | clip, listener)
    summary: dict[str, Any]  # what the builder found, for the console and the report
    groups: tuple[str, ...] = ()  # [annotators] kind of each listener, for example
    #   'observer'; results are shown for each kind apart. () = all of one kind
    seconds: np.ndarray | None = None  # [clips] durations where the builder knows them


class Pool(NamedTuple):
    """Ratings with their inputs: what episodes are drawn from.

    It holds all ratings of the corpus, so that every split of every fold has the same
    shapes and shares its compilations; those outside the split have no annotator.
    """

    inputs: np.ndarray  # [rows, layers, width]
    row: np.ndarray  # [ratings] int32, index into `inputs`
    clip: np.ndarray  # [ratings] int32
    annotator: np.ndarray  # [ratings] int32, -1 = not in this split
    targets: np.ndarray  # [ratings, classes + dimensions] float32, see `Batch`
    mask: np.ndarray  # [ratings, classes + dimensions] bool
    class_weights: np.ndarray | None = None  # [classes] of class-balanced losses
