"""What torch.save writes is read as torch reads it, without torch."""

import collections
import warnings

import numpy as np
import pytest
import torch

from metaperser_jax.encoders.tensors import open_tensors
from metaperser_jax.errors import InputError


def check_equal(path, expected):
    found = open_tensors(path)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        array = found[name].read()
        assert array.dtype.name == str(tensor.dtype).removeprefix("torch.")
        again = torch.from_numpy(array.astype(np.float64))
        assert torch.equal(again, tensor.detach().double()), name


def tensors():
    whole = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    return {
        "whole": whole,
        "shares its storage": whole[1],
        "transposed": whole.permute(2, 0, 1),
        "steps": whole[:, ::2, 1:4:2],
        "number": whole[2, 3, 4],
        "empty": whole[:0],
        "parameter": torch.nn.Parameter(torch.randn(2, 3)),
        **{
            str(dtype): torch.randn(3, 2).to(dtype)
            for dtype in (torch.float64, torch.float16, torch.bfloat16)
        },
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_state_dicts(tmp_path, protocol, kind):
    path = tmp_path / "pytorch_model.bin"
    saved = kind(tensors())
    torch.save(saved, path, pickle_protocol=protocol)
    check_equal(path, saved)


def test_a_module_s_own_state_dict(tmp_path):
    module = torch.nn.Sequential(
        torch.nn.Conv1d(2, 4, 3), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    )
    torch.nn.utils.parametrizations.weight_norm(module[0], dim=2)
    path = tmp_path / "pytorch_model.bin"
    for keep_vars in (False, True):
        torch.save(module.state_dict(keep_vars=keep_vars), path)
        check_equal(path, module.state_dict())
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, path)
    check_equal(path, module.state_dict())


def test_what_is_no_state_dict_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    negated = torch.zeros(2, dtype=torch.complex64).conj().imag
    for saved, message in (
        (torch.nn.Linear(2, 2), r"it asks for 'torch\.nn\.modules\.linear\.Linear'"),
        (torch.zeros(2), "it holds no dict of tensors"),
        ({"a": torch.zeros(2), "epoch": 3}, "its entry 'epoch' is no tensor"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, r"torch\.ComplexFloatStorage"),
        ({"a": torch.zeros(2).to_sparse()}, r"_rebuild_sparse_tensor"),
        ({"a": negated}, "more than a part of a storage"),
        ({"a": torch.zeros(2).expand(3, 2)}, "does not lie in its storage"),
    ):
        torch.save(saved, path)
        with pytest.raises(InputError, match=message):
            open_tensors(path)


def test_the_format_before_torch_1_6_is_told(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(tensors(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"torch's format before version 1\.6"):
        open_tensors(path)


def test_code_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    with warnings.catch_warnings():  # it is on its way out
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
        torch.jit.save(traced, path)
    with pytest.raises(InputError, match="no state dict of torch"):
        open_tensors(path)
