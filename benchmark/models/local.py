"""Audio language models of transformers that run in this process.

PyTorch is not part of the installation; transformers says whether it is there. The
processor's chat template lays out recordings and text, decoding is greedy.
"""

import importlib.util
from typing import Any

from benchmark.errors import InputError
from benchmark.models.base import (
    Model,
    ModelSettings,
    load_waveform,
    predict,
)
from benchmark.typing import Example, Prediction

_EXTRA = "models"
_DEFAULT_RATE = 16_000  # Hz, where the processor does not say


def make_transformers(spec: str, settings: ModelSettings) -> Model:
    """Returns an audio language model by its id on the hub, or its folder.

    Raises:
      InputError: PyTorch is not installed, or there is no such model.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"transformers:{spec}: needs PyTorch, which is not installed: "
            f"pip install 'metaperser-jax[{_EXTRA}]', or serve the model behind an "
            "OpenAI-compatible endpoint and name it by openai:URL#MODEL"
        )
    import transformers

    try:
        processor = transformers.AutoProcessor.from_pretrained(spec)
        network = transformers.AutoModelForMultimodalLM.from_pretrained(spec)
    except (OSError, ValueError) as error:
        message = f"transformers:{spec}: cannot be loaded as an audio language model"
        raise InputError(f"{message} ({error})") from error
    return wrap(settings.name or spec, processor, network, settings)


def wrap(name: str, processor: Any, network: Any, settings: ModelSettings) -> Model:
    """Returns a model around a processor and a network that generates.

    Args:
      name: of the model in predictions.
      processor: has `apply_chat_template` and `batch_decode`.
      network: has `generate`; its answer begins with the prompt's tokens.
      settings: limit of tokens, problems.
    """
    extractor = getattr(processor, "feature_extractor", None)
    rate = int(getattr(extractor, "sampling_rate", _DEFAULT_RATE))

    def answer(example: Example) -> Prediction:
        waveforms = [load_waveform(a, settings.problems, rate) for a in example.audios]
        content = [{"type": "audio", "audio": waveform} for waveform in waveforms]
        texts = [text for text in (example.instruction, *example.texts) if text]
        content += [{"type": "text", "text": text} for text in texts]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(network.device, dtype=network.dtype)
        tokens = network.generate(
            **inputs, do_sample=False, max_new_tokens=settings.max_tokens
        )
        new_tokens = tokens[:, inputs["input_ids"].shape[1] :]
        text = processor.batch_decode(new_tokens, skip_special_tokens=True)[0]
        return predict(name, example, text.strip())

    info = {"kind": "transformers", "max_tokens": settings.max_tokens, "rate": rate}
    return Model(name, answer, info=info)
