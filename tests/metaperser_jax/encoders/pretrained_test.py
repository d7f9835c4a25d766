"""Encoders by name and folder: loading, the report, saving, and what is refused."""

import collections
import errno
import functools
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub import constants

from metaperser_jax import trees
from metaperser_jax.encoders import convert, pretrained
from metaperser_jax.encoders.encoder import encode_pooled
from metaperser_jax.encoders.pretrained import (
    load_encoder,
    read_encoder,
    report_lines,
    save_encoder,
)
from metaperser_jax.encoders.tensors import open_tensors, write_safetensors
from metaperser_jax.encoders.transformer import param_shapes
from metaperser_jax.errors import InputError, MachineError
from tests.metaperser_jax.encoders.small import SMALL

RAW = SMALL._replace(do_normalize=False)
CONFIGS = {
    "wav2vec2": RAW,
    "hubert": RAW._replace(model_type="hubert", conv_pos_batch_norm=True),
    "wavlm": RAW._replace(
        model_type="wavlm", do_stable_layer_norm=True, feat_extract_norm="layer"
    ),
    "data2vec-audio": RAW._replace(
        model_type="data2vec-audio", feat_extract_norm="layer", conv_pos_kernel_size=3
    ),
}
WAVLM = CONFIGS["wavlm"]


@pytest.fixture(scope="module")
def params():
    def draw(config):
        rng = np.random.default_rng(0)
        return {
            path: jnp.asarray(rng.normal(size=shape.shape), jnp.float32)
            for path, shape in param_shapes(config).items()
        }

    return {kind: pretrained._nest(draw(config)) for kind, config in CONFIGS.items()}


@pytest.fixture
def folder(tmp_path, params):
    save_encoder(tmp_path / "wavlm", WAVLM, params["wavlm"])
    return tmp_path / "wavlm"


def check_equal(found, expected):
    found, expected = trees.flatten(found), trees.flatten(expected)
    assert set(found) == set(expected)
    for path, leaf in expected.items():
        assert found[path].dtype == leaf.dtype, path
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


# --- without weights ---


@pytest.mark.parametrize(
    "dtype", ["float32", np.float32, np.dtype("float32"), jnp.float32]
)
def test_logmel_has_no_params_and_one_layer(dtype):
    encoder, params = load_encoder("logmel", dtype=dtype)
    assert params == {}
    assert encoder.name == "logmel"
    assert encoder.num_layers == 1
    assert encoder.fingerprint == load_encoder("logmel")[0].fingerprint
    report = read_encoder("logmel").report
    assert report_lines(report) == ["encoder logmel: no weights"]
    assert not report.random_weights


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("logmell", {}, r"'logmell': not available, expected one of logmel, a folder.*"
         r"Did you mean 'logmel'\?"),
        ("wavlm-base", {}, r"not available.* Did you mean 'wavlm-base'\?"),
        ("", {}, "not available, expected one of logmel"),
        ("/no/such/folder", {}, "'/no/such/folder': no such folder"),
        ("logmel", {"revision": "main"}, "revision 'main': .*leave the revision out"),
        ("logmel", {"dtype": "bfloat16"}, "dtype 'bfloat16': .*leave the dtype out"),
        ("logmel", {"dtype": "float99"}, "dtype 'float99': .*leave the dtype out"),
        ("a/b", {"dtype": "int8"}, "dtype 'int8': expected one of float32, bfloat16"),
        ("a/b", {"dtype": "float99"}, "dtype 'float99': expected one of float32"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_named(name, settings, message):
    with pytest.raises(InputError, match=message):
        load_encoder(name, **settings)


# --- there and back ---


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_saved_is_loaded_bit_by_bit(tmp_path, params, kind):
    save_encoder(tmp_path / kind, CONFIGS[kind], params[kind])
    encoder, found, report = read_encoder(str(tmp_path / kind))
    check_equal(found, params[kind])
    assert report.config == CONFIGS[kind]
    assert sorted(path.name for path in (tmp_path / kind).iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert encoder.name == str(tmp_path / kind)
    assert (encoder.num_layers, encoder.width, encoder.revision) == (3, 8, "")


def test_what_is_loaded_encodes(folder):
    encoder, params = load_encoder(str(folder))
    clips = np.random.default_rng(0).normal(size=(2, 80)).astype(np.float32)
    pooled = jax.jit(functools.partial(encode_pooled, encoder))
    found = pooled(params, clips, np.array([80, 50]))
    assert found.shape == (2, 3, 8)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_comes_back_bit_by_bit(tmp_path, params, dtype):
    low = {
        path: leaf.astype(convert.kernel_dtype(path, dtype))
        for path, leaf in trees.flatten(params["wavlm"]).items()
    }
    save_encoder(tmp_path, WAVLM, pretrained._nest(low))
    found, report = read_encoder(str(tmp_path), dtype=dtype)[1:]
    check_equal(found, pretrained._nest(low))
    counts = collections.Counter(leaf.dtype.name for leaf in low.values())
    assert counts[dtype] == 14  # 1 + 1 + 2 * (4 + 2)
    assert report.stored_dtypes == counts
    wide = load_encoder(str(tmp_path))[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {jnp.dtype("float32")}


def test_the_dtype_is_part_of_the_fingerprint(folder):
    encoders = [load_encoder(str(folder), dtype=d)[0] for d in pretrained.DTYPES]
    assert len({encoder.fingerprint for encoder in encoders}) == 3


@pytest.mark.parametrize("max_shard_bytes", [1, 1000, 3000])
def test_shards_come_back_as_one(tmp_path, params, max_shard_bytes):
    save_encoder(tmp_path, WAVLM, params["wavlm"], max_shard_bytes=max_shard_bytes)
    found, report = read_encoder(str(tmp_path))[1:]
    check_equal(found, params["wavlm"])
    shards = list(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(shards) > 2
    assert len(report.files) == len(shards) + 3
    assert {p for p, _ in report.files} == {str(p) for p in tmp_path.iterdir()}
    for shard in shards:
        tensors = open_tensors(shard).values()
        size = sum(tensor.read().nbytes for tensor in tensors)
        assert size <= max_shard_bytes or len(tensors) == 1


def test_random_weights_say_so_wherever_they_go(tmp_path, params):
    save_encoder(tmp_path, WAVLM, params["wavlm"], random_weights=True, seed=7)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (written["random_weights"], written["seed"]) == (True, 7)
    encoder, _, report = read_encoder(str(tmp_path))
    assert encoder.random_weights
    assert report.random_weights
    assert "RANDOM WEIGHTS" in report_lines(report)[-1]


def test_trained_weights_say_nothing(folder):
    encoder, _, report = read_encoder(str(folder))
    assert not encoder.random_weights
    assert not any("RANDOM" in line for line in report_lines(report))
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert "random_weights" not in written
    assert "seed" not in written


def test_params_outlive_their_file(folder, params):
    _, found = load_encoder(str(folder))
    (folder / "model.safetensors").write_bytes(b"")
    check_equal(found, params["wavlm"])


def test_a_torch_archive_is_loaded(folder, params, torch_format):
    tensors = open_tensors(folder / "model.safetensors")
    arrays = {f"wavlm.{name}": tensor.read() for name, tensor in tensors.items()}
    arrays["lm_head.weight"] = np.zeros((4, 8), np.float16)
    (folder / "pytorch_model.bin").write_bytes(torch_format.save(arrays))
    (folder / "model.safetensors").unlink()
    _, found, report = read_encoder(str(folder))
    check_equal(found, params["wavlm"])
    assert report.format == "torch"
    assert report.dropped == {"lm_head.weight": "speech recognition head"}


# --- the report ---


def test_the_report_tells_what_became_of_each_tensor(folder):
    path = folder / "model.safetensors"
    tensors = {f"model.{n}": t.read() for n, t in open_tensors(path).items()}
    tensors = {name: np.array(array) for name, array in tensors.items()}
    del tensors["model.masked_spec_embed"]
    tensors["model.encoder.layer_norm.bias"] = np.zeros(8, np.float16)
    tensors |= {"lm_head.weight": np.zeros(3, "f"), "lm_head.bias": np.zeros(3, "f")}
    write_safetensors(path, tensors, {})
    (folder / "preprocessor_config.json").unlink()
    encoder, _, report = read_encoder(str(folder))
    assert report == pretrained.LoadReport(
        source=str(folder),
        files=(
            (str(folder / "config.json"), (folder / "config.json").stat().st_size),
            (str(path), path.stat().st_size),
        ),
        format="safetensors",
        config=WAVLM._replace(do_normalize=True),
        num_tensors=54,
        num_parameters=sum(a.size for n, a in tensors.items() if "lm_head" not in n),
        stored_dtypes={"float32": 53, "float16": 1},
        dropped=dict.fromkeys(
            ("lm_head.weight", "lm_head.bias"), "speech recognition head"
        ),
        missing=("masked_spec_embed",),
        renamed=("all names begin with 'model.'",),
        notes=("no preprocessor_config.json: clips are normalised, as is the rule",),
    )
    assert encoder.config["do_normalize"]
    lines = report_lines(report)
    assert lines[0] == f"encoder {folder}: wavlm, 2 layers of width 8"
    assert lines[1].startswith("  0.0 M parameters in 54 tensors, ")
    assert lines[2:] == [
        "  not used: 2 tensor(s), speech recognition head",
        "  not in the file: masked_spec_embed (serves training only), zeros instead",
        "  all names begin with 'model.'",
        "  no preprocessor_config.json: clips are normalised, as is the rule",
    ]


def test_the_processor_s_file_tells_whether_clips_are_normalised(folder):
    settings = {"feature_extractor": {"do_normalize": False}}
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps(settings), "utf-8")
    assert read_encoder(str(folder)).report.config.do_normalize is False


def test_an_encoder_in_the_hub_s_cache_is_loaded(tmp_path, folder, monkeypatch):
    commit = "89" * 20
    repository = tmp_path / "hub" / "models--a--b"
    (repository / "refs").mkdir(parents=True)
    (repository / "snapshots").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    folder.rename(repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    encoder, _, report = read_encoder("a/b")
    assert (encoder.name, encoder.revision) == ("a/b", commit)
    assert report_lines(report)[0].startswith(f"encoder a/b, revision {commit[:12]}: ")
    with pytest.raises(MachineError, match="HF_HUB_OFFLINE forbids"):
        load_encoder("a/b", revision="other")


# --- what is refused ---


def damage(folder, name, data):
    (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", b"{", r"config\.json: no valid JSON"),
        ("config.json", b"", r"config\.json: empty"),
        ("config.json", b"[]", r"config\.json holds no object"),
        ("config.json", b'{"model_type": "wavlmm"}', r"Did you mean 'wavlm'\?"),
        ("config.json", b'{"model_type": "wavlm"}', "of the wrong shape"),
        ("preprocessor_config.json", b'{"sampling_rate": 8000}', "expected 16000"),
        ("preprocessor_config.json", b"<html>", r"config\.json: no valid JSON"),
        ("model.safetensors", b"<html>not found</html>", "a web page"),
    ],
)
def test_a_damaged_file_is_named(folder, name, data, message):
    damage(folder, name, data)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(str(folder))
    assert str(folder) in str(caught.value)


def test_a_truncated_checkpoint_is_refused(folder):
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(InputError, match=r"model\.safetensors: .*: truncated"):
        load_encoder(str(folder))


def test_numbers_that_are_none_are_refused(folder):
    path = folder / "model.safetensors"
    tensors = {name: np.array(t.read()) for name, t in open_tensors(path).items()}
    tensors["encoder.layer_norm.bias"][3] = np.nan
    write_safetensors(path, tensors, {})
    message = r"model\.safetensors: encoder\.layer_norm\.bias: 1 of 8 numbers are NaN"
    with pytest.raises(InputError, match=message):
        load_encoder(str(folder))


# --- saving ---


def test_params_of_another_shape_are_not_saved(tmp_path, params):
    wider = WAVLM._replace(intermediate_size=13)
    with pytest.raises(InputError) as caught:
        save_encoder(tmp_path / "x", wider, params["wavlm"])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("6 parameter(s) do not fit the wavlm settings")
    assert lines[1] == (
        "  encoder/layers_0/feed_forward/intermediate_dense/bias: found (12,), "
        "expected (13,)"
    )
    with pytest.raises(InputError, match="found nothing, expected"):
        save_encoder(tmp_path / "x", WAVLM, {})
    assert not (tmp_path / "x").exists()


def test_an_encoder_that_is_there_is_replaced_whole(tmp_path, params):
    notes = tmp_path / "notes.txt"
    save_encoder(tmp_path, WAVLM, params["wavlm"], max_shard_bytes=1000)
    notes.write_text("mine", encoding="utf-8")
    hubert = CONFIGS["hubert"]
    save_encoder(tmp_path, hubert, params["hubert"])
    check_equal(load_encoder(str(tmp_path))[1], params["hubert"])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("config.json", "model.safetensors", "preprocessor_config.json", "notes.txt")
    }
    save_encoder(tmp_path, WAVLM, params["wavlm"], max_shard_bytes=1000)
    check_equal(load_encoder(str(tmp_path))[1], params["wavlm"])


def test_a_full_disk_leaves_what_is_there(folder, params, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, *_):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pretrained, "write_safetensors", full)
    with pytest.raises(MachineError, match=r"No space left.*Free some disk space"):
        save_encoder(folder, CONFIGS["hubert"], params["hubert"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_save_that_is_cut_off_leaves_no_encoder(folder, params, monkeypatch):
    replace = pathlib.Path.replace

    def cut_off(path, target):
        if path.name == "preprocessor_config.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(path, target)

    monkeypatch.setattr(pathlib.Path, "replace", cut_off)
    with pytest.raises(MachineError):
        save_encoder(folder, CONFIGS["hubert"], params["hubert"])
    with pytest.raises(InputError, match=r"no config\.json there"):
        load_encoder(str(folder))


def test_a_place_that_cannot_be_written_is_named(tmp_path, params):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(MachineError, match="file/x: the encoder could not be saved"):
        save_encoder(tmp_path / "file" / "x", WAVLM, params["wavlm"])
