"""Where an encoder's files are: a folder, the hub's cache, or the hub itself.

The cache is looked at first, the network last. What goes wrong is told by its cause,
always with the way that needs no network.
"""

import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from metaperser_jax.encoders.published import PUBLISHED
from metaperser_jax.encoders.tensors import read_index
from metaperser_jax.errors import InputError, MachineError, did_you_mean

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # holds the preprocessor since transformers 5
WEIGHTS = (  # the first that is there; an index names further files
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
KNOWN = (  # ids to suggest; any other of the four architectures is read as well
    *PUBLISHED,
    "facebook/wav2vec2-large-960h-lv60-self",
    *(f"facebook/hubert-{size}-ls960-ft" for size in ("large", "xlarge")),
    *(f"facebook/data2vec-audio-{size}-960h" for size in ("base", "large")),
)
_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)\w[\w./\-]*", re.ASCII)
_FAULTS: dict[str | int, tuple[type[InputError | MachineError], str]] = {
    # class of the error or status of the answer; the first that fits
    "OfflineModeIsEnabled": (
        MachineError,
        "not all of it is in the cache, and HF_HUB_OFFLINE forbids to download it. "
        "Unset it. {by_hand}",
    ),
    "GatedRepoError": (
        InputError,
        "gated. Accept its licence on {page}, then log in with `hf auth login` or set "
        "HF_TOKEN. {by_hand}",
    ),
    "RevisionNotFoundError": (
        InputError,
        "no revision {revision}; see {page}/tree/main, or leave it out.",
    ),
    "RepositoryNotFoundError": (
        InputError,
        "no such model on the hub, or a private one.{hint} For a private one log in "
        "with `hf auth login` or set HF_TOKEN.",
    ),
    "HFValidationError": (InputError, "no valid id of the hub."),
    401: (
        InputError,
        "the hub refuses the token. Renew it with `hf auth login` or in HF_TOKEN, or "
        "unset it: published encoders need none. {by_hand}",
    ),
    403: (InputError, "the hub refuses access; see {page}. {by_hand}"),
    429: (MachineError, "the hub has had too many requests; wait. {by_hand}"),
    **dict.fromkeys(
        ("HTTPError", "EntryNotFoundError", "ConnectionError", "TimeoutError"),
        (MachineError, "the hub cannot be reached ({detail}). Try again. {by_hand}"),
    ),
    "OSError": (
        MachineError,
        "cannot be kept in the cache ({detail}). Free some disk space, or set HF_HOME "
        "to another folder.",
    ),
    "RuntimeError": (
        MachineError,
        "the download failed ({detail}). Try again. {by_hand}",
    ),
}


class Files(NamedTuple):
    """The files of one encoder."""

    source: str  # the folder or id as it was asked for
    revision: str  # commit of the hub, '' for a folder
    config: pathlib.Path
    preprocessor: pathlib.Path | None
    weights: pathlib.Path  # a file of tensors or an index
    notes: tuple[str, ...]  # what is doubtful

    def all(self) -> tuple[pathlib.Path, ...]:
        """Returns every file, shards included."""
        shards = ()
        if self.weights.name.endswith(".index.json"):
            names = sorted(set(read_index(self.weights).values()))
            shards = tuple(self.weights.with_name(name) for name in names)
        known = (self.config, self.preprocessor, self.weights)
        return (*(path for path in known if path is not None), *shards)


def find_files(name_or_path: str, revision: str | None = None) -> Files:
    """Finds an encoder's files, and downloads them where they are not at hand.

    Args:
      name_or_path: a folder, a file of tensors in it, or an id of the hub
        ('microsoft/wavlm-base-plus').
      revision: branch, tag or commit of the hub; None = its main branch.

    Returns:
      The files.

    Raises:
      InputError: no such folder or id, or files are missing in it; the hub refuses.
      MachineError: the hub cannot be reached, or the disk is full.
    """
    if is_path(name_or_path):
        if revision is not None:
            raise InputError(
                f"encoder {name_or_path!r}, revision {revision!r}: a folder has no "
                "revisions; leave the revision out."
            )
        return _find_in_folder(pathlib.Path(name_or_path).expanduser(), name_or_path)
    if revision is not None and not _REVISION.fullmatch(revision):
        raise InputError(
            f"encoder {name_or_path!r}, revision {revision!r}: no name of a branch, tag"
            " or commit."
        )
    if not _ID.fullmatch(name_or_path):
        raise InputError(
            f"encoder {name_or_path!r}: neither a folder nor an id of the hub, which is"
            f" like {KNOWN[-1]!r}.{_suggest(name_or_path)}"
        )
    return _find_on_hub(name_or_path, revision)


def is_path(name_or_path: str) -> bool:
    """Whether it exists as a path or is written like one."""
    looks_like_one = name_or_path.startswith((".", "/", "~")) or "\\" in name_or_path
    return looks_like_one or (bool(name_or_path) and os.path.exists(name_or_path))


def _suggest(name: str) -> str:
    """Also for a name without its organisation."""
    if hint := did_you_mean(name, KNOWN):
        return hint
    short = {known.partition("/")[2]: known for known in KNOWN}
    hint = did_you_mean(name.rpartition("/")[2], short)
    found = next((known for end, known in short.items() if repr(end) in hint), "")
    return f" Did you mean {found!r}?" if found else ""


# --- folders ---


def _find_in_folder(path: pathlib.Path, source: str) -> Files:
    if path.is_file():
        is_weights = path.suffix in (".safetensors", ".bin") or path.name in WEIGHTS
        if not is_weights and path.name != CONFIG:
            raise InputError(
                f"encoder {source!r}: a file that holds no tensors; expected a folder "
                "with config.json, or a *.safetensors or *.bin file in it."
            )
        return _collect(path.parent, source, weights=path if is_weights else None)
    if not path.is_dir():
        raise InputError(
            f"encoder {source!r}: no such folder.{_suggest(source.strip('./~'))}"
        )
    return _collect(path, source)


def _collect(
    folder: pathlib.Path,
    source: str,
    revision: str = "",
    weights: pathlib.Path | None = None,
) -> Files:
    """Returns the files of a folder.

    Raises:
      InputError: the config or the weights are missing; it lists what is there.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}.") from error
    if CONFIG not in names:
        inner = [entry.parent.name for entry in folder.glob(f"*/{CONFIG}")]
        hint = f" Did you mean {folder / min(inner)}?" if inner else ""
        raise InputError(
            f"{folder}: no {CONFIG} there, which a folder of an encoder holds. There "
            f"is: {_list(names)}.{hint}"
        )
    if weights is None:
        weights = folder / _choose_weights(names, str(folder))
    preprocessor = next((n for n in (PREPROCESSOR, PROCESSOR) if n in names), None)
    note = f"no {PREPROCESSOR}: clips are normalised, as is the rule"
    return Files(
        source,
        revision,
        folder / CONFIG,
        folder / preprocessor if preprocessor else None,
        weights,
        () if preprocessor else (note,),
    )


def _choose_weights(names: Iterable[str], where: str) -> str:
    """Returns the file of tensors or the index to read."""
    names = sorted(names)
    if found := next((name for name in WEIGHTS if name in names), None):
        return found
    others = [n for n in names if n.endswith(".safetensors") and "adapter" not in n]
    if len(others) == 1:
        return others[0]
    raise InputError(
        f"{where}: no file of tensors there, expected one of {', '.join(WEIGHTS)}. "
        f"There is: {_list(names)}."
    )


def _list(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > 10 else ""
    return (", ".join(names[:10]) or "nothing") + more


# --- the hub ---


def _find_on_hub(name: str, revision: str | None) -> Files:
    cached = _ask(_find_cached, name, revision)
    if cached is not None and cached.preprocessor is not None:
        return cached
    try:
        return _ask(_download, name, revision)
    except (InputError, MachineError) as error:
        if cached is None:
            raise
        note = f"the hub could not be asked for {PREPROCESSOR}: {error}"
        return cached._replace(notes=(*cached.notes, note))


def _ask(function: Callable[..., Any], name: str, revision: str | None) -> Any:
    """Calls what uses the hub's library; its faults are explained."""
    try:
        return function(name, revision)
    except Exception as error:  # those that are none of the hub's go on
        explained = explain(error, name, revision)
        if explained is None:
            raise
        raise explained from error


def _find_cached(name: str, revision: str | None) -> Files | None:
    """Returns the files if the cache holds all that are needed."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, local_files_only=True
        )
    except LocalEntryNotFoundError as error:
        folder = getattr(error, "snapshot_path", None)  # parts of it may be enough
    if folder is None:
        return None
    try:
        files = _collect(pathlib.Path(folder), name, pathlib.Path(folder).name)
        complete = all(path.is_file() for path in files.all())
    except InputError:  # not what is needed: ask the hub
        return None
    return files if complete else None


def _download(name: str, revision: str | None) -> Files:
    """Downloads what is needed: no pickles where safetensors are, no other formats."""
    import huggingface_hub

    info = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=30)
    names = [file.rfilename for file in info.siblings or ()]
    weights = _choose_weights(names, f"encoder {name!r}")
    wanted = [CONFIG, PREPROCESSOR, PROCESSOR, weights]
    if weights.endswith(".index.json"):
        stem, suffix, *_ = weights.split(".")
        wanted.append(f"{stem}-*.{suffix}")
    folder = huggingface_hub.snapshot_download(
        name, revision=revision, allow_patterns=wanted
    )
    return _collect(pathlib.Path(folder), name, info.sha or "")


def explain(
    error: Exception, name: str, revision: str | None
) -> InputError | MachineError | None:
    """Says what a fault of the hub means.

    Args:
      error: what the hub's library raised.
      name: id of the model.
      revision: as it was asked for.

    Returns:
      The error to raise; None if it is no fault of the hub.
    """
    kinds = {kind for cause in _causes(error) for kind in _kinds(cause)}
    if isinstance(error, InputError | MachineError) or not kinds & _FAULTS.keys():
        return None
    exception, text = next(fault for kind, fault in _FAULTS.items() if kind in kinds)
    lines = str(error).strip().splitlines() or [""]
    details = {
        "revision": repr(revision),
        "page": f"https://huggingface.co/{name}",
        "hint": _suggest(name),
        "detail": f"{type(error).__name__}: {lines[0][:200]}",
        "by_hand": f"Or run `hf download {name}` on another machine and give the "
        "folder instead of the id.",
    }
    return exception(f"encoder {name!r}: {text.format(**details)}")


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error, what caused it, and so on."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain


def _kinds(cause: BaseException) -> set[str | int | None]:
    """Names of its classes, and its status if it is an answer of the hub."""
    status = getattr(getattr(cause, "response", None), "status_code", None)
    return {status, *(kind.__name__ for kind in type(cause).__mro__)}
