"""Fused optimizer kernels, by the formulas that torch documents for the optimizers they belong to.

The steps are counted, and gradients unscaled, outside of them: ``grad_scale`` and ``found_inf`` are not in the
vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from symcheck.trace.builder import Builder, NotInVocabulary, Scalar, Sym
from symcheck.trace.lowering.operands import scaled, value
from symcheck.trace.lowering.table import Arguments, lowers

_Overwritten = dict[str, Sym]


def _each(
    builder: Builder, given: Arguments, step: Callable[[Builder, Arguments], _Overwritten]
) -> dict[str, list[Sym]]:
    """One tensor after the other; every argument that is a list has the tensors' length, or is empty."""
    if given.get("grad_scale") is not None or given.get("found_inf") is not None:
        raise NotInVocabulary("a gradient scaler")
    results: dict[str, list[Sym]] = {}
    for at in range(len(given["self"])):
        one = {
            key: (argument[at] if argument else None) if isinstance(argument, list | tuple) else argument
            for key, argument in given.items()
        }
        for key, new in step(builder, one).items():
            results.setdefault(key, []).append(new)
    return results


def _gradient(builder: Builder, one: Arguments) -> Sym:
    """The gradient to descend, with the L2 penalty."""
    weight, grad = one["self"], one["grads"]
    grad = builder.neg(grad) if one["maximize"] else grad
    return grad if one["weight_decay"] == 0 else builder.add(grad, scaled(builder, weight, one["weight_decay"]))


def _average(builder: Builder, old: Sym, new: Sym, beta: float) -> Sym:
    """``beta * old + (1 - beta) * new``."""
    return builder.add(builder.scale(old, beta), builder.scale(new, 1 - beta))


def _correction(builder: Builder, beta: float, steps: Sym) -> Sym:
    """``1 - beta ** steps``."""
    return builder.sub(builder.number(1), builder.map("pow", builder.number(beta), steps.with_dims(())))


def _descended(builder: Builder, weight: Sym, *factors: Sym | Scalar) -> Sym:
    """``weight`` minus the product of all ``factors``."""
    return builder.sub(weight, builder.mul(*(value(builder, factor) for factor in factors)), dtype=weight.dtype)


def _adam_step(builder: Builder, one: Arguments, *, decoupled: bool) -> _Overwritten:
    weight, lr = one["self"], one["lr"]
    if decoupled:
        grad = builder.neg(one["grads"]) if one["maximize"] else one["grads"]
        if one["weight_decay"] != 0:
            weight = _descended(builder, weight, lr, one["weight_decay"], weight)
    else:
        grad = _gradient(builder, one)
    first = _average(builder, one["exp_avgs"], grad, one["beta1"])
    second = _average(builder, one["exp_avg_sqs"], builder.mul(grad, grad), one["beta2"])
    new = {"exp_avgs": first, "exp_avg_sqs": second}
    if one["amsgrad"]:
        second = new["max_exp_avg_sqs"] = builder.map("maximum", one["max_exp_avg_sqs"], second)
    scale = builder.map("rsqrt", _correction(builder, one["beta2"], one["state_steps"]))
    root = builder.add(builder.mul(builder.map("sqrt", second), scale), builder.number(one["eps"]))
    unbias = builder.map("reciprocal", _correction(builder, one["beta1"], one["state_steps"]))
    return {**new, "self": _descended(builder, weight, lr, unbias, first, builder.map("reciprocal", root))}


@lowers("_fused_adam")
def _fused_adam(builder: Builder, given: Arguments) -> dict[str, list[Sym]]:
    return _each(builder, given, functools.partial(_adam_step, decoupled=False))


@lowers("_fused_adamw")
def _fused_adamw(builder: Builder, given: Arguments) -> dict[str, list[Sym]]:
    return _each(builder, given, functools.partial(_adam_step, decoupled=True))


def _sgd_step(builder: Builder, one: Arguments) -> _Overwritten:
    direction = _gradient(builder, one)
    new: _Overwritten = {}
    if one["momentum"] != 0:
        buffer = direction
        if not one["is_first_step"]:
            kept = builder.scale(one["momentum_buffer_list"], one["momentum"])
            buffer = builder.add(kept, builder.scale(direction, 1 - one["dampening"]))
        new["momentum_buffer_list"] = buffer
        ahead = builder.scale(buffer, one["momentum"])
        direction = builder.add(direction, ahead) if one["nesterov"] else buffer
    return {**new, "self": _descended(builder, one["self"], one["lr"], direction)}


@lowers("_fused_sgd")
def _fused_sgd(builder: Builder, given: Arguments) -> dict[str, list[Sym]]:
    return _each(builder, given, _sgd_step)


def _adagrad_step(builder: Builder, one: Arguments) -> _Overwritten:
    grad = _gradient(builder, one)
    total = builder.add(one["state_sums"], builder.mul(grad, grad))
    earlier = builder.sub(one["state_steps"].with_dims(()), builder.number(1))
    slowing = builder.add(builder.number(1), builder.scale(earlier, one["lr_decay"]))
    root = builder.add(builder.map("sqrt", total), builder.number(one["eps"]))
    factors = (one["lr"], builder.map("reciprocal", slowing), grad, builder.map("reciprocal", root))
    return {"state_sums": total, "self": _descended(builder, one["self"], *factors)}


@lowers("_fused_adagrad")
def _fused_adagrad(builder: Builder, given: Arguments) -> dict[str, list[Sym]]:
    return _each(builder, given, _adagrad_step)
