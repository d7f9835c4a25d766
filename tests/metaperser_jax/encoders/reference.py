"""The encoders once more in NumPy and float64, one clip at a time: the oracle.

Written from the papers' equations for a single clip without padding, with plain loops
where they are bearable; parameters are the nested dicts of the package.
"""

import itertools
import math

import numpy as np
import scipy.special

ACTIVATIONS = {
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "relu": lambda x: np.maximum(x, 0.0),
}


def wide(tree):
    """The tree in float64."""
    if isinstance(tree, dict):
        return {name: wide(leaf) for name, leaf in tree.items()}
    return np.asarray(tree, np.float64)


def convolve(x, kernel, stride=1, groups=1):
    """[frames, channels], [taps, channels / groups, outputs] -> [.., outputs]."""
    taps, inputs, outputs = kernel.shape
    y = np.zeros(((len(x) - taps) // stride + 1, outputs))
    width = outputs // groups
    for n, tap, group in itertools.product(range(len(y)), range(taps), range(groups)):
        seen = x[n * stride + tap, group * inputs : (group + 1) * inputs]
        into = slice(group * width, (group + 1) * width)
        y[n, into] += seen @ kernel[tap][:, into]
    return y


def convolve_same(x, kernel, groups):
    """The convolution with zeros around; the last output of an even kernel dropped."""
    before = len(kernel) // 2
    padded = np.pad(x, ((before, len(kernel) - 1 - before), (0, 0)))
    return convolve(padded, kernel, groups=groups)


def norm(x, axis, params=None, eps=1e-5):
    """Zero mean, unit variance; then scale and bias."""
    normed = x - x.mean(axis, keepdims=True)
    normed = normed / np.sqrt(x.var(axis, keepdims=True) + eps)
    return normed if params is None else normed * params["scale"] + params["bias"]


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


def front_end(config, params, x):
    """[samples] -> [frames, channels]."""
    x = x[:, None]
    activate = ACTIVATIONS[config.feat_extract_activation]
    for i, stride in enumerate(config.conv_stride):
        layer = params[f"conv_layers_{i}"]
        x = convolve(x, layer["conv"]["kernel"], stride)
        x = x + (layer["conv"]["bias"] if config.conv_bias else 0.0)
        if config.feat_extract_norm == "layer":
            x = norm(x, 1, layer["layer_norm"])
        elif i == 0:
            x = norm(x, 0, layer["layer_norm"])  # each channel over time
        x = activate(x)
    return x


def project(config, params, x):
    """[frames, channels] -> [frames, width]."""
    if config.feat_proj_layer_norm:
        x = norm(x, 1, params["layer_norm"], config.layer_norm_eps)
    return linear(params["projection"], x)


def positions(config, params, x):
    """What is added to [frames, width]."""
    if config.model_type != "data2vec-audio":
        return _position_layer(config, params, x)
    for i in range(config.num_conv_pos_embeddings):
        x = _position_layer(config, params[f"layers_{i}"], x)
    return x


def _position_layer(config, params, x):
    if config.conv_pos_batch_norm:
        stored = params["batch_norm"]
        x = (x - stored["mean"]) / np.sqrt(stored["var"] + 1e-5)
        x = x * stored["scale"] + stored["bias"]
    kernel = params["conv"]["kernel"]
    if "scale" in params["conv"]:  # weight norm over all but the taps
        sizes = np.sqrt(np.square(kernel).sum(axis=(1, 2)))
        kernel = kernel * (params["conv"]["scale"] / sizes)[:, None, None]
    x = convolve_same(x, kernel, config.num_conv_pos_embedding_groups)
    x = x + params["conv"]["bias"]
    if config.model_type == "data2vec-audio":
        x = norm(x, 1)
    return ACTIVATIONS[config.feat_extract_activation](x)


def bucket(offset, num_buckets, max_distance):
    """T5's bucket of a key's position minus a query's (Raffel et al., 2020)."""
    half = num_buckets // 2
    exact = half // 2
    distance = abs(offset)
    if distance >= exact:
        share = math.log(distance / exact) / math.log(max_distance / exact)
        distance = min(exact + int(share * (half - exact)), half - 1)
    return distance + (half if offset > 0 else 0)


def position_bias(config, table, frames):
    """[buckets, heads] -> [heads, frames, frames]."""
    bias = np.empty((config.num_attention_heads, frames, frames))
    for query, key in itertools.product(range(frames), repeat=2):
        index = bucket(key - query, config.num_buckets, config.max_bucket_distance)
        bias[:, query, key] = table[index]
    return bias


def gate(params, head, x):
    """WavLM's gate of one head for [frames, head width], equations 3 and 4."""
    logits = linear(params["gru_rel_pos_linear"], x).reshape(-1, 2, 4).sum(2)
    update, reset = scipy.special.expit(logits).T
    return update * (reset * params["gru_rel_pos_const"][head] - 1.0) + 2.0


def attend(config, params, x, bias=None, valid=None):
    """[frames, width], the bias before the gates; `valid` keys, all if None."""
    query, key, value = (linear(params[f"{name}_proj"], x) for name in "qkv")
    width = x.shape[1] // config.num_attention_heads
    mixed = np.empty(x.shape)
    for head in range(config.num_attention_heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:valid, part].T / math.sqrt(width)
        if bias is not None:
            gates = gate(params, head, x[:, part])
            scores = scores + gates[:, None] * bias[head, :, :valid]
        mixed[:, part] = scipy.special.softmax(scores, axis=1) @ value[:valid, part]
    return linear(params["out_proj"], mixed)


def layer(config, params, x, bias):
    """[frames, width] -> the same shape."""
    eps = config.layer_norm_eps

    def feed(x):
        units = linear(params["feed_forward"]["intermediate_dense"], x)
        units = ACTIVATIONS[config.hidden_act](units)
        return linear(params["feed_forward"]["output_dense"], units)

    first, last = params["layer_norm"], params["final_layer_norm"]
    if not config.do_stable_layer_norm:
        x = norm(x + attend(config, params["attention"], x, bias), 1, first, eps)
        return norm(x + feed(x), 1, last, eps)
    x = x + attend(config, params["attention"], norm(x, 1, first, eps), bias)
    x = x + feed(norm(x, 1, last, eps))
    if config.adapter_attn_dim:
        adapter = params["adapter_layer"]
        units = linear(adapter["linear_1"], norm(x, 1, adapter["norm"]))
        x = x + linear(adapter["linear_2"], np.maximum(units, 0.0))
    return x


def encode(config, params, clip):
    """[samples] -> every stage by name; 'hidden' is [layers + 1, frames, width]."""
    params, clip = wide(params), np.asarray(clip, np.float64)
    if config.do_normalize:
        clip = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
    stages = {"front": front_end(config, params["feature_extractor"], clip)}
    x = project(config, params["feature_projection"], stages["front"])
    stages["projected"] = x
    encoder, eps = params["encoder"], config.layer_norm_eps
    stages["positions"] = positions(config, encoder["pos_conv_embed"], x)
    x = x + stages["positions"]
    if not config.do_stable_layer_norm:
        x = norm(x, 1, encoder["layer_norm"], eps)
    bias = None
    if config.model_type == "wavlm":
        table = encoder["layers_0"]["attention"]["rel_attn_embed"]["embedding"]
        bias = position_bias(config, table, len(x))
    hidden = [x]
    for i in range(config.num_hidden_layers):
        hidden.append(layer(config, encoder[f"layers_{i}"], hidden[-1], bias))
    last = hidden[-1]
    if config.do_stable_layer_norm:
        last = norm(last, 1, encoder["layer_norm"], eps)
    return {**stages, "hidden": np.stack(hidden), "last": last}
