"""Where the paper's public code departs from its description, with evidence that is computed and not remembered.

Every check runs what the code relies on (transformers) on models of two layers, in seconds, and says whether the
departure is there in the versions at hand. The queue stores the answers beside the runs; the report prints them.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional

from paper_repro.models import FAMILIES, build, tiny

SCHEMA = "paper_repro.departures/1"
FILE = "departures.json"


@dataclass(frozen=True)
class Departure:
    """One departure: what the description says, what the code does, which switch of ours follows it, and evidence.

    ``holds`` says whether the check found it; ``evidence`` is one line per model, with numbers.
    """

    title: str
    described: str
    actual: str
    switch: str
    evidence: tuple[str, ...]
    holds: bool


def departures() -> dict[str, Any]:
    """All checks, as plain data with the versions that they ran on. Needs transformers."""
    library = importlib.import_module("transformers")
    found = (second_shift(), ignored_dtype(library), hidden_yarn(library), divided_scale())
    return {
        "schema": SCHEMA,
        "versions": {"torch": torch.__version__.partition("+")[0], "transformers": library.__version__},
        "departures": [asdict(each) for each in found],
    }


def second_shift() -> Departure:
    """The loader's labels are shifted by one already, and the loss inside the model shifts them again."""
    lines, holds = [], True
    for family in FAMILIES:
        model = tiny(family)
        tokens = torch.randint(40, (2, 17), generator=torch.Generator().manual_seed(0))
        inputs, labels = tokens[:, :-1], tokens[:, 1:]  # what the loader yields
        with torch.no_grad():
            output = model(input_ids=inputs, labels=labels)
        inside, logits = float(output.loss), output.logits
        after_next = _cross_entropy(logits[:, :-1], tokens[:, 2:])
        following = _cross_entropy(logits, tokens[:, 1:])
        # The model rounds its logits to float32 before its loss, so every term is off by their size times eps at most,
        # once for the logit of the target and once for the logsumexp.
        rounding = 2 * torch.finfo(torch.float32).eps * float(logits.abs().max())
        holds = holds and abs(inside - after_next) <= rounding < abs(inside - following)
        lines.append(f"{family}: loss {inside:.6f}; token after the next {after_next:.6f}; next token {following:.6f}")
    return Departure(
        "Target offset",
        described="next-token prediction",
        actual="predicts the token after the next: the loader shifts the labels by one, and the model's loss again",
        switch="target_offset = 2 (the paper's code, default) or 1 (the next token)",
        evidence=tuple(lines),
        holds=holds,
    )


def ignored_dtype(library: Any) -> Departure:
    """A model class ignores the dtype of its configuration; the auto class does not."""
    config = build("qwen3", **_SMALL).config
    config.dtype = torch.bfloat16
    direct = next(library.Qwen3ForCausalLM(config).parameters()).dtype
    auto = next(library.AutoModelForCausalLM.from_config(config).parameters()).dtype
    return Departure(
        "Precision",
        described="`torch_dtype` of the configuration",
        actual="float32 parameters and TF32 products: `Model(config)` ignores `torch_dtype`, and the scripts use it",
        switch="precision = tf32 (the paper's code) or bf16_autocast, always with float32 parameters",
        evidence=(
            f"Qwen3ForCausalLM(config with bfloat16): {_name(direct)} parameters",
            f"AutoModelForCausalLM.from_config(the same): {_name(auto)} parameters",
        ),
        holds=direct == torch.float32 and auto == torch.bfloat16,
    )


def hidden_yarn(library: Any) -> Departure:
    """gpt-oss without rope scaling still scales."""
    config = library.GptOssConfig(rope_scaling=None, num_hidden_layers=1, **_SMALL, head_dim=8)
    rotary = importlib.import_module("transformers.models.gpt_oss.modeling_gpt_oss").GptOssRotaryEmbedding(config)
    theta = float(config.rope_parameters["rope_theta"])
    plain = theta ** -(torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    slowest = float(plain[-1] / rotary.inv_freq.double()[-1])
    scaling = float(rotary.attention_scaling)
    parameters = config.rope_parameters
    return Departure(
        "Positions of gpt-oss",
        described="`rope_scaling=None`",
        actual="YaRN by a factor of 32: in transformers 5, None leaves the configuration's default in place",
        switch="the gpt-oss presets pin YaRN's parameters; a test holds them",
        evidence=(
            f"rope_parameters: type {parameters['rope_type']}, factor {parameters.get('factor')}",
            f"slowest rotation {slowest:.3g} times slower than without, attention scaled by {scaling:.4f}",
        ),
        holds=parameters["rope_type"] == "yarn" and slowest > 2,
    )


def divided_scale(rows: int = 256, columns: int = 16) -> Departure:
    """The hybrid rule's scale is taken after the orthogonaliser has divided its argument by its norm, in place.

    The library that the code calls is not needed here: what it does to its argument is two lines.
    """
    momentum = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    direction = momentum / momentum.norm(dim=1, keepdim=True)
    u, _, vh = torch.linalg.svd(direction, full_matrices=False)
    polar = u @ vh
    formula = float((direction * polar).sum())
    argument = direction.to(torch.float32)  # float32 already: no copy, so the next line writes into `direction`
    argument /= argument.norm()
    as_run = float((direction * polar).sum())
    # Both are sums of the same products; every product and every partial sum is rounded once.
    rounding = rows * columns * torch.finfo(torch.float32).eps
    return Departure(
        "Scale of the hybrid rule",
        described="the polar factor of the row-normalised momentum D, times its nuclear norm",
        actual="times the nuclear norm of D / ||D||, smaller by the square root of the number of rows: the Gram "
        "Newton-Schulz library normalises its argument in place, and the scale is taken after that",
        switch="rules follow the formula, and learning rates are divided by the root of the rows, so that they are in "
        "the units of the code",
        evidence=(
            f"scale of a {rows} x {columns} matrix: {formula:.3f} by the formula, {as_run:.3f} after the division; "
            f"ratio {formula / as_run:.3f}, root of the rows {math.sqrt(rows):.3f}",
        ),
        holds=abs(formula / as_run / math.sqrt(rows) - 1) <= rounding,
    )


_SMALL: Mapping[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> float:
    return float(functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
