"""The encoders as transformers has them in PyTorch, with the package's parameters."""

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from metaperser_jax.encoders.config import CLASS_NAMES, SpeechConfig, to_json
from metaperser_jax.encoders.convert import find_places, to_hugging_face


class Stages(NamedTuple):
    """What the parts of an encoder return for one clip."""

    front: torch.Tensor  # [frames, channels] of the convolutional front end
    projected: torch.Tensor  # [frames, width]
    positions: torch.Tensor  # [frames, width] what the positional convolution adds
    hidden: tuple[
        torch.Tensor, ...
    ]  # of [frames, width], the first layer's input first
    last: torch.Tensor  # [frames, width] after the final norm


def blank_model(config: SpeechConfig) -> torch.nn.Module:
    """Builds the model without memory for its parameters."""
    name = CLASS_NAMES[config.model_type]
    settings = getattr(transformers, f"{name}Config")(**to_json(config))
    with torch.device("meta"):  # nothing is drawn only to be replaced
        return getattr(transformers, f"{name}Model")(settings)


def make_model(
    config: SpeechConfig, params: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> torch.nn.Module:
    """Builds the model for inference; float32 parameters are shared, not copied."""
    model = blank_model(config)
    arrays = to_hugging_face(params, config)
    state = {
        key: torch.from_numpy(np.ascontiguousarray(a)) for key, a in arrays.items()
    }
    for key in model.state_dict():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
    model.load_state_dict(state, strict=True, assign=True)
    return model.to(dtype).eval()


def normalise(config: SpeechConfig, clip: np.ndarray) -> np.ndarray:
    """What the feature extractor makes of a clip: zero mean, unit variance."""
    wide = np.asarray(clip, np.float64)
    if config.do_normalize:
        wide = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)
    return wide


def encode(model: torch.nn.Module, clip: np.ndarray) -> Stages:
    """Runs one clip [samples], normalised, without padding."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def hook(module, inputs, output):
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    parts = {
        "front": model.feature_extractor,
        "projected": model.feature_projection,
        "positions": model.encoder.pos_conv_embed,
    }
    with contextlib.ExitStack() as stack:
        for name, part in parts.items():
            stack.callback(part.register_forward_hook(keep(name)).remove)
        inputs = torch.from_numpy(clip)[None].to(next(model.parameters()).dtype)
        output = model(inputs, output_hidden_states=True)
    return Stages(
        front=found["front"][0].T,
        projected=found["projected"][0],
        positions=found["positions"][0],
        hidden=tuple(states[0] for states in output.hidden_states),
        last=output.last_hidden_state[0],
    )


def encode_batch(
    model: torch.nn.Module, clips: np.ndarray, lengths: np.ndarray, masked: bool
) -> list[torch.Tensor]:
    """Runs a padded batch, with its mask or without.

    Returns:
      [batch, frames, width] of each hidden state, and of the last one after the norm.
    """
    inputs = torch.from_numpy(clips).to(next(model.parameters()).dtype)
    mask = torch.arange(clips.shape[1])[None] < torch.from_numpy(lengths)[:, None]
    given = {"attention_mask": mask.long()} if masked else {}
    output = model(inputs, **given, output_hidden_states=True)
    return [*output.hidden_states, output.last_hidden_state]


def gradients(model: torch.nn.Module, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns our path -> gradient in our layout, zero where there is none."""
    named = dict(model.named_parameters())
    found = {}
    for path, place in find_places(shapes).items():
        grad = named[place.name].grad if place.name in named else None
        if grad is None:
            found[path] = np.zeros(shapes[path].shape)
        else:
            found[path] = place.layout.read(grad.numpy())
    return found
