"""Names, order and number formats that the tables, pictures and report share."""

import math
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

NONE = "\N{EN DASH}"  # stands where a number is missing or not defined


class Metric(NamedTuple):
    """How a metric is shown."""

    title: str
    unit: str = ""  # '' where it has none
    lower_is_better: bool = False


METRICS = {
    "macro_f1": Metric("macro-F1"),
    "micro_f1": Metric("micro-F1"),
    "uar": Metric("UAR"),
    "exact_match": Metric("exact match"),
    "accuracy": Metric("accuracy"),
    "nll": Metric("NLL", "nats", lower_is_better=True),
    "brier": Metric("Brier", lower_is_better=True),
    "ece": Metric("ECE", lower_is_better=True),
    "ccc": Metric("CCC"),
    "pearson": Metric("Pearson r"),
    "rmse": Metric("RMSE", "SD", lower_is_better=True),
    "mae": Metric("MAE", "SD", lower_is_better=True),
}
OF_DIMENSIONS = ("ccc", "pearson", "rmse", "mae")  # also for each one: 'ccc_valence'


METHOD_GROUPS = {
    "The method": {"full": "Meta-PerSER (full)"},
    "Its ablations": {
        "minus_csmt": "Full without CSMT",
        "minus_da": "Full without DA",
        "minus_lslr": "Full without LSLR",
    },
    "Baselines": {
        "no_adaptation": "No adaptation (SSL-E)",
        "base_rate": "Base rate (audio ignored)",
        "prior_calibration": "Label-prior calibration",
        "fine_tune": "Fine-tuning on K",
        "scratch": "From scratch on K",
        "maml": "MAML (one fixed rate)",
        "fomaml": "First-order MAML",
        "anil": "ANIL (last layer only)",
        "reptile": "Reptile",
        "prototypes": "Class prototypes",
        "listener_embedding": "Listener embedding",
        "nearest_listener": "Nearest known listener",
    },
    "Controls and bounds": {
        "wrong_listener": "Wrong listener's labels",
        "oracle": "Oracle (all own labels)",
        "ground_truth": "Simulator's probabilities",
    },
}


OTHER_METHODS = "Other methods"


ABLATIONS = tuple(METHOD_GROUPS["Its ablations"])
METHOD_TITLES = {
    method: title for group in METHOD_GROUPS.values() for method, title in group.items()
}


# They need what a deployed system cannot have, or are wrong on purpose.
NOT_DEPLOYABLE = frozenset({"oracle", "ground_truth", "wrong_listener"})


SCENARIO_TITLES = {"seen": "Seen utterances", "unseen": "Unseen utterances"}


# Kinds of listeners: '' where a corpus knows none, 'all' = all kinds together.
GROUP_TITLES = {
    "": "Listeners",
    "observer": "Observers",
    "self": "Self-raters",
    "all": "All listeners",
}


ENCODER_TITLES = {
    "logmel": "Log-mel (no weights)",
    "facebook/wav2vec2-base": "wav2vec 2.0 Base",
    "facebook/wav2vec2-large": "wav2vec 2.0 Large",
    "facebook/wav2vec2-large-lv60": "wav2vec 2.0 Large (LV-60)",
    "facebook/hubert-base-ls960": "HuBERT Base",
    "facebook/hubert-large-ll60k": "HuBERT Large",
    "microsoft/wavlm-base": "WavLM Base",
    "microsoft/wavlm-base-plus": "WavLM Base+",
    "microsoft/wavlm-large": "WavLM Large",
}


_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def metric_info(metric: str) -> Metric:
    """Returns how to show a metric; an unknown one is taken as higher-is-better."""
    first, _, dimension = metric.partition("_")
    if dimension and first in OF_DIMENSIONS:
        title = f"{METRICS[first].title}, {dimension.replace('_', ' ')}"
        return METRICS[first]._replace(title=clean_text(title))
    return METRICS.get(metric, Metric(clean_text(metric.replace("_", " "))))


def metric_label(metric: str) -> str:
    """Returns the title with its unit, for example 'NLL (nats)'."""
    info = metric_info(metric)
    return f"{info.title} ({info.unit})" if info.unit else info.title


def method_title(method: str) -> str:
    """Returns the human-readable name of a method; an unknown one keeps its own."""
    return METHOD_TITLES.get(method, clean_text(method))


def scenario_title(scenario: str) -> str:
    """Returns the human-readable name of a scenario; an unknown one keeps its own."""
    return SCENARIO_TITLES.get(scenario, clean_text(scenario))


def group_title(group: str) -> str:
    """Returns the human-readable name of a kind of listeners; an unknown keeps its."""
    return GROUP_TITLES.get(group, clean_text(group))


def encoder_title(encoder: str) -> str:
    """Returns the human-readable name of an encoder; an unknown one keeps its own."""
    return ENCODER_TITLES.get(encoder, clean_text(encoder))


def clean_text(text: str) -> str:
    """Replaces control, bidirectional-override and lone surrogate characters by U+FFFD.

    Names of listeners and files come from outside; they must neither move the cursor
    of a terminal nor break the encoding of a file.
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(char) in ("Cc", "Cs") or char in _BIDI_CONTROLS
        else char
        for char in text
    )


def group_methods(methods: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Sorts methods into the groups of `METHOD_GROUPS`, empty groups left out."""
    methods = sort_methods(methods)
    groups = [
        (title, [method for method in methods if method in members])
        for title, members in METHOD_GROUPS.items()
    ]
    groups.append((OTHER_METHODS, [m for m in methods if m not in METHOD_TITLES]))
    return [(title, members) for title, members in groups if members]


def sort_methods(methods: Iterable[str]) -> list[str]:
    """Returns the methods in the order of the tables, each once, unknown ones last."""
    return _in_order(methods, METHOD_TITLES)


def sort_metrics(metrics: Iterable[str]) -> list[str]:
    """Returns the metrics in the order of `METRICS`, each once, unknown ones last."""
    return _in_order(metrics, METRICS)


def sort_scenarios(scenarios: Iterable[str]) -> list[str]:
    """Returns 'seen' before 'unseen', each once, unknown ones last."""
    return _in_order(scenarios, SCENARIO_TITLES)


def sort_groups(groups: Iterable[str]) -> list[str]:
    """Returns the kinds of listeners, each once, unknown ones last."""
    return _in_order(groups, GROUP_TITLES)


def sort_encoders(encoders: Iterable[str]) -> list[str]:
    """Returns the encoders in the order of the tables, each once, unknown ones last."""
    return _in_order(encoders, ENCODER_TITLES)


def is_number(value: Any) -> bool:
    """Tells whether a value is a finite number; None and text are not."""
    return value is not None and not isinstance(value, str) and math.isfinite(value)


def format_number(value: Any, digits: int = 3, none: str = NONE) -> str:
    """Formats a number with fixed decimals; NaN, infinity and None become `none`."""
    return f"{float(value):.{digits}f}" if is_number(value) else none


def format_signed(value: Any, digits: int = 3, none: str = NONE) -> str:
    """Formats a difference with its sign."""
    return f"{float(value):+.{digits}f}" if is_number(value) else none


def format_p(value: Any, none: str = NONE) -> str:
    """Formats a p value; those below 0.001 as '<0.001'."""
    if is_number(value) and float(value) < 0.001:
        return "<0.001"
    return format_number(value, none=none)


def format_share(value: Any, none: str = NONE) -> str:
    """Formats a share in [0, 1] as a percentage."""
    return f"{100 * float(value):.0f} %" if is_number(value) else none


def _in_order(values: Iterable[str], known: dict[str, Any]) -> list[str]:
    present = set(values)
    return [v for v in known if v in present] + sorted(present - known.keys())
