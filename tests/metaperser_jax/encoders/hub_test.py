"""Where files are found: folders, the hub's cache, and a hub that does not answer."""

import json
import pathlib
import types

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from metaperser_jax.encoders import hub
from metaperser_jax.errors import InputError, MachineError

NAME = "microsoft/wavlm-base-plus"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAFE = ("config.json", "preprocessor_config.json", "model.safetensors")


def fill(folder, names=SAFE):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}", encoding="utf-8")
    return folder


def index(folder, shards, name="model.safetensors.index.json"):
    listed = {f"tensor{i}": shard for i, shard in enumerate(shards)}
    text = json.dumps({"weight_map": listed})
    (folder / name).write_text(text, encoding="utf-8")


# --- folders ---


def test_a_folder_s_files_are_found(tmp_path):
    files = hub.find_files(str(fill(tmp_path)))
    assert files == hub.Files(
        source=str(tmp_path),
        revision="",
        config=tmp_path / "config.json",
        preprocessor=tmp_path / "preprocessor_config.json",
        weights=tmp_path / "model.safetensors",
        notes=(),
    )


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["pytorch_model.bin", "model.safetensors"], "model.safetensors"),
        (["pytorch_model.bin", "model.safetensors.index.json"],
         "model.safetensors.index.json"),
        (["pytorch_model.bin.index.json", "pytorch_model.bin"], "pytorch_model.bin"),
        (["pytorch_model.bin.index.json"], "pytorch_model.bin.index.json"),
        (["mine.safetensors", "adapter.eng.safetensors"], "mine.safetensors"),
    ],
)  # fmt: skip
def test_safetensors_come_before_pickles(tmp_path, names, chosen):
    fill(tmp_path, ["config.json", *names])
    assert hub.find_files(str(tmp_path)).weights == tmp_path / chosen


def test_the_file_of_tensors_itself_may_be_given(tmp_path):
    fill(tmp_path, [*SAFE, "pytorch_model.bin"])
    for name, chosen in (
        ("pytorch_model.bin", "pytorch_model.bin"),
        ("model.safetensors", "model.safetensors"),
        ("config.json", "model.safetensors"),
    ):
        assert hub.find_files(str(tmp_path / name)).weights == tmp_path / chosen


def test_shards_are_counted_among_the_files(tmp_path):
    fill(tmp_path, ["config.json", "b.safetensors", "a.safetensors"])
    index(tmp_path, ["b.safetensors", "a.safetensors", "b.safetensors"])
    assert [path.name for path in hub.find_files(str(tmp_path)).all()] == [
        "config.json",
        "model.safetensors.index.json",
        "a.safetensors",
        "b.safetensors",
    ]


def test_the_processor_s_file_stands_in_for_the_preprocessor_s(tmp_path):
    fill(tmp_path, ["config.json", "processor_config.json", "model.safetensors"])
    files = hub.find_files(str(tmp_path))
    assert files.preprocessor == tmp_path / "processor_config.json"
    assert files.notes == ()


def test_a_missing_preprocessor_is_noted(tmp_path):
    files = hub.find_files(str(fill(tmp_path, ["config.json", "model.safetensors"])))
    assert files.preprocessor is None
    assert files.notes == (
        "no preprocessor_config.json: clips are normalised, as is the rule",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"no config\.json there.* There is: nothing\.$"),
        (["wavlm.pt"], r"no config\.json there.* There is: wavlm\.pt\."),
        ([f"{i:02}" for i in range(30)], r"08, 09, \.\.\. \(30 in all\)"),
        (["config.json"], r"no file of tensors there, expected one of model\.safe"),
        (["config.json", "tf_model.h5"], r"There is: config\.json, tf_model\.h5"),
        (["config.json", "a.safetensors", "b.safetensors"], "no file of tensors"),
    ],
)
def test_a_folder_without_an_encoder_is_told_with_what_is_there(
    tmp_path, names, message
):
    with pytest.raises(InputError, match=message) as caught:
        hub.find_files(str(fill(tmp_path, names)))
    assert str(tmp_path) in str(caught.value)


def test_the_folder_within_is_suggested(tmp_path):
    fill(tmp_path / "inner")
    with pytest.raises(InputError, match=r"Did you mean .*/inner\?"):
        hub.find_files(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no/such", "no such folder"),
        ("/no/such", "no such folder"),
        ("~/no-such-folder", "no such folder"),
        ("C:\\models\\wavlm", "no such folder"),
        ("./microsoft/wavlm-base-plu", r"no such folder\. Did you mean 'microsoft/"),
        ("", "neither a folder nor an id of the hub"),
        ("a/b/c", "neither a folder nor an id of the hub"),
        ("org/na me", "neither a folder nor an id of the hub"),
        ("org/näme", "neither a folder nor an id of the hub"),
        ("wavlm-base", r"neither .* Did you mean 'microsoft/wavlm-base'\?"),
        ("https://huggingface.co/microsoft/wavlm-base", "neither a folder"),
    ],
)
def test_what_is_no_place_is_told_without_asking_anyone(name, message):
    with pytest.raises(InputError, match=message):
        hub.find_files(name)


def test_a_folder_has_no_revisions(tmp_path):
    with pytest.raises(InputError, match="revision 'main': a folder has no revisions"):
        hub.find_files(str(fill(tmp_path)), "main")


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "clip.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match="a file that holds no tensors"):
        hub.find_files(str(tmp_path / "clip.wav"))


def test_a_folder_in_the_working_folder_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(pathlib.Path(NAME))
    assert hub.find_files(NAME).config == pathlib.Path(NAME) / "config.json"


# --- the hub ---


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a hub that nobody may ask."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", forbidden)
    return folder


def forbidden(*_, **__):
    raise AssertionError("the hub was asked")


def cached(cache, names=SAFE, revision="main", commit=COMMIT):
    """A snapshot as the hub's library keeps it: links to blobs."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for folder in ("blobs", "refs"):
        (repository / folder).mkdir()
    (repository / "refs" / revision).write_text(commit, encoding="utf-8")
    for name in names:
        (repository / "blobs" / name).write_text("{}", encoding="utf-8")
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    return snapshot


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_the_cache_is_looked_at_first(cache, revision):
    snapshot = cached(cache)
    files = hub.find_files(NAME, revision)
    assert (files.source, files.revision) == (NAME, COMMIT)
    assert files.weights == snapshot / "model.safetensors"
    assert files.preprocessor == snapshot / "preprocessor_config.json"


def serve(monkeypatch, cache, siblings, error=None):
    """A hub that has these files; returns what was asked of it."""
    asked = []
    library = huggingface_hub.snapshot_download

    def model_info(_, name, revision=None, timeout=None):
        assert timeout is not None
        asked.append((name, revision))
        if error is not None:
            raise error
        files = [types.SimpleNamespace(rfilename=file) for file in siblings]
        return types.SimpleNamespace(sha=COMMIT, siblings=files)

    def snapshot_download(name, revision=None, local_files_only=False, **settings):
        if local_files_only:
            return library(name, revision=revision, local_files_only=True)
        patterns = settings["allow_patterns"]
        names = [n for n in siblings if any(map(pathlib.PurePath(n).match, patterns))]
        folder = fill(cache / "fetched" / "snapshots" / COMMIT, names)
        if "model.safetensors.index.json" in names:
            index(folder, [n for n in names if n.startswith("model-")])
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize(
    ("siblings", "fetched"),
    [
        ([*SAFE, "pytorch_model.bin", "tf_model.h5", "README.md"], set(SAFE)),
        (["config.json", "pytorch_model.bin", "flax_model.msgpack"],
         {"config.json", "pytorch_model.bin"}),
        (["config.json", "model.safetensors.index.json", "vocab.json",
          "model-1-of-2.safetensors", "model-2-of-2.safetensors", "a.safetensors"],
         {"config.json", "model.safetensors.index.json",
          "model-1-of-2.safetensors", "model-2-of-2.safetensors"}),
        (["config.json", "processor_config.json", "model.safetensors",
          "adapter.eng.safetensors"],
         {"config.json", "processor_config.json", "model.safetensors"}),
    ],
)  # fmt: skip
def test_no_more_than_is_needed_is_fetched(cache, monkeypatch, siblings, fetched):
    asked = serve(monkeypatch, cache, siblings)
    files = hub.find_files(NAME, "v1")
    assert asked == [(NAME, "v1")]
    assert files.revision == COMMIT
    assert {path.name for path in files.config.parent.iterdir()} == fetched
    assert {path.name for path in files.all()} == fetched


def test_an_incomplete_snapshot_is_completed(cache, monkeypatch):
    cached(cache, ["config.json", "preprocessor_config.json"])
    assert serve(monkeypatch, cache, SAFE) == []
    assert hub.find_files(NAME).weights.is_file()


def test_a_snapshot_without_its_shards_is_completed(cache, monkeypatch):
    snapshot = cached(cache, ["config.json", "preprocessor_config.json"])
    index(snapshot, ["model-1-of-1.safetensors"])
    shard = "model-1-of-1.safetensors"
    names = [*SAFE[:2], "model.safetensors.index.json", shard]
    asked = serve(monkeypatch, cache, names)
    assert all(path.is_file() for path in hub.find_files(NAME).all())
    assert asked


def test_a_snapshot_without_its_preprocessor_serves_when_the_hub_does_not(
    cache, monkeypatch
):
    snapshot = cached(cache, ["config.json", "model.safetensors"])
    serve(monkeypatch, cache, SAFE, httpx2.ConnectError("no route"))
    files = hub.find_files(NAME)
    assert files.weights == snapshot / "model.safetensors"
    assert "no preprocessor_config.json" in files.notes[0]
    assert "cannot be reached (ConnectError: no route)" in files.notes[1]


def test_a_model_without_weights_is_told(cache, monkeypatch):
    serve(monkeypatch, cache, ["config.json", "README.md"])
    message = rf"^encoder '{NAME}': no file of tensors there.* README\.md"
    with pytest.raises(InputError, match=message):
        hub.find_files(NAME)


def answer(kind, status, message="the server's words"):
    request = httpx2.Request("GET", "https://huggingface.co/api/models/x")
    response = httpx2.Response(status, request=request)
    return kind(f"{status} Client Error.\n\n{message}", response=response)


def caused(error, cause):
    error.__cause__ = cause
    return error


BY_HAND = rf"Or run `hf download {NAME}` on another machine and give the folder"
FAULTS = {
    "offline": (errors.OfflineModeIsEnabled("x"), MachineError,
                f"HF_HUB_OFFLINE forbids.*{BY_HAND}"),
    "offline, wrapped": (
        caused(errors.LocalEntryNotFoundError("x"), errors.OfflineModeIsEnabled("x")),
        MachineError, "HF_HUB_OFFLINE forbids"),
    "no route": (httpx2.ConnectError("[Errno -2] Name or service not known"),
                 MachineError, rf"cannot be reached \(ConnectError: .*{BY_HAND}"),
    "no route, wrapped": (
        caused(errors.LocalEntryNotFoundError("x"), httpx2.ConnectError("y")),
        MachineError, "cannot be reached"),
    "time-out": (httpx2.ReadTimeout("timed out"), MachineError,
                 rf"cannot be reached \(ReadTimeout.*{BY_HAND}"),
    "proxy": (httpx2.ProxyError("x"), MachineError, "cannot be reached"),
    "reset": (ConnectionResetError("x"), MachineError, "cannot be reached"),
    "server down": (answer(errors.HfHubHTTPError, 503), MachineError,
                    r"cannot be reached \(HfHubHTTPError: 503 Client Error\.\)"),
    "too many": (answer(errors.HfHubHTTPError, 429), MachineError, "too many requ"),
    "gated": (answer(errors.GatedRepoError, 403), InputError,
              f"gated. Accept its licence on https://.*{NAME}.*HF_TOKEN.*{BY_HAND}"),
    "bad token": (answer(errors.HfHubHTTPError, 401), InputError,
                  f"refuses the token.*hf auth login.*{BY_HAND}"),
    "forbidden": (answer(errors.HfHubHTTPError, 403), InputError, "refuses access"),
    "no repository": (answer(errors.RepositoryNotFoundError, 401), InputError,
                      r"no such model on the hub.*private"),
    "no revision": (answer(errors.RevisionNotFoundError, 404), InputError,
                    r"no revision 'v1'; see https://.*/tree/main"),
    "bad id": (errors.HFValidationError("x"), InputError, "no valid id"),
    "full disk": (OSError(28, "No space left on device"), MachineError,
                  r"cannot be kept in the cache.*No space left.*HF_HOME"),
    "download": (RuntimeError("Data processing error"), MachineError,
                 "the download failed"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "kind", "message"), FAULTS.values(), ids=list(FAULTS)
)
def test_what_goes_wrong_is_told_by_its_cause(cache, monkeypatch, error, kind, message):
    serve(monkeypatch, cache, SAFE, error)
    with pytest.raises(kind, match=f"(?s)^encoder '{NAME}': .*{message}") as caught:
        hub.find_files(NAME, "v1")
    assert "the server's words" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("microsoft/wavlm-base-pluss", NAME),
        ("facebook/wavlm-base-plus", NAME),
        ("microsoft/hubert-base-ls960", "facebook/hubert-base-ls960"),
    ],
)
def test_a_near_miss_is_suggested(cache, monkeypatch, name, meant):
    error = answer(errors.RepositoryNotFoundError, 404)
    serve(monkeypatch, cache, SAFE, error)
    with pytest.raises(InputError, match=rf"Did you mean '{meant}'\?"):
        hub.find_files(name)


def test_a_fault_of_ours_is_none_of_the_hub_s(cache, monkeypatch):
    serve(monkeypatch, cache, SAFE, KeyError("x"))
    with pytest.raises(KeyError):
        hub.find_files(NAME)


@pytest.mark.parametrize("revision", ["../../secret", "/etc/passwd", "", "a b", "-x"])
def test_a_revision_is_no_path(cache, revision):
    with pytest.raises(InputError, match="no name of a branch, tag or commit"):
        hub.find_files(NAME, revision)


def test_the_library_is_told_to_stay_offline(cache, monkeypatch):
    """The library's own words, with its own switch: nothing is asked of the hub."""
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match="HF_HUB_OFFLINE forbids to download"):
        hub.find_files(NAME)
    cached(cache)
    assert hub.find_files(NAME).revision == COMMIT


def test_published_ids_are_ids():
    assert len(set(hub.KNOWN)) == len(hub.KNOWN) > 20
    assert all(hub._ID.fullmatch(name) for name in hub.KNOWN)
