"""Models by name: 'openai:http://host/v1#model', 'baseline:chance' ..."""

from collections.abc import Callable, Mapping

from benchmark.errors import InputError, did_you_mean
from benchmark.models import baselines, chat, classifier, local, recorded
from benchmark.models.base import Model, ModelSettings

_KINDS: Mapping[str, Callable[[str, ModelSettings], Model]] = {
    "file": recorded.make_recorded,
    "openai": chat.make_chat,
    "classifier": classifier.make_classifier,
    "transformers": local.make_transformers,
    "baseline": lambda rest, settings: _make_baseline(rest, settings),
    "scripted": lambda rest, settings: _make_scripted(rest, settings),
}
_BASELINES: Mapping[str, Callable[[ModelSettings], Model]] = {
    "chance": baselines.make_chance,
    "majority": baselines.make_majority,
    "text_only": baselines.make_text_only,
}


def make_model(spec: str, settings: ModelSettings | None = None) -> Model:
    """Returns the model that a specification names.

    Args:
      spec: 'file:PATH', 'openai:URL#MODEL', 'baseline:chance', 'baseline:majority',
        'baseline:text_only', 'baseline:text_only:URL#MODEL',
        'classifier:package.module:function', 'scripted:chatty', 'scripted:chatty:0.5'
        (share of right answers) or 'transformers:MODEL'.
      settings: what the adapters need.

    Raises:
      InputError: no such kind of model, or what its adapter finds wrong.
    """
    kind, separator, rest = spec.partition(":")
    if kind not in _KINDS:
        known = ", ".join(f"{name}:" for name in _KINDS)
        raise InputError(
            f"model {spec!r}: expected a name that begins with one of {known}."
            + did_you_mean(kind, _KINDS)
        )
    if not separator or not rest:
        raise InputError(f"model {spec!r}: nothing is named after {kind}:")
    return _KINDS[kind](rest, settings or ModelSettings())


def _make_baseline(rest: str, settings: ModelSettings) -> Model:
    name, _, endpoint = rest.partition(":")
    if name == "text_only" and endpoint:
        return chat.make_text_chat(endpoint, settings)
    if rest not in _BASELINES:
        known = ", ".join(_BASELINES)
        hint = did_you_mean(name, _BASELINES)
        raise InputError(f"baseline:{rest}: expected one of {known}.{hint}")
    return _BASELINES[rest](settings)


def _make_scripted(rest: str, settings: ModelSettings) -> Model:
    name, _, share = rest.partition(":")
    if name != "chatty":
        raise InputError(f"scripted:{rest}: expected scripted:chatty[:SHARE]")
    return baselines.make_chatty(settings, share)
