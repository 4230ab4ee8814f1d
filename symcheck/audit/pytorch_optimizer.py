"""The optimizers of the package ``pytorch_optimizer``, registered as ``pytorch_optimizer:NAME``.

The package is an extra (``audit``). Most of its optimizers are built as they are; the table says what the others need.
Gradients come from outside here, as everywhere in symcheck: a closure that one asks for returns a loss of one and
leaves the gradients as they are, and a Hessian diagonal that one asks for is the square of the gradient.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from symcheck.errors import UsageError
from symcheck.registry import OptimizerInfo
from symcheck.target import DEFAULT_LR

PACKAGE = "pytorch_optimizer"

NOT_RUNNABLE: Mapping[str, str] = MappingProxyType(
    {
        "lomo": "updates the weights during the backward pass of a loss; it has no step()",
        "adalomo": "updates the weights during the backward pass of a loss; it has no step()",
        "lorarite": "takes pairs of low-rank factors and leaves a single matrix alone",
    }
)
"""Optimizers that cannot be asked about one matrix with given gradients, and why."""

_Params = Sequence[torch.nn.Parameter]
_Maker = Callable[..., Any]


def version() -> str:
    """The installed version. Raises UsageError, one line, if there is none."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"{PACKAGE} is not installed: pip install 'symcheck[audit]'") from None


def optimizers() -> dict[str, OptimizerInfo]:
    """Every optimizer that can run, by the name the package gives it. Raises UsageError if it is not installed."""
    version()
    package: Any = importlib.import_module(PACKAGE)

    found = {}
    for name in package.get_supported_optimizers():
        if name not in NOT_RUNNABLE:
            make = _SPECIAL.get(name, _as_it_is)(package.load_optimizer(name))
            found[name] = OptimizerInfo(make=make, configs=_CONFIGS.get(name, {"default": {}}))
    return found


# -- what some of them need ------------------------------------------------------------------------------------------


def _as_it_is(cls: _Maker) -> _Maker:
    return cls


def _grouped(cls: _Maker, **entries: object) -> _Maker:
    """One parameter group with these entries."""

    def make(params: _Params, lr: float = DEFAULT_LR, **options: Any) -> Any:
        return cls([{"params": list(params), **entries}], lr=lr, **options)

    return make


def _of_a_model(cls: _Maker) -> _Maker:
    """The parameters as those of a model."""

    def make(params: _Params, lr: float = DEFAULT_LR, **options: Any) -> Any:
        return cls(torch.nn.ParameterList(params), lr=lr, **options)

    return make


def _in_low_rank(cls: _Maker) -> _Maker:
    """With ``rank``: a parameter group that is projected to that rank. Without it: as it comes, which is AdamW."""

    def make(params: _Params, lr: float = DEFAULT_LR, rank: int | None = None, **options: Any) -> Any:
        projection: dict[str, object] = {}
        if rank is not None:
            projection = {"rank": rank, "update_proj_gap": 2, "scale": 1.0, "projection_type": "std"}
        return cls([{"params": list(params), **projection}], lr=lr, **options)

    return make


def _one() -> float:
    return 1.0


def _closed(cls: type[torch.optim.Optimizer]) -> _Maker:
    """``step`` with a closure: the loss is one."""

    class Closed(cls):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            return super().step(_one if closure is None else closure)

    return functools.wraps(cls, updated=())(Closed)


def _with_hessian(cls: type[torch.optim.Optimizer]) -> _Maker:
    """``step`` with a Hessian diagonal: the squared gradients (Gauss and Newton's, of one sample)."""

    class WithHessian(cls):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None, hessian: Any = None) -> Any:
            if hessian is None:
                params = [p for group in self.param_groups for p in group["params"]]
                hessian = [torch.zeros_like(p) if p.grad is None else p.grad.square() for p in params]
            return super().step(closure, hessian=hessian)

    return functools.wraps(cls, updated=())(WithHessian)


def _alone(cls: _Maker, make: _Maker | None = None) -> _Maker:
    """Within a process group of one, where gathering is copying."""

    def gather(outputs: Sequence[torch.Tensor], tensor: torch.Tensor, **_: object) -> None:
        outputs[0].copy_(tensor)

    @functools.wraps(cls, updated=())
    def made(params: _Params, lr: float = DEFAULT_LR, **options: Any) -> Any:
        from torch import distributed
        from torch._C._distributed_c10d import HashStore

        if not distributed.is_initialized():
            distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        vars(sys.modules[cls.__module__])["all_gather"] = gather
        return (make or cls)(params, lr=lr, **options)

    return made


def _double(cls: _Maker) -> _Maker:
    """State in the precision of the parameters, where the default is float32 whatever they are."""

    def make(params: _Params, lr: float = DEFAULT_LR, **options: Any) -> Any:
        dtype = next(iter(params)).dtype
        return cls(params, lr=lr, momentum_dtype=dtype, fim_dtype=dtype, **options)

    return make


_MUONS = functools.partial(_grouped, use_muon=True)
_SPECIAL: Mapping[str, Callable[[Any], _Maker]] = {
    **dict.fromkeys(("adago", "adamuon", "muon", "muonclip", "normuon"), _MUONS),
    "distributedmuon": lambda cls: _alone(cls, _MUONS(cls)),
    "demo": _alone,
    **dict.fromkeys(("apollo", "fira", "galore"), _in_low_rank),
    "adammini": _of_a_model,
    **dict.fromkeys(("alig", "bsam", "lbfgs"), _closed),
    **dict.fromkeys(("adahessian", "sophiah"), _with_hessian),
    "fadam": _double,
}
_LOW_RANK: Mapping[str, Mapping[str, object]] = {"default": {}, "low rank": {"rank": 2}}
_CONFIGS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "alice": {"default": {}, "low rank": {"rank": 2, "leading_basis": 1}},
    **dict.fromkeys(("apollo", "fira", "galore"), _LOW_RANK),
    "bsam": {"default": {"num_data": 100}},
    "demo": {"default": {"compression_top_k": 2}},  # small matrices have no more than 32 entries to leave out
    "lbfgs": {"default": {"max_iter": 1}},  # more of them would see the same gradient again
    "ranger21": {"default": {"num_iterations": 100}},
    "sara": {"default": {"threshold": 2.0}},  # it trains the weights below the threshold
}
