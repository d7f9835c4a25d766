"""Audio language models of transformers that run in this process.

PyTorch is not part of the installation; transformers says whether it is there. The
processor's chat template lays out recordings and text, decoding is greedy.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.errors import InputError, Problems
from benchmark.models.base import (
    Model,
    ModelSettings,
    NoAnswerError,
    load_waveform,
    predict,
)
from benchmark.typing import Example, Prediction

_EXTRA = "models"
_DEFAULT_RATE = 16_000  # Hz, where the processor does not say


def make_transformers(spec: str, settings: ModelSettings) -> Model:
    """Returns an audio language model by its id on the hub, or its folder.

    Raises:
      InputError: PyTorch is not installed, there is no such model, its files are
        damaged, or it has no chat template.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"transformers:{spec}: needs PyTorch, which is not installed: "
            f"pip install 'metaperser-jax[{_EXTRA}]', or serve the model behind an "
            "OpenAI-compatible endpoint and name it by openai:URL#MODEL"
        )
    processor, network = _load(spec)
    if not getattr(processor, "chat_template", None):
        raise InputError(
            f"transformers:{spec}: its processor has no chat template: name a model "
            "that was tuned to follow instructions"
        )
    return wrap(settings.name or spec, processor, network, settings)


def wrap(name: str, processor: Any, network: Any, settings: ModelSettings) -> Model:
    """Returns a model around a processor and a network that generates.

    Args:
      name: of the model in predictions.
      processor: has `apply_chat_template` and `batch_decode`.
      network: has `generate`.
      settings: limit of tokens, problems.
    """
    extractor = getattr(processor, "feature_extractor", None)
    rate = int(getattr(extractor, "sampling_rate", _DEFAULT_RATE))
    window = getattr(extractor, "n_samples", None)

    def answer(example: Example) -> Prediction:
        waveforms = [load_waveform(a, settings.problems, rate) for a in example.audios]
        _warn_of_long(waveforms, window, rate, example, settings.problems)
        content = [{"type": "audio", "audio": waveform} for waveform in waveforms]
        texts = [text for text in (example.instruction, *example.texts) if text]
        content += [{"type": "text", "text": text} for text in texts]
        try:
            text = _generate(processor, network, content, settings.max_tokens)
        except (RuntimeError, ValueError) as error:  # out of memory, marks of audio ...
            message = f"{type(error).__name__}: {error}"
            raise NoAnswerError("failed", message) from error
        return predict(name, example, text.strip())

    info = {"kind": "transformers", "max_tokens": settings.max_tokens, "rate": rate}
    return Model(name, answer, info=info)


def _load(spec: str) -> tuple[Any, Any]:
    """Returns processor and network, on a GPU where there is one."""
    import transformers
    from transformers.utils.import_utils import is_torch_cuda_available

    try:
        processor = transformers.AutoProcessor.from_pretrained(spec)
        network = transformers.AutoModelForMultimodalLM.from_pretrained(spec)
    except Exception as error:  # each damaged file makes the loaders raise another
        raise InputError(
            f"transformers:{spec}: cannot be loaded as an audio language model "
            f"({type(error).__name__}: {error})"
        ) from error
    return processor, network.to("cuda" if is_torch_cuda_available() else "cpu")


def _generate(
    processor: Any, network: Any, content: Sequence[dict[str, Any]], max_tokens: int
) -> str:
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(network.device, dtype=network.dtype)
    tokens = network.generate(**inputs, do_sample=False, max_new_tokens=max_tokens)
    prompt = inputs["input_ids"]
    length = prompt.shape[1]
    if tokens.shape[1] >= length and bool((tokens[:, :length] == prompt).all()):
        tokens = tokens[:, length:]  # others give the answer alone
    return processor.batch_decode(tokens, skip_special_tokens=True)[0]


def _warn_of_long(
    waveforms: Sequence[np.ndarray],
    window: int | None,
    rate: int,
    example: Example,
    problems: Problems | None,
) -> None:
    """Says what a processor with a window, such as Whisper's 30 s, may cut."""
    longest = max(map(len, waveforms), default=0)
    if problems is None or window is None or longest <= window:
        return
    problems.warning(
        "audio_over_window",
        f"{example.instance} {example.id}",
        f"{longest / rate:.1f} s, the processor's window holds {window / rate:g} s: "
        "the model may not hear the rest",
    )
