"""Checkpoints by torch.distributed.checkpoint: complete or absent, and exact, so that a resumed run is the same run.

A checkpoint is a folder ``step-<n>``: the model's tensors once, the optimizer's state of every parameter from the
process that owns it, and ``progress.json`` with everything else (numbers, which JSON keeps exactly). It appears by
renaming when all processes have written. A run may go on with another number of processes; on one device it goes on bit
for bit.
"""

from __future__ import annotations

import importlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.training.distributed import DividedOptimizer, Team

_STEP = "step-"

dcp: Any = importlib.import_module("torch.distributed.checkpoint")  # it does not declare what it exports


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    found = [path for path in folder.glob(f"{_STEP}*") if (path / "progress.json").exists()]
    return max(found, key=lambda path: int(path.name.removeprefix(_STEP)), default=None)


def save(
    folder: Path, step: int, model: nn.Module, divided: DividedOptimizer, progress: dict[str, Any], team: Team
) -> Path:
    """Writes ``folder/step-<step>`` and removes older checkpoints; every process must call it."""
    partial, final = folder / f"partial-{step}", folder / f"{_STEP}{step}"
    if team.leads:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    team.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the process group that a single process does not need
        dcp.save(_tensors(model, divided), checkpoint_id=partial, no_dist=team.size == 1)
    team.wait()
    if team.leads:
        (partial / "progress.json").write_text(json.dumps({"step": step, **progress}), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in folder.iterdir():
            if old != final:
                shutil.rmtree(old)
    team.wait()
    return final


def load(path: Path, model: nn.Module, divided: DividedOptimizer, team: Team) -> dict[str, Any]:
    """Restores model and optimizer from a checkpoint in place; returns its progress.

    Raises ValueError, one line, if it is of another model or optimizer.
    """
    stored = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {f"model/{name}": each.detach() for name, each in model.named_parameters()}
    mine = set(divided.owned)
    for key, each in stored.items():
        kind, name, *_ = key.split("/")
        if kind in ("state", "count") and name in mine:
            tensors[key] = torch.empty(each.size, dtype=each.properties.dtype, device=team.device)
    if missing := tensors.keys() - stored.keys():
        raise ValueError(f"{path}: no {min(missing)} in this checkpoint, which is of another model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(tensors, checkpoint_id=path, no_dist=team.size == 1)
    states: dict[str, dict[str, Any]] = {}
    for key, value in tensors.items():
        kind, name, *entry = key.split("/")
        if kind != "model":
            states.setdefault(name, {})[entry[0]] = int(value) if kind == "count" else value
    packed = divided.optimizer.state_dict()
    for group in packed["param_groups"]:
        for index, name in zip(group["params"], group["param_names"], strict=True):
            packed["state"][index] = states.get(name)
    divided.optimizer.load_state_dict(packed)
    progress: dict[str, Any] = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    return progress


def _tensors(model: nn.Module, divided: DividedOptimizer) -> dict[str, Tensor]:
    """Everything in the checkpoint that is a tensor: parameters, and the state of the parameters owned here."""
    found: dict[str, Tensor] = {f"model/{name}": each.detach() for name, each in model.named_parameters()}
    mine = set(divided.owned)
    for each in divided.optimizer.assignments:
        if each.route.name not in mine:
            continue
        for key, value in divided.optimizer.state[each.route.parameter].items():
            if isinstance(value, Tensor):
                found[f"state/{each.route.name}/{key}"] = value
            elif isinstance(value, int):
                found[f"count/{each.route.name}/{key}"] = torch.tensor(value)
            else:
                raise TypeError(
                    f"{each.route.name}: state {key!r} is a {type(value).__name__}, not a tensor or a count"
                )
    return found
