"""Before the first step, what symcheck says of every rule in the stack, on the block that it steps.

The questions go to a process of its own (symcheck forks, which a process with GPU threads must not), once per rule
configuration: answers are kept in a folder under a key of rule, block, question and version of the code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paper_repro.records import write_atomically
from reference.optimizers import hyper_parameters
from reference.rule import Rule
from reference.stack import LayerwiseOptimizer

BLOCKS: Mapping[str, str] = {
    "embedding": "embedding",
    "lm_head": "lm_head",
    "router": "router",
    "mlp_gate_up": "swiglu_gate",
    "mlp_down": "swiglu_down",
    "expert_gate_up": "experts",
    "expert_down": "experts",
    "attention_qkv": "attention_qkv",
    "attention_o": "attention_o",
}
"""Role of `reference.routing` -> block of `groups.BLOCKS`; gains, biases and sinks have no matrix symmetry."""

_DOWN = "(O(rows) x Perm(cols)) wr Perm(experts)"
"""What a stack of down projections ``[E, d, r]`` has to respect; ``[E, r, d]`` is the block's own orientation."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A rule configuration on a block; ``note`` says what the answer does not cover."""

    rule: str
    settings: Mapping[str, Any]
    block: str
    action: str | None = None
    note: str | None = None

    def key(self, version: str) -> str:
        """Equal for equal questions to the same code."""
        content = [self.rule, dict(self.settings), self.block, self.action, version]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def questions(optimizer: LayerwiseOptimizer) -> dict[str, Question]:
    """One question for every distinct (role, rule) of the stack, by role (numbered where a role has several)."""
    found: dict[str, Question] = {}
    for each in optimizer.assignments:
        if each.route.role not in BLOCKS:
            continue
        question = _question(each.route.role, each.rule)
        if question not in found.values():
            label = each.route.role
            found[label if label not in found else f"{label}_{sum(key.startswith(label) for key in found)}"] = question
    return found


def _question(role: str, rule: Rule) -> Question:
    """The symmetry depends on neither the rate, nor how much a weight decays, nor on the number of heads."""
    defaults = hyper_parameters(type(rule)())  # type: ignore[call-arg]  # every registered rule has a default rate
    settings = {key: value for key, value in hyper_parameters(rule).items() if value != defaults[key] and key != "lr"}
    if rule.weight_decay != defaults["weight_decay"]:
        settings["weight_decay"] = 0.1 if rule.weight_decay else 0.0
    if settings.get("heads", 1) > 1:
        settings["heads"] = 2
    action = note = None
    orientation = str(settings.get("orientation", "row"))
    if orientation.endswith("_pair"):
        del settings["orientation"]
        note = f"asked of one matrix [r, d]; stored pairs of gate and up ({orientation}) have no action of their own"
    elif role == "expert_down" and orientation == "col":
        action = _DOWN
    return Question(rule.name, settings, BLOCKS[role], action, note)


def certify_stack(optimizer: LayerwiseOptimizer, cache: Path, version: str) -> dict[str, Any]:
    """Verdicts by role: rule, settings, block, ``verdicts`` (property -> verdict and conditions) and a note if any.

    Never raises for what symcheck says; a question that it cannot answer has the verdict ``error`` and a message.
    """
    asked = questions(optimizer)
    known = {label: cache / f"{question.key(version)}.json" for label, question in asked.items()}
    new = {path.stem: asked[label] for label, path in known.items() if not path.exists()}
    failure = None
    if new:
        answers, failure = _ask(new)
        for key, verdicts in answers.items():
            write_atomically(cache / f"{key}.json", json.dumps(verdicts, sort_keys=True) + "\n")
    found: dict[str, Any] = {}
    for label, question in asked.items():
        path = known[label]
        verdicts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"error": failure}
        found[label] = {key: value for key, value in dataclasses.asdict(question).items() if value is not None}
        found[label]["verdicts"] = verdicts
    return found


def _ask(new: Mapping[str, Question]) -> tuple[dict[str, Any], str | None]:
    """Answers by key, and why there are none where there are none."""
    text = json.dumps({key: dataclasses.asdict(question) for key, question in new.items()}, default=repr)
    done = subprocess.run(
        [sys.executable, "-m", "paper_repro.training.certify"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # Ctrl-C is for the run, which stops when it can; an answer cut short is none
    )
    try:
        answers: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {}, (done.stderr.strip().splitlines() or [f"symcheck ended with code {done.returncode}"])[-1]
    return answers, None


def _answer(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the child process does: all questions in one report, so that symcheck's workers share them."""
    from groups import get_block
    from symcheck.run import Request, answer, resolve_one

    found: dict[str, Any] = {}
    batches: dict[tuple[str | None, bool], list[str]] = {}
    for key, each in asked.items():
        batches.setdefault((each["action"], get_block(each["block"]).action.shift), []).append(key)
    for (action, shift), keys in batches.items():
        targets = []
        for key in keys:
            settings = {name: tuple(v) if isinstance(v, list) else v for name, v in asked[key]["settings"].items()}
            (target,) = resolve_one(f"rule:{asked[key]['rule']}", settings)
            targets.append(dataclasses.replace(target, name=key, claim=None, blocks=(asked[key]["block"],)))
        properties = PROPERTIES if shift else PROPERTIES[:1]
        for result in answer(targets, Request(properties=properties, action=action, dtypes=("float64",))).results:
            verdict = {"verdict": str(result.verdict), "conditions": list(result.conditions)}
            found.setdefault(result.target, {})[result.property] = verdict
    return found


PROPERTIES: tuple[str, ...] = ("equivariance", "horizontality")
"""Equivariance is asked of every block, horizontality of blocks with a shift (LM head, router)."""


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
