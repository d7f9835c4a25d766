"""From a config to typed settings: every fault at once, before any device work.

This is where a ConfigDict ends: what follows sees NamedTuples.
"""

import collections.abc
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from metaperser_jax.data import crema_d, iemocap, manifest
from metaperser_jax.data.crema_d import CremaDSpec
from metaperser_jax.data.iemocap import IemocapSpec
from metaperser_jax.data.manifest import ManifestSpec
from metaperser_jax.data.splits import SplitSpec
from metaperser_jax.data.synthetic import SyntheticSpec, simulation
from metaperser_jax.encoders.tuning import LORA_PATTERN
from metaperser_jax.encoders.tuning import Mode as TuningMode
from metaperser_jax.errors import InputError, did_you_mean
from metaperser_jax.evaluation.titles import METRICS
from metaperser_jax.heads import ACTIVATIONS
from metaperser_jax.losses import DimensionLoss, Family
from metaperser_jax.training import durations
from metaperser_jax.typing import Inner, SupportMode

METHODS = (
    "full",
    "minus_csmt",
    "minus_da",
    "minus_lslr",
    "maml",
    "fomaml",
    "anil",
    "reptile",
    "prototypes",
    "listener_embedding",
    "no_adaptation",
    "base_rate",
    "prior_calibration",
    "fine_tune",
    "scratch",
    "nearest_listener",
    "oracle",
    "wrong_listener",
    "ground_truth",
)


class FeatureSettings(NamedTuple):
    """What the head reads."""

    inputs: Literal["audio", "precomputed", "other_raters"] = "audio"
    cache_dir: str = ""  # '' = <workdir>/../cache
    batch_size: int = 0  # clips encoded at once, 0 = what `memory_gb` allows
    memory_gb: float = 2.0  # 10^9 bytes on a device, beside the encoder's params
    standardise: bool = True


class EncoderSettings(NamedTuple):
    """What turns recordings into hidden states."""

    name: str = "logmel"  # or a name on the hub, or a folder
    revision: str = ""  # '' = the newest
    dtype: Literal["float32", "bfloat16"] = "float32"
    tuning: TuningMode = "frozen"  # what is trained with the head, fold by fold
    num_tuned_layers: int = 4  # top_n: the last ones
    lora_rank: int = 8
    lora_alpha: float = 16.0  # updates count alpha / rank times
    lora_pattern: str = LORA_PATTERN  # kernels that get an update
    tune_front_end: bool = False  # full: the convolutional front end as well
    learning_rate: float = 0.0  # 0 = 1e-4 for lora, else 1e-5; the head: pretrain's
    epochs: int = 5
    batch_size: int = 8  # clips, each with all its labels
    accumulate: int = 1  # batches of one step
    warmup: float = 0.1  # share of the steps in which the rates rise
    remat: bool = False  # compute layers twice and hold less; in vain on a CPU


class HeadSettings(NamedTuple):
    """The model on top of the features."""

    hidden: int = 256
    activation: str = "none"


class LossSettings(NamedTuple):
    """The training loss."""

    outputs: Literal["categories", "dimensions", "both"] = "categories"
    family: Family = "softmax"
    class_balanced: bool = True
    smoothing: float = 0.05
    dimension_loss: DimensionLoss = "ccc"  # of pools and query sets
    dimension_support_loss: DimensionLoss = "huber"  # of support sets
    dimension_weight: float = 1.0  # of the dimensions beside the categories


class PretrainSettings(NamedTuple):
    """SSL-E: the head on all (clip, label) pairs of the training listeners."""

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    evaluations: int = 10  # how often the development listeners are asked


class MetaSettings(NamedTuple):
    """Meta-training."""

    num_steps: int = 5
    adapt: str = ".*"
    init_learning_rate: float = 1e-2
    rate_bounds: tuple[float, ...] = ()
    proximal: float = 0.0
    multi_step_weights: tuple[float, ...] = ()
    task_chunk: int = 0  # 0 = as many tasks at once as are good for the inner loop
    inner: Inner = "auto"  # how the inner loop is computed; the results are the same
    remat: bool = False
    duration: str = "25 epochs"
    num_tasks: int = 4
    num_support: tuple[int, int] = (32, 32)  # (fewest, most)
    num_query: int = 32
    mode: SupportMode = "independent"
    second_order_from: float = 0.5
    learning_rate: float = 1e-4
    rate_learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    cosine: bool = False
    evaluations: int = 10  # how often the development listeners are asked
    max_skipped: int = 20  # steps in a row that are not finite before giving up


class EvaluationSettings(NamedTuple):
    """The protocol."""

    num_support: tuple[int, ...] = (4, 8, 16, 32)
    headline_support: int = 16
    num_draws: int = 20
    min_query: int = 8
    max_query: int = 0  # 0 = all
    scenarios: tuple[str, ...] = ("seen", "unseen")
    unseen_support: Literal["unseen", "seen"] = "unseen"  # where support is drawn from
    methods: tuple[str, ...] = METHODS
    headline_metrics: tuple[str, ...] = (
        "macro_f1",
        "micro_f1",
        "exact_match",
        "nll",
        "uar",
        "ece",
        "brier",
    )
    num_resamples: int = 1000
    max_bank: int = 256  # known listeners kept for nearest_listener


class SweepSettings(NamedTuple):
    """What a sweep runs over besides methods, folds and listeners."""

    encoders: tuple[str, ...] = ()  # () = encoder.name alone
    seeds: tuple[int, ...] = ()  # () = the seed alone


CorpusSpec = SyntheticSpec | ManifestSpec | IemocapSpec | CremaDSpec
CORPORA: dict[str, Any] = {
    "synthetic": SyntheticSpec,
    "manifest": ManifestSpec,
    "iemocap": IemocapSpec,
    "crema_d": CremaDSpec,
}
CHECKS: dict[Any, Callable[[Any], None]] = {
    SyntheticSpec: simulation.check_spec,
    ManifestSpec: manifest.check_spec,
    IemocapSpec: iemocap.check_spec,
    CremaDSpec: crema_d.check_spec,
}


class Settings(NamedTuple):
    """Everything a run depends on."""

    seed: int
    corpus: Literal["synthetic", "manifest", "iemocap", "crema_d"]
    data: CorpusSpec
    features: FeatureSettings
    encoder: EncoderSettings
    split: SplitSpec
    head: HeadSettings
    loss: LossSettings
    pretrain: PretrainSettings
    meta: MetaSettings
    evaluation: EvaluationSettings
    sweep: SweepSettings
    strict: bool
    tensorboard: bool


SECTIONS: dict[str, Any] = {
    "features": FeatureSettings,
    "encoder": EncoderSettings,
    "split": SplitSpec,
    "head": HeadSettings,
    "loss": LossSettings,
    "pretrain": PretrainSettings,
    "meta": MetaSettings,
    "evaluation": EvaluationSettings,
    "sweep": SweepSettings,
}


class Rule(NamedTuple):
    """What a value must satisfy."""

    holds: Callable[[Any], bool]
    expected: str


def _at_least(low: int) -> Rule:
    return Rule(lambda v: v >= low, f"at least {low}")


def _each(rule: Rule) -> Rule:
    return Rule(lambda v: all(map(rule.holds, v)), f"each {rule.expected}")


def _each_once(rule: Rule) -> Rule:
    """One or more, none of them twice: a flag given twice joins its tuples."""
    return Rule(
        lambda v: 0 < len(v) == len(set(v)) and all(map(rule.holds, v)),
        f"each {rule.expected}, 1 or more of them, none twice",
    )


def _among(known: Any) -> Rule:
    return Rule(lambda v: v in known, f"one of {', '.join(known)}")


def _is_duration(value: str) -> bool:
    try:
        return durations.to_steps(value, steps_per_epoch=1) >= 0
    except InputError:
        return False


def _is_regex(value: str) -> bool:
    try:
        return bool(re.compile(value))
    except re.error:
        return False


_SEED = Rule(lambda v: 0 <= v < 2**32, "at least 0 and below 2^32")
_POSITIVE = Rule(lambda v: v > 0, "above 0")
_FINITE = Rule(lambda v: 0 < v < math.inf, "above 0 and finite")
_FRACTION = Rule(lambda v: 0 <= v <= 1, "between 0 and 1")
_BELOW_ONE = Rule(lambda v: 0 <= v < 1, "at least 0 and below 1")
_RANGE = Rule(
    lambda v: len(v) == 2 and 1 <= v[0] <= v[1], "(fewest, most), 1 <= fewest <= most"
)
_GROWING = Rule(
    lambda v: len(v) > 0 and v[0] >= 1 and all(map(operator.lt, v, v[1:])),
    "one number or more, each larger than the one before, the first at least 1",
)
_BOUNDS = Rule(
    lambda v: not v or (len(v) == 2 and v[0] < v[1]), "() or (low, high), low < high"
)

RULES: dict[str, Rule] = {
    "seed": _SEED,
    "split.seed": _SEED,
    "features.batch_size": _at_least(0),
    "features.memory_gb": _FINITE,
    "encoder.name": Rule(bool, "'logmel', a name on the hub, or a folder"),
    "encoder.num_tuned_layers": _at_least(1),
    "encoder.lora_rank": _at_least(1),
    "encoder.lora_alpha": _FINITE,
    "encoder.lora_pattern": Rule(_is_regex, "a regular expression over kernel paths"),
    "encoder.learning_rate": Rule(lambda v: 0 <= v < math.inf, "at least 0, finite"),
    "encoder.epochs": _at_least(1),
    "encoder.batch_size": _at_least(1),
    "encoder.accumulate": _at_least(1),
    "encoder.warmup": _BELOW_ONE,
    "split.num_test_listeners": _at_least(1),
    "split.num_dev_listeners": _at_least(0),
    "split.num_folds": _at_least(0),
    "split.unseen_fraction": _BELOW_ONE,
    "split.dev_fraction": _BELOW_ONE,
    "head.hidden": _at_least(1),
    "head.activation": _among(ACTIVATIONS),
    "loss.smoothing": _BELOW_ONE,
    "loss.dimension_weight": _FINITE,
    "pretrain.epochs": _at_least(1),
    "pretrain.batch_size": _at_least(1),
    "pretrain.learning_rate": _FINITE,
    "pretrain.weight_decay": _at_least(0),
    "pretrain.evaluations": _at_least(1),
    "meta.num_steps": _at_least(0),
    "meta.adapt": Rule(_is_regex, "a regular expression over parameter paths"),
    "meta.duration": Rule(_is_duration, "'300 steps' or '25 epochs'"),
    "meta.init_learning_rate": _FINITE,
    "meta.rate_bounds": _BOUNDS,
    "meta.proximal": _at_least(0),
    "meta.task_chunk": _at_least(0),
    "meta.num_tasks": _at_least(1),
    "meta.num_support": _RANGE,
    "meta.num_query": _at_least(1),
    "meta.second_order_from": _FRACTION,
    "meta.learning_rate": _FINITE,
    "meta.rate_learning_rate": _at_least(0),
    "meta.weight_decay": _at_least(0),
    "meta.clip_norm": _POSITIVE,
    "meta.evaluations": _at_least(1),
    "meta.max_skipped": _at_least(1),
    "evaluation.num_support": _GROWING,
    "evaluation.headline_support": _at_least(1),
    "evaluation.num_draws": _at_least(1),
    "evaluation.min_query": _at_least(1),
    "evaluation.max_query": _at_least(0),
    "evaluation.scenarios": _each_once(_among(("seen", "unseen"))),
    "evaluation.methods": _each_once(_among(METHODS)),
    "evaluation.headline_metrics": _each_once(_among(METRICS)),
    "evaluation.num_resamples": _at_least(2),
    "evaluation.max_bank": _at_least(1),
    "split.min_test_ratings": _at_least(0),
    "sweep.seeds": _each(_SEED),
    "sweep.encoders": _each(Rule(bool, "'logmel', a name on the hub, or a folder")),
}


def from_config(config: Any) -> Settings:
    """Returns the settings of a config (a ConfigDict or a plain dict).

    Raises:
      InputError: listing every fault: unknown and missing keys, wrong types, values
        that cannot be, choices that contradict one another.
    """
    plain = _plain(config)
    faults = [*_unknown_keys(plain), *_faults_of_corpus(plain)]
    data_type = CORPORA.get(str(plain.get("corpus")))
    sections = {**SECTIONS, **({"data": data_type} if data_type else {})}
    for name, section_type in sections.items():
        faults += _section_faults(name, section_type, plain.get(name, {}))
    top = {key: plain[key] for key in _TOP if key in plain}
    faults += _type_faults("", Settings, {**top, "corpus": "synthetic"})
    if not faults:
        faults += _contradictions(plain)
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise InputError(f"the config has {len(faults)} fault(s):\n{lines}")
    built = {
        name: section_type(**_as_floats(section_type, plain.get(name, {})))
        for name, section_type in sections.items()
    }
    return Settings(**{**_TOP_DEFAULTS, **top, **built})


_TOP = ("seed", "corpus", "strict", "tensorboard")
_TOP_DEFAULTS = {"strict": False, "tensorboard": True, "seed": 0}


def _plain(config: Any) -> dict[str, Any]:
    """Returns the config as a dict, its lists as tuples."""
    plain = config.to_dict() if hasattr(config, "to_dict") else config
    if not isinstance(plain, Mapping):
        raise InputError(f"the config is {config!r}: expected sections of keys.")
    return _tuples(plain)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(inner) for inner in value)
    return value


def _as_floats(section_type: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Makes floats of whole numbers where floats are meant: 1 is 1.0."""
    hints = typing.get_type_hints(section_type)
    casts: dict[Any, Callable[[Any], Any]] = {
        float: float,
        tuple[float, ...]: lambda value: tuple(map(float, value)),
    }
    return {k: casts.get(hints[k], lambda v: v)(v) for k, v in values.items()}


def _unknown_keys(plain: dict[str, Any]) -> Iterator[str]:
    known = (*_TOP, "data", *SECTIONS)
    for key in plain:
        if key not in known:
            yield f"{key}: unknown key.{did_you_mean(key, known)}"


def _faults_of_corpus(plain: dict[str, Any]) -> Iterator[str]:
    corpus = plain.get("corpus")
    if corpus not in tuple(CORPORA):
        yield f"corpus={corpus!r}: expected one of {', '.join(CORPORA)}."


def _section_faults(name: str, section_type: Any, values: Any) -> list[str]:
    if not isinstance(values, Mapping):
        return [f"{name}: expected a section of keys, found {values!r}."]
    known = section_type._fields
    faults = [
        f"{name}.{key}: unknown key.{did_you_mean(key, known)}"
        for key in values
        if key not in known
    ]
    missing = [f for f in known if f not in {*values, *section_type._field_defaults}]
    faults += [f"{name}.{key}: missing." for key in missing]
    faults += _type_faults(f"{name}.", section_type, values)
    if not faults and name == "data":
        faults += _spec_faults(section_type(**values))
    return faults


def _spec_faults(spec: CorpusSpec) -> Iterator[str]:
    try:
        CHECKS[type(spec)](spec)
    except InputError as error:
        yield f"data: {error}"


def _type_faults(prefix: str, section_type: Any, values: Mapping) -> list[str]:
    hints = typing.get_type_hints(section_type)
    faults = []
    for key, value in values.items():
        if key not in hints:
            continue
        rule = RULES.get(prefix + key)
        if not fits(value, hints[key]):
            expected = _spell(hints[key])
            faults.append(f"{prefix}{key}={value!r}: expected {expected}.")
        elif rule and not rule.holds(value):
            faults.append(f"{prefix}{key}={value!r}: expected {rule.expected}.")
    return faults


def fits(value: Any, hint: Any) -> bool:
    """Returns whether a config value has the type of a hint; bool is no number."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and _tuple_fits(value, arguments)
    if origin is collections.abc.Sequence:
        return isinstance(value, tuple) and all(fits(v, arguments[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def _tuple_fits(value: tuple, arguments: tuple) -> bool:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return all(fits(v, arguments[0]) for v in value)
    return len(value) == len(arguments) and all(map(fits, value, arguments))


def _spell(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    text = str(hint) if typing.get_origin(hint) else getattr(hint, "__name__", hint)
    return re.sub(r"\b(typing|collections\.abc)\.", "", str(text))


def _contradictions(plain: dict[str, Any]) -> Iterator[str]:
    evaluation = {**EvaluationSettings()._asdict(), **plain.get("evaluation", {})}
    if evaluation["headline_support"] not in evaluation["num_support"]:
        yield (
            f"evaluation.headline_support={evaluation['headline_support']}: expected "
            f"one of evaluation.num_support={evaluation['num_support']}."
        )
    meta = {**MetaSettings()._asdict(), **plain.get("meta", {})}
    weights = meta["multi_step_weights"]
    if weights and len(weights) != meta["num_steps"]:
        yield (
            f"meta.multi_step_weights has {len(weights)} entries: expected "
            f"meta.num_steps={meta['num_steps']}."
        )
    inputs = plain.get("features", {}).get("inputs", "audio")
    if plain["corpus"] == "synthetic" and inputs != "audio":
        yield f"features.inputs={inputs!r}: the synthetic corpus gives 'audio'."
    encoder = {**EncoderSettings()._asdict(), **plain.get("encoder", {})}
    outputs = plain.get("loss", {}).get("outputs", "categories")
    if (mode := encoder["tuning"]) != "frozen":
        if outputs != "categories":
            yield (
                f"encoder.tuning={mode!r}: an encoder is trained on categories, and "
                f"loss.outputs={outputs!r}; expected 'categories', or 'frozen'."
            )
        if inputs != "audio":
            yield (
                f"encoder.tuning={mode!r}: an encoder is trained on recordings, and "
                f"features.inputs={inputs!r} reads none; expected 'audio'."
            )
        if encoder["name"] == "logmel":
            yield (
                f"encoder.tuning={mode!r}: encoder.name='logmel' has no weights to "
                "train; expected 'frozen', or another encoder."
            )
