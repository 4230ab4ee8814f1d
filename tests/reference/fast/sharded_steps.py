"""Run by `test_sharding` once per rank: steps sharded and whole parameters side by side and writes what it measured.

    python sharded_steps.py RANK WORLD RENDEZVOUS_FILE REPORT

Rank 0 writes REPORT, a JSON object from case to ``{"error": largest difference, "calls": collectives, "way": ...}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from reference import RULES, Rule, build_stack, get_rule
from reference.fast.execution import Execution
from reference.fast.optimizers import OPTIMIZERS
from reference.fast.sharding import reduces, way
from reference.optimizers import hyper_parameters
from reference.variants import VARIANTS

STEPS = 2
COUNT = 3
DOUBLE = Execution("float64")


def chosen() -> dict[str, Rule]:
    """The default of every rule, and the variants that are not dealt out on some axis."""
    return {
        name: rule
        for name, rule in VARIANTS.items()
        if name in RULES or any(way(rule, [Shard(axis)], 2) != "dealt" for axis in (0, 1))
    }


def shape_of(rule: Rule) -> tuple[int, ...]:
    """Axes that two ranks share unevenly; evenly where the rule wants that, or the cost of its sums depends on it.

    Square for rules that want simple spectra: the Gram matrices of others begin with a null space, whose basis hangs on
    the last bit.
    """
    fields = hyper_parameters(rule)
    even = fields.get("heads", 1) > 1 or "pair" in str(fields.get("orientation")) or reduces(rule)
    matrix = (7, 7) if rule.side_conditions else (8, 6) if even else (7, 5)
    return (3, *matrix) if rule.min_ndim == 3 else matrix


def compare(
    rule: Rule,
    shape: tuple[int, ...],
    mesh: DeviceMesh,
    placements: Sequence[Placement],
    grads_at: Sequence[Placement],
    execution: Execution = DOUBLE,
    count: int = COUNT,
) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(0)
    whole = [nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64)) for _ in range(count)]
    parts = [nn.Parameter(distribute_tensor(each.detach().clone(), mesh, placements)) for each in whole]
    make = OPTIMIZERS[rule.name]
    optimizers = [make(params, precision=execution, **hyper_parameters(rule)) for params in (whole, parts)]
    calls: dict[str, int] = {}
    for step in range(STEPS):
        for a, b in zip(whole, parts, strict=True):
            a.grad = torch.randn(shape, generator=rng, dtype=torch.float64)
            b.grad = distributed(a.grad, mesh, grads_at)
        torch.manual_seed(step)  # for states that start at random
        optimizers[0].step()
        torch.manual_seed(step + dist.get_rank())
        with CommDebugMode() as communicated:
            optimizers[1].step()
        if step:  # the first also deals out the initial state
            calls = {str(name): count for name, count in communicated.get_comm_counts().items()}
    errors = [difference(a, b) for a, b in zip(whole, parts, strict=True)]
    for a, b in zip(whole, parts, strict=True):
        expected, got = (optimizer.state[each] for optimizer, each in zip(optimizers, (a, b), strict=True))
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            if isinstance(value, Tensor):
                assert isinstance(got[key], DTensor)
                assert got[key].shape == value.shape
                errors.append(difference(value, got[key]))
            else:
                assert got[key] == value
    return {"error": max(errors), "calls": calls, "way": way(rule, placements, len(shape))}


def distributed(value: Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> DTensor:
    """``value`` as a DTensor; for Partial placements, a share of one over the ranks on each."""
    if any(isinstance(place, Partial) for place in placements):
        return DTensor.from_local(value / mesh.size(), mesh, placements, run_check=False)
    return distribute_tensor(value.clone(), mesh, placements)


def difference(whole: Tensor, part: Tensor) -> float:
    assert isinstance(part, DTensor)
    assert part.to_local().numel() < max(2, whole.numel()) or any(isinstance(p, Replicate) for p in part.placements)
    return float((whole.detach() - part.detach().full_tensor()).abs().max())


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up_proj = nn.Linear(6, 10, bias=False)
        self.down_proj = nn.Linear(10, 6, bias=False)
        self.norm = nn.RMSNorm(6)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.lm_head = nn.Linear(6, 9, bias=False)


def model(mesh: DeviceMesh | None = None) -> nn.Module:
    torch.manual_seed(0)
    made = Model().double()
    if mesh is not None:
        for layer in made.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(made, mesh=mesh)
    return made


def give_gradients(models: Sequence[nn.Module], seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for parameters in zip(*(each.parameters() for each in models), strict=True):
        grad = torch.randn(parameters[0].shape, generator=rng, dtype=torch.float64)
        for each in parameters:
            each.grad = (
                distributed(grad, each.device_mesh, each.placements) if isinstance(each, DTensor) else grad.clone()
            )


def fsdp(mesh: DeviceMesh) -> dict[str, Any]:
    """Three steps of an FSDP2 model against the whole one; then a checkpoint, and both go on."""
    whole, parts = model(), model(mesh)
    optimizers = [build_stack(each, precision="float64") for each in (whole, parts)]
    for step in range(3):
        give_gradients([whole, parts], step)
        for optimizer in optimizers:
            optimizer.step()
    errors = [difference(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)]
    resumed = model(mesh)
    resumed.load_state_dict(parts.state_dict())
    again = build_stack(resumed, precision="float64")
    again.load_state_dict(optimizers[1].state_dict())
    give_gradients([parts, resumed], 9)
    optimizers[1].step()
    again.step()
    same = all(
        torch.equal(a.to_local(), b.to_local()) for a, b in zip(parts.parameters(), resumed.parameters(), strict=True)
    )
    return {"error": max(errors) if same else float("inf"), "calls": {}, "way": "mixed"}


def cases(world: int) -> dict[str, dict[str, Any]]:
    line = init_device_mesh("cpu", (world,))
    report = {}
    for name, rule in chosen().items():
        shape = shape_of(rule)
        for axis in range(len(shape)):
            if axis and name != "muon" and way(rule, [Shard(axis)], len(shape)) == "dealt":
                continue  # dealt out like the first axis, and the rule sees no difference
            report[f"{name} Shard({axis})"] = compare(rule, shape, line, [Shard(axis)], [Shard(axis)])
    muon, row = get_rule("muon"), get_rule("row_norm")
    report["muon Replicate"] = compare(muon, (6, 4), line, [Replicate()], [Replicate()])
    report["muon unreduced"] = compare(muon, (6, 4), line, [Shard(0)], [Partial()])
    report["muon other axis"] = compare(muon, (6, 4), line, [Shard(0)], [Shard(1)])
    centred = get_rule("row_norm", center_rows=True)
    report["row_norm/centred uneven"] = compare(centred, (7, 5), line, [Shard(0)], [Shard(0)])
    report["row_norm unreduced"] = compare(row, (6, 4), line, [Shard(0)], [Partial()])
    # The shards of 7 x 5 have 160 and 120 bytes: ranks that counted their own would disagree about the stacks.
    few = Execution("float64", stack_bytes=720)
    report["muon uneven stacks"] = compare(muon, (7, 5), line, [Shard(0)], [Shard(0)], few, 5)
    report["lion in pieces"] = compare(get_rule("lion"), (40, 5), line, [Shard(0)], [Shard(0)], few)
    report["adamw vector"] = compare(get_rule("adamw"), (5,), line, [Shard(0)], [Shard(0)])
    report["adagrad_norm vector"] = compare(get_rule("adagrad_norm"), (5,), line, [Shard(0)], [Shard(0)])
    report["lion convolution"] = compare(get_rule("lion"), (4, 2, 3, 3), line, [Shard(0)], [Shard(0)])
    for shape in ((world, 1), (1, world)):
        plane = init_device_mesh("cpu", shape)
        for placements in ([Replicate(), Shard(0)], [Shard(0), Shard(1)], [Shard(1), Replicate()]):
            report[f"muon mesh {shape} {placements}"] = compare(muon, (6, 4), plane, placements, placements)
    report["fsdp"] = fsdp(line)
    return report


def main() -> None:
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=world)
    report = cases(world)
    if rank == 0:
        Path(sys.argv[4]).write_text(json.dumps(report))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
