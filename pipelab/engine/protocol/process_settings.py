"""Settings of a process that change numbers: a rank gets those that its parent has at the launch.

Ranks are forked from a server that has started with the parent. What the parent sets later,
PyTorch's global settings and environment variables, travels in ``Settings``. The number of threads
does not: ranks share the machine's cores (launch/processes.py).
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple

import torch


class Settings(NamedTuple):
    """``variables``: the environment. ``values``: by the names of ``TABLE``."""

    variables: dict[str, str]
    values: dict[str, Any]


class Row(NamedTuple):
    """One setting: its name, how it is read, and how it is set."""

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], object]


def _attribute(path: str) -> Row:
    """A setting that is an attribute somewhere in ``torch``."""
    place, name = path.rsplit(".", 1)
    owner = attrgetter(place)
    return Row(path, lambda: getattr(owner(torch), name), lambda v: setattr(owner(torch), name, v))


def _pair(name: str, getter: str, setter: str) -> Row:
    """A setting with a function of ``torch`` for each way; looked up when used: versions differ."""
    return Row(name, lambda: attrgetter(getter)(torch)(), lambda v: attrgetter(setter)(torch)(v))


def _flushes_denormals() -> bool:
    """Whether numbers too small for full precision become 0. PyTorch does not say: try it."""
    tiny = torch.tensor(2.0**-140, dtype=torch.float32, device="cpu")
    return (tiny * 1.0).item() == 0.0


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


TABLE = [
    # exactness
    _pair("default_dtype", "get_default_dtype", "set_default_dtype"),
    _pair("deterministic", "get_deterministic_debug_mode", "set_deterministic_debug_mode"),
    _attribute("utils.deterministic.fill_uninitialized_memory"),
    Row("flush_denormal", _flushes_denormals, torch.set_flush_denormal),
    Row("anomaly", _anomaly, lambda modes: torch.autograd.set_detect_anomaly(*modes)),
    _pair(
        "check_sparse_tensor_invariants",
        "_C._check_sparse_tensor_invariants",
        "_C._set_check_sparse_tensor_invariants",
    ),
    # precision of float32: the names before PyTorch 2.9, then those since
    _pair(
        "float32_matmul_precision", "get_float32_matmul_precision", "set_float32_matmul_precision"
    ),
    *map(
        _attribute,
        (
            "backends.cuda.matmul.allow_tf32",
            "backends.cudnn.allow_tf32",
            "backends.fp32_precision",
            "backends.cudnn.fp32_precision",
            "backends.cuda.matmul.fp32_precision",
            "backends.cudnn.conv.fp32_precision",
            "backends.cudnn.rnn.fp32_precision",
            "backends.mkldnn.fp32_precision",
            "backends.mkldnn.matmul.fp32_precision",
            "backends.mkldnn.conv.fp32_precision",
            "backends.mkldnn.rnn.fp32_precision",
            # which algorithms
            "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
            "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
            "backends.cuda.matmul.allow_fp16_accumulation",
            "backends.cudnn.enabled",
            "backends.cudnn.benchmark",
            "backends.cudnn.benchmark_limit",
            "backends.cudnn.deterministic",
            "backends.mkldnn.enabled",
            "backends.mkldnn.deterministic",
            "backends.opt_einsum.enabled",
            "backends.opt_einsum.strategy",
            "backends.quantized.engine",
        ),
    ),
    _pair("nnpack", "_C._get_nnpack_enabled", "_C._set_nnpack_enabled"),
    _pair(
        "cpu fp16 reduction",
        "_C._get_cpu_allow_fp16_reduced_precision_reduction",
        "_C._set_cpu_allow_fp16_reduced_precision_reduction",
    ),
    _pair("linalg", "_C._get_linalg_preferred_backend", "_C._set_linalg_preferred_backend"),
    _pair("blas", "_C._get_blas_preferred_backend", "_C._set_blas_preferred_backend"),
    # attention
    _pair("flash_sdp", "backends.cuda.flash_sdp_enabled", "backends.cuda.enable_flash_sdp"),
    _pair(
        "mem_efficient_sdp",
        "backends.cuda.mem_efficient_sdp_enabled",
        "backends.cuda.enable_mem_efficient_sdp",
    ),
    _pair("math_sdp", "backends.cuda.math_sdp_enabled", "backends.cuda.enable_math_sdp"),
    _pair("cudnn_sdp", "backends.cuda.cudnn_sdp_enabled", "backends.cuda.enable_cudnn_sdp"),
    _pair(
        "math_sdp fp16 reduction",
        "backends.cuda.fp16_bf16_reduction_math_sdp_allowed",
        "backends.cuda.allow_fp16_bf16_reduction_math_sdp",
    ),
    _pair("sdp priority", "_C._get_sdp_priority_order", "_C._set_sdp_priority_order"),
    _pair(
        "attention fast path",
        "backends.mha.get_fastpath_enabled",
        "backends.mha.set_fastpath_enabled",
    ),
]

_OF_COMPILED = ("torch._dynamo.config", "torch._inductor.config", "torch._functorch.config")
_PLAIN = (bool, int, float, str, type(None))


def current() -> Settings:
    """Those of this process, as they are now."""
    values = {row.name: value for row in TABLE for value in _value(row)}
    return Settings(dict(os.environ), values | dict(_of_compiled()))


def take_over(settings: Settings) -> None:
    """Set what differs in this process. It must be a rank's own: it gets the whole environment."""
    for name in os.environ.keys() - settings.variables.keys():
        del os.environ[name]
    os.environ.update(settings.variables)
    for row in TABLE:
        for value in _value(row):
            wanted = settings.values.get(row.name, value)
            if wanted != value:
                row.set(wanted)
    for name, changed in settings.values.items():
        if name in _OF_COMPILED:
            for key, value in changed.items():
                setattr(import_module(name), key, value)


def _value(row: Row) -> Iterator[Any]:
    """A setting's value; none if this PyTorch lacks it, or it was set by its newer name."""
    with suppress(AttributeError, RuntimeError):
        yield row.get()


def _of_compiled() -> Iterator[tuple[str, dict[str, Any]]]:
    """What was changed for ``torch.compile``, if it was loaded."""
    for name in _OF_COMPILED:
        if (config := sys.modules.get(name)) is not None:
            changed = [key for key in config._config if not config._is_default(key)]
            values = {key: getattr(config, key) for key in changed}
            if plain := {key: v for key, v in values.items() if isinstance(v, _PLAIN)}:
                yield name, plain
