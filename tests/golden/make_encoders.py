"""Writes what PyTorch makes of the tiny encoders: python tests/golden/make_encoders.py

Needs torch (`make parity` installs it). PyTorch computes in float64, single clips
without padding; the files hold float32. Weights and clips are those of the formula in
encoder_cases.py, so that a second run on the same versions writes the same numbers.
"""

import json
import pathlib
import platform
import sys

import numpy as np
import torch
import transformers
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import encoder_cases as cases  # noqa: E402
import torch_encoders  # noqa: E402

from metaperser_jax.encoders.config import SpeechConfig  # noqa: E402
from metaperser_jax.encoders.transformer import param_shapes  # noqa: E402

FOLDER = HERE / "encoders"


def main() -> int:
    torch.manual_seed(0)
    FOLDER.mkdir(exist_ok=True)
    for name, config in cases.CASES.items():
        write(name, make_case(config))
    write("wavlm-buckets", make_buckets())
    return 0


def write(name: str, arrays: dict[str, np.ndarray]) -> None:
    path = FOLDER / f"{name}.npz"
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    np.savez_compressed(path, versions=np.array(json.dumps(versions)), **arrays)
    print(
        f"{path.relative_to(HERE)}: {len(arrays)} arrays, {path.stat().st_size} bytes"
    )


def make_case(config: SpeechConfig) -> dict[str, np.ndarray]:
    """Returns clips, stages of each, and gradients of `cases.GOLDEN`'s scalar."""
    shapes = param_shapes(config)
    model = torch_encoders.make_model(
        config, cases.make_params(shapes, cases.SEED), torch.float64
    )
    arrays, total = {}, torch.zeros((), dtype=torch.float64)
    for number, samples in enumerate(cases.LENGTHS):
        clip = cases.make_clip(number, samples)
        stages = torch_encoders.encode(model, torch_encoders.normalise(config, clip))
        hidden = torch.stack(stages.hidden)
        for states, direction in zip(
            (hidden, stages.last),
            cases.directions(number, hidden.shape),
            strict=True,
        ):
            total = total + (states * torch.from_numpy(direction)).sum()
        found = {**stages._asdict(), "hidden": hidden}
        arrays[f"clip_{number}"] = clip
        arrays |= {f"{stage}_{number}": as_float32(x) for stage, x in found.items()}
    total.backward()
    grads = torch_encoders.gradients(model, shapes)
    arrays |= {f"grad/{path}": grad.astype(np.float32) for path, grad in grads.items()}
    return {**arrays, "scalar": np.array(total.item())}


def as_float32(x: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy(), np.float32)


def make_buckets() -> dict[str, np.ndarray]:
    """Returns WavLM's buckets of relative positions, as its attention has them."""
    offsets = torch.arange(-4000, 4001)
    arrays = {"offsets": offsets.numpy().astype(np.int16)}
    for num_buckets, max_distance in cases.BUCKETS:
        attention = WavLMAttention(8, 2, 0.0, num_buckets, max_distance)
        buckets = attention._relative_positions_bucket(offsets)
        arrays[f"{num_buckets}_{max_distance}"] = buckets.numpy().astype(np.int16)
    return arrays


if __name__ == "__main__":
    sys.exit(main())
