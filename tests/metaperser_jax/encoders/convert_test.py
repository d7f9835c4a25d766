"""Checkpoints there and back: every tensor once, and all faults in one message."""

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax import trees
from metaperser_jax.encoders import convert
from metaperser_jax.encoders.tensors import StoredTensor
from metaperser_jax.encoders.transformer import param_shapes
from metaperser_jax.errors import InputError
from tests.metaperser_jax.encoders.small import SMALL

CONFIGS = {
    "wav2vec2": SMALL,
    "wav2vec2-stable": SMALL._replace(
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        conv_bias=True,
        adapter_attn_dim=3,
    ),
    "hubert": SMALL._replace(model_type="hubert", feat_proj_layer_norm=False),
    "hubert-batch-norm": SMALL._replace(model_type="hubert", conv_pos_batch_norm=True),
    "wavlm": SMALL._replace(model_type="wavlm", num_buckets=8, max_bucket_distance=16),
    "data2vec-audio": SMALL._replace(
        model_type="data2vec-audio",
        feat_extract_norm="layer",
        num_conv_pos_embeddings=2,
        conv_pos_kernel_size=3,
    ),
}
SHAPES = {name: param_shapes(config) for name, config in CONFIGS.items()}
NORM = "encoder.pos_conv_embed.conv"


def draw(kind, seed=0):
    rng = np.random.default_rng(seed)
    return {
        path: rng.normal(size=shape.shape).astype(np.float32)
        for path, shape in SHAPES[kind].items()
    }


def nested(leaves):
    tree = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = leaf
    return tree


def write(kind, seed=0):
    return convert.to_hugging_face(nested(draw(kind, seed)), CONFIGS[kind])


def stored(arrays):
    return {
        name: StoredTensor(array.shape, array.dtype, None, lambda array=array: array)
        for name, array in arrays.items()
    }


def read(kind, arrays, dtype="float32"):
    tensors = stored(arrays)
    plan = convert.make_plan(tensors, SHAPES[kind], "a/b")
    return dict(convert.read_params(plan, tensors, dtype, "a/b")), plan


def check_equal(found, expected):
    assert set(found) == set(expected)
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


@pytest.mark.parametrize("kind", CONFIGS)
def test_parameters_come_back_as_they_went(kind):
    found, plan = read(kind, write(kind))
    check_equal(found, draw(kind))
    counter = "encoder.pos_conv_embed.batch_norm.num_batches_tracked"
    dropped = {counter: "counts training steps"} if "batch" in kind else {}
    assert (plan.missing, plan.dropped, plan.renamed) == ({}, dropped, ())
    for path, array in found.items():
        assert array.flags.c_contiguous
        assert array.flags.writeable, path


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(list(CONFIGS)),
    width=st.sampled_from([2, 130]),
    layers=st.sampled_from([1, 11]),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
)
def test_any_size_comes_back_as_it_went(kind, width, layers, dtype):
    config = CONFIGS[kind]._replace(hidden_size=width, num_hidden_layers=layers)
    shapes = param_shapes(config)
    rng = np.random.default_rng(0)
    params = {
        path: rng.normal(size=shape.shape).astype(convert.kernel_dtype(path, dtype))
        for path, shape in shapes.items()
    }
    tensors = stored(convert.to_hugging_face(nested(params), config))
    assert len(tensors) == len(params) + config.conv_pos_batch_norm
    plan = convert.make_plan(tensors, shapes, "x")
    check_equal(dict(convert.read_params(plan, tensors, dtype, "x")), params)


@pytest.mark.parametrize(
    ("kind", "path", "name", "axes"),
    [
        ("wav2vec2", "masked_spec_embed", "masked_spec_embed", (0,)),
        ("wav2vec2", "feature_extractor/conv_layers_1/conv/kernel",
         "feature_extractor.conv_layers.1.conv.weight", (2, 1, 0)),
        ("wav2vec2", "feature_extractor/conv_layers_0/layer_norm/scale",
         "feature_extractor.conv_layers.0.layer_norm.weight", (0,)),
        ("wav2vec2", "feature_projection/projection/kernel",
         "feature_projection.projection.weight", (1, 0)),
        ("wav2vec2", "encoder/layers_1/attention/q_proj/kernel",
         "encoder.layers.1.attention.q_proj.weight", (1, 0)),
        ("wav2vec2", "encoder/layers_1/feed_forward/output_dense/bias",
         "encoder.layers.1.feed_forward.output_dense.bias", (0,)),
        ("wav2vec2", "encoder/pos_conv_embed/conv/kernel",
         f"{NORM}.parametrizations.weight.original1", (2, 1, 0)),
        ("wav2vec2-stable", "encoder/layers_0/adapter_layer/linear_1/kernel",
         "encoder.layers.0.adapter_layer.linear_1.weight", (1, 0)),
        ("wav2vec2-stable", "encoder/layers_1/adapter_layer/norm/scale",
         "encoder.layers.1.adapter_layer.norm.weight", (0,)),
        ("hubert-batch-norm", "encoder/pos_conv_embed/conv/kernel",
         f"{NORM}.weight", (2, 1, 0)),
        ("hubert-batch-norm", "encoder/pos_conv_embed/batch_norm/var",
         "encoder.pos_conv_embed.batch_norm.running_var", (0,)),
        ("wavlm", "encoder/layers_0/attention/rel_attn_embed/embedding",
         "encoder.layers.0.attention.rel_attn_embed.weight", (0, 1)),
        ("wavlm", "encoder/layers_1/attention/gru_rel_pos_linear/kernel",
         "encoder.layers.1.attention.gru_rel_pos_linear.weight", (1, 0)),
        ("data2vec-audio", "encoder/pos_conv_embed/layers_1/conv/kernel",
         "encoder.pos_conv_embed.layers.1.conv.weight", (2, 1, 0)),
    ],
)  # fmt: skip
def test_names_and_axes_are_those_of_transformers(kind, path, name, axes):
    np.testing.assert_array_equal(write(kind)[name], draw(kind)[path].transpose(axes))


def test_vectors_that_transformers_keeps_with_more_axes():
    scale = write("wav2vec2")[f"{NORM}.parametrizations.weight.original0"]
    assert scale.shape == (1, 1, 5)
    np.testing.assert_array_equal(
        scale[0, 0], draw("wav2vec2")["encoder/pos_conv_embed/conv/scale"]
    )
    gates = write("wavlm")["encoder.layers.1.attention.gru_rel_pos_const"]
    assert gates.shape == (1, 2, 1, 1)


@pytest.mark.parametrize(
    "prefix",
    [
        *("wav2vec2.", "hubert.", "wavlm.", "data2vec_audio.", "model.", "module."),
        *("module.wav2vec2.", "model.hubert.", "module.model.wavlm."),
    ],
)
def test_prefixes_are_taken_off(prefix):
    arrays = {prefix + name: array for name, array in write("wavlm").items()}
    wrapper = "module." if prefix.startswith("module.") else ""
    arrays[f"{wrapper}lm_head.weight"] = np.zeros((32, 8), np.float32)
    found, plan = read("wavlm", arrays)
    check_equal(found, draw("wavlm"))
    assert plan.dropped == {f"{wrapper}lm_head.weight": "speech recognition head"}
    assert plan.renamed == (f"all names begin with {prefix!r}",)


DROPPED = [
    *("lm_head.bias", "projector.weight", "classifier.dense.weight", "layer_weights"),
    *("quantizer.codevectors", "project_q.weight", "project_hid.bias"),
    *("final_proj.weight", "label_embs_concat", "tdnn.0.kernel.weight"),
    *("feature_extractor.weight", "objective.weight", "wav2vec2.adapter.proj.weight"),
    "wav2vec2.adapter.layers.0.conv.weight",
    "wav2vec2.encoder.pos_conv_embed.batch_norm.num_batches_tracked",
]


def test_heads_are_dropped_and_told():
    arrays = {f"wav2vec2.{name}": a for name, a in write("wav2vec2").items()}
    arrays |= {name: np.zeros(3, np.int64) for name in DROPPED}
    found, plan = read("wav2vec2", arrays)
    check_equal(found, draw("wav2vec2"))
    assert set(plan.dropped) == set(DROPPED)
    assert all(plan.dropped.values())


def old_names(arrays):
    """Weight norm as it was spelt before torch 2."""
    renamed = {}
    for name, array in arrays.items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        renamed[name.replace("parametrizations.weight.original1", "weight_v")] = array
    return renamed


def test_the_old_spelling_of_weight_norm_is_read():
    found, plan = read("hubert", old_names(write("hubert")))
    check_equal(found, draw("hubert"))
    assert plan.renamed == (
        f"{NORM}.weight_g: spelt as before torch 2",
        f"{NORM}.weight_v: spelt as before torch 2",
    )


def test_a_fused_weight_norm_is_taken_apart():
    arrays = write("wavlm")
    g = arrays.pop(f"{NORM}.parametrizations.weight.original0")
    v = arrays.pop(f"{NORM}.parametrizations.weight.original1")
    fused = g * v / np.sqrt(np.square(v).sum(axis=(0, 1), keepdims=True))
    arrays[f"{NORM}.weight"] = fused
    found, plan = read("wavlm", arrays)
    kernel = found["encoder/pos_conv_embed/conv/kernel"]
    scale = found["encoder/pos_conv_embed/conv/scale"]
    size = np.sqrt(np.square(kernel).sum(axis=(1, 2), keepdims=True))
    again = kernel * scale[:, None, None] / size
    np.testing.assert_allclose(again, fused.transpose(2, 1, 0), rtol=1e-6)
    np.testing.assert_allclose(scale, np.abs(g[0, 0]), rtol=1e-6)
    assert len(plan.renamed) == 1


def test_a_missing_vector_for_masked_frames_is_zeros():
    arrays = write("hubert")
    del arrays["masked_spec_embed"]
    found, plan = read("hubert", arrays)
    assert plan.missing == {"masked_spec_embed": (8,)}
    np.testing.assert_array_equal(found["masked_spec_embed"], np.zeros(8))


def test_it_is_left_out_where_transformers_has_none():
    config = SMALL._replace(mask_time_prob=0.0, mask_feature_prob=0.0)
    params = nested(draw("wav2vec2"))
    assert "masked_spec_embed" not in convert.to_hugging_face(params, config)
    config = SMALL._replace(mask_time_prob=0.0, mask_feature_prob=0.1)
    assert "masked_spec_embed" in convert.to_hugging_face(params, config)


def refused(kind, arrays):
    with pytest.raises(InputError) as caught:
        read(kind, arrays)
    return str(caught.value)


def test_all_faults_come_in_one_message():
    arrays = old_names(write("wavlm"))
    arrays[f"{NORM}.parametrizations.weight.original0"] = np.zeros((1, 1, 5), "f")
    arrays[f"{NORM}.weight"] = np.zeros((8, 4, 5), "f")
    arrays["encoder.layers.9.attention.q_proj.weight"] = np.zeros((8, 8), "f")
    arrays["extra"] = np.zeros(1, "f")
    arrays["encoder.layer_norm.bias"] = np.zeros(9, "f")
    arrays["encoder.layer_norm.weight"] = np.zeros(8, np.int64)
    del arrays["encoder.layers.1.attention.k_proj.weight"]
    lines = refused("wavlm", arrays).splitlines()
    assert lines == [
        "a/b: the checkpoint does not fit its config.json.",
        "  1 tensor(s) missing:",
        "    encoder.layers.1.attention.k_proj.weight [8, 8]",
        "  2 tensor(s) there twice:",
        f"    {NORM}.weight_g and {NORM}.parametrizations.weight.original0 and "
        f"{NORM}.weight",
        f"    {NORM}.weight_v and {NORM}.weight",
        "  1 tensor(s) of the wrong shape:",
        "    encoder.layer_norm.bias [9], expected [8]",
        "  1 tensor(s) no floating-point numbers:",
        "    encoder.layer_norm.weight (int64)",
        "  2 tensor(s) unknown:",
        "    encoder.layers.9.attention.q_proj.weight",
        "    extra",
    ]


def test_ten_of_many_faults_are_named():
    arrays = write("wav2vec2")
    for i in range(25):
        arrays[f"extra{i:02}"] = np.zeros(1, "f")
    lines = refused("wav2vec2", arrays).splitlines()
    assert lines[1] == "  25 tensor(s) unknown:"
    assert lines[2:] == [*(f"    extra{i:02}" for i in range(10)), "    ..."]


@pytest.mark.parametrize(
    ("kind", "stored_kind", "names"),
    [
        ("wavlm", "hubert", ["missing", "gru_rel_pos_const", "feature_projection"]),
        ("hubert", "wavlm", ["unknown", "rel_attn_embed"]),
        ("wav2vec2", "wav2vec2-stable", ["unknown", "adapter_layer"]),
        ("wav2vec2", "hubert-batch-norm", ["unknown", "batch_norm.running_mean"]),
        ("hubert-batch-norm", "hubert", ["missing", "batch_norm", "original0"]),
        ("data2vec-audio", "wav2vec2", ["missing", "pos_conv_embed.layers.0.conv"]),
    ],
)
def test_a_relative_s_checkpoint_does_not_fit(kind, stored_kind, names):
    message = refused(kind, write(stored_kind))
    for name in names:
        assert name in message


def test_a_tensor_outside_the_prefix_is_unknown():
    arrays = {f"wav2vec2.{n}": a for n, a in write("wav2vec2").items()}
    arrays["encoder.layer_norm.weight"] = np.zeros(8, "f")
    message = refused("wav2vec2", arrays)
    assert "  1 tensor(s) unknown:\n    encoder.layer_norm.weight" in message


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bert.embeddings.word_embeddings.weight"], "holds bert.embeddings"),
        (["model.encoder.layer_norm.weight", *(f"model.conv{i}" for i in range(4))],
         "1 of 46 tensors are there by name"),
        (["encoder.layers.0.self_attn.k_proj.weight", "mask_emb"],
         "fairseq's names: take the one converted"),
        ([], "It holds no tensors"),
    ],
)  # fmt: skip
def test_another_architecture_is_told_as_such(names, message):
    found = refused("wav2vec2", {name: np.zeros(8, "f") for name in names})
    assert found.startswith("a/b: the checkpoint of another architecture")
    assert message in found


# --- numbers ---


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_stored_precision_is_read(dtype):
    arrays = {name: array.astype(dtype) for name, array in write("wavlm").items()}
    found, _ = read("wavlm", arrays)
    for path, array in draw("wavlm").items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(
            found[path], array.astype(dtype).astype(np.float32), err_msg=path
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["wavlm", "data2vec-audio"])
def test_only_the_kernels_of_products_are_kept_in_low_precision(kind, dtype):
    found, _ = read(kind, write(kind), dtype)
    low = {path for path, array in found.items() if array.dtype == dtype}
    rest = {path for path, array in found.items() if array.dtype == np.float32}
    assert low | rest == set(found)
    assert low == {
        path
        for path in SHAPES[kind]
        if path.endswith("kernel")
        and not any(
            part in path
            for part in ("pos_conv_embed", "conv_layers_0", "gru_rel_pos_linear")
        )
    }
    for path in low:
        np.testing.assert_array_equal(found[path], draw(kind)[path].astype(dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_numbers_that_are_none_are_named(value, dtype):
    arrays = write("wavlm")
    name = "encoder.layers.1.feed_forward.output_dense.weight"
    arrays[name] = arrays[name].astype(dtype)
    arrays[name][3, 5:7] = value
    message = refused("wavlm", arrays)
    assert message.startswith(f"a/b: {name}: 2 of 96 numbers are NaN or infinite.")


@pytest.mark.parametrize(
    ("name", "value", "dtype", "fits"),
    [
        ("encoder.layers.1.attention.q_proj.weight", 7e4, "float16", False),
        ("encoder.layers.1.attention.q_proj.weight", -7e4, "float16", False),
        ("encoder.layers.1.attention.q_proj.weight", 7e4, "bfloat16", True),
        ("encoder.layers.1.attention.q_proj.weight", 3.4e38, "bfloat16", False),
        ("encoder.layers.1.attention.q_proj.bias", 7e4, "float16", True),
        (f"{NORM}.bias", 1e300, "float32", False),
    ],
)
def test_a_number_too_big_for_the_precision_is_named(name, value, dtype, fits):
    arrays = write("wavlm")
    arrays[name] = arrays[name].astype(np.float64)
    arrays[name].flat[0] = value
    if fits:
        read("wavlm", arrays, dtype)
        return
    message = rf"a/b: {name}: its largest number, {abs(value):.3g}, is too big"
    with pytest.raises(InputError) as caught:
        read("wavlm", arrays, dtype)
    assert message in str(caught.value)


def test_each_parameter_has_one_place():
    for shapes in SHAPES.values():
        places = convert.find_places(shapes)
        assert set(places) == set(shapes)
        assert len({place.name for place in places.values()}) == len(shapes)
        for path, place in places.items():
            blank = np.zeros(place.shape, np.float32)
            assert place.layout.read(blank).shape == shapes[path].shape


def test_jax_s_arrays_are_written_like_numpy_s():
    params = nested(draw("wavlm"))
    on_device = jax.tree.map(jax.numpy.asarray, params)
    assert list(trees.flatten(on_device)) == sorted(trees.flatten(params))
    check_equal(
        convert.to_hugging_face(on_device, CONFIGS["wavlm"]),
        convert.to_hugging_face(params, CONFIGS["wavlm"]),
    )
