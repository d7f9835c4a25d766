"""Models behind one protocol: a function from an example to a prediction."""

from benchmark.models.base import Model, ModelSettings, NoAnswerError
from benchmark.models.specs import make_model

__all__ = ["Model", "ModelSettings", "NoAnswerError", "make_model"]
