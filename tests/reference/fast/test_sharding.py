"""Sharded parameters: the tables of what is coupled are true, and a sharded step is the step of the whole weight."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import Partial, Replicate, Shard

from reference import Rule, State, get_rule
from reference.conditioning import magnification
from reference.fast.sharding import coupled_axes, reduces, way
from reference.optimizers import hyper_parameters
from reference.variants import VARIANTS

WORLD = 2
every_variant = pytest.mark.parametrize("rule", VARIANTS.values(), ids=VARIANTS.keys())


@every_variant
def test_an_uncoupled_axis_can_be_cut(rule: Rule) -> None:
    """Shards stepped apart are the shards of the whole step, to the last bit: no sum crosses the cut."""
    rng = torch.Generator().manual_seed(0)
    weight, *grads = (torch.randn((4, 8, 6), generator=rng, dtype=torch.float64) for _ in range(4))
    first = rule.init(weight)
    expected = steps(rule, weight, first, grads)
    for axis in {-1, -2, -3} - coupled_axes(rule):
        stepped = []
        for shard in range(2):
            state = {
                key: value.chunk(2, 0 if axis == -3 else axis)[shard] if isinstance(value, torch.Tensor) else value
                for key, value in first.items()
            }
            parts = [each.chunk(2, axis)[shard] for each in (weight, *grads)]
            stepped.append(steps(rule, parts[0], state, parts[1:]))
        for whole, parts in zip(expected, zip(*stepped, strict=True), strict=True):
            together = torch.cat(parts, axis)
            exactly = torch.equal(together, whole)
            # Kernels for batches of other sizes may sum in another order.
            assert exactly or (axis == -3 and torch.allclose(together, whole, rtol=0, atol=allowed(rule)))


def steps(rule: Rule, weight: torch.Tensor, state: State, grads: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    displacements = []
    for grad in grads:
        displacement, state = rule.update(grad, state, weight)
        weight = weight + displacement
        displacements.append(displacement)
    return displacements


def allowed(rule: Rule) -> float:
    """A few ``(m + n)`` roundings per step of displacements below 16, magnified by the rule's iteration."""
    return 16 * 8 * 3 * 14 * 2.0**-53 * magnification(rule)


def test_what_is_communicated() -> None:
    row, centred = get_rule("row_norm"), get_rule("row_norm", center_rows=True)
    assert way(row, [Shard(0)], 2) == "local"
    assert way(row, [Shard(1)], 2) == "reducing"
    assert way(centred, [Shard(0)], 2) == "reducing"
    assert way(get_rule("row_norm", orientation="col"), [Shard(1)], 2) == "local"
    assert way(get_rule("adamw"), [Shard(0), Shard(1)], 2) == "local"
    assert way(get_rule("adamw"), [Shard(0)], 1) == "local"
    assert way(get_rule("muon"), [Replicate()], 2) == "local"
    assert way(get_rule("muon"), [Shard(0)], 2) == "dealt"
    assert way(get_rule("expert_muon"), [Shard(0)], 3) == "local"
    assert way(get_rule("expert_muon"), [Shard(1)], 3) == "dealt"
    assert way(get_rule("expert_hybrid", shared_scale=True), [Shard(0)], 3) == "dealt"


def test_a_subclass_is_not_taken_for_its_base() -> None:
    class Global(type(get_rule("adamw"))):  # type: ignore[misc]
        pass

    class Banded(type(get_rule("row_norm"))):  # type: ignore[misc]
        pass

    assert coupled_axes(Global(lr=1.0)) == {-1, -2}
    assert coupled_axes(Banded(lr=1.0)) == {-1, -2}
    assert not reduces(Banded(lr=1.0))


@pytest.mark.parametrize(("place", "ndim"), [(Shard(1), 4), (Partial(), 2)])
def test_placements_that_are_not_supported(place: Any, ndim: int) -> None:
    from reference.fast.sharding import _matrix_axis

    with pytest.raises(ValueError, match=r"cannot be stepped; use Shard or Replicate, and Shard\(0\) for more"):
        _matrix_axis(place, ndim)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What two processes over gloo measured (`sharded_steps`)."""
    folder = tmp_path_factory.mktemp("sharded")
    script = Path(__file__).with_name("sharded_steps.py")
    arguments = [str(WORLD), str(folder / "rendezvous"), str(folder / "report.json")]
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), str(rank), *arguments], stderr=subprocess.PIPE, text=True
        )
        for rank in range(WORLD)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert (folder / "report.json").exists(), "\n".join(errors)
    return json.loads((folder / "report.json").read_text())


def test_a_sharded_step_is_the_whole_step(report: dict[str, dict[str, Any]]) -> None:
    assert len(report) > 60
    wrong = {}
    for case, measured in report.items():
        rule = VARIANTS.get(case.split()[0], get_rule("muon"))
        # Averages of squares, and what is random at first, are below 100 here.
        if not measured["error"] <= 100 * allowed(rule):
            wrong[case] = measured["error"]
    assert not wrong


def test_communication_is_what_the_way_says(report: dict[str, dict[str, Any]]) -> None:
    """Local: nothing. Reducing: sums only, for even shards. Dealt: on gloo an all-gather stands for the exchange."""
    seen = set()
    for case, measured in report.items():
        if case == "fsdp" or any(word in case for word in ("unreduced", "other axis", "mesh", "uneven")):
            continue  # something else is communicated first, or in other ways
        calls = {name.split(".")[-1] for name, count in measured["calls"].items() if count}
        seen.add(measured["way"])
        usual = {"local": set(), "reducing": {"all_reduce"}, "dealt": {"all_gather_into_tensor"}}[measured["way"]]
        # Sums along an axis that is not sharded cost nothing.
        assert calls == usual or (measured["way"] == "reducing" and not calls), case
    assert seen == {"local", "reducing", "dealt"}


def test_hyper_parameters_do_not_decide_alone() -> None:
    """Every variant has one of the three ways on each axis; the dealt ones are exactly those that are not listed."""
    for rule in VARIANTS.values():
        ways = {way(rule, [Shard(axis)], 3) for axis in range(3)}
        assert ways <= {"local", "reducing", "dealt"}
        if hasattr(rule, "orthogonalizer") and getattr(rule, "norm", "spectral") == "spectral":
            assert "dealt" in ways, hyper_parameters(rule)
