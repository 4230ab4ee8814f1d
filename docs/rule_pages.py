"""Writes one page per reference rule and an index: ``python docs/rule_pages.py [--plots] [--all | RULE ...]``.

Everything on a page comes from the rule: its docstring, declarations and defaults; certificates and counterexamples;
the formula and the cost, from the operations that it runs. What is found by running is kept in
``docs/rules/rules.json``, and found anew for the rules that are named, for all of them with ``--all``, else for those
that are not there yet: 5 to 15 seconds for each. What is declared is read and all pages are written every time.
``--plots`` draws the pictures of these rules too (needs matplotlib).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rule_markdown import index_page, joint_page, rule_page

from groups import get_block, parse_action
from reference import JOINT_RULES, RULES, JointRule, Rule, get_joint_rule, get_rule
from reference.cost import cost
from reference.optimizers import OPTIMIZERS
from reference.variants import VARIANTS
from symcheck.builtin import JOINT_CONFIGS, joint_target
from symcheck.decide import decide
from symcheck.probe.names import BUDGETS, Question, plan
from symcheck.prove.derivation import explain
from symcheck.prove.errors import NoProof
from symcheck.prove.recipe import recipe
from symcheck.prove.workshop import Workshop
from symcheck.result import Result, Verdict
from symcheck.target import Candidate

HERE = Path(__file__).parent / "rules"
DATA = HERE / "rules.json"
VERSION = torch.__version__.partition("+")[0]
Facts = dict[str, Any]

ABOVE: Mapping[str, tuple[str, ...]] = {
    "Perm(": ("SPerm(", "Stab1("),
    "SPerm(": ("O(",),
    "Stab1(": ("O(",),
    "O(rows)": ("GL(rows)",),
    "O(cols)": ("GL(cols)",),
    "O(entries)": ("GL(rows)", "GL(cols)"),
}
"""The next larger families of an axis."""
BELOW = ("SPerm(rows) x SPerm(cols)", "Perm(rows) x Perm(cols)", "1")
"""Groups whose certificate serves to read off the formula where the rule's own has none."""
SHIFTS = ("shift_equivariance", "shift_quotient", "shift_insensitivity", "horizontality")
SIZES = (22, 26)
"""Of the weight whose state is described."""


# What a rule declares ----------------------------------------------------------------------------------------------


NAMES = (*sorted(RULES), *sorted(JOINT_RULES))
"""The rules of one weight, then those of several tensors."""


def declared(name: str) -> Facts:
    """What can be read off a rule without running it on data."""
    if name in JOINT_RULES:
        return _declared_jointly(get_joint_rule(name))
    rule = get_rule(name)
    return {
        "name": name,
        "class": type(rule).__name__,
        "doc": inspect.getdoc(type(rule)) or "",
        "source": rule.source,
        "min_ndim": rule.min_ndim,
        "decay": rule.decay,
        "symmetry": rule.symmetry,
        "joint_symmetry": rule.joint_symmetry,
        "side_conditions": list(rule.side_conditions),
        "traits": dataclasses.asdict(rule.traits),
        "gauges": dict(rule.gauges),
        "state": list(_state(rule)),
        "defaults": {field.name: _shown(getattr(rule, field.name)) for field in dataclasses.fields(rule)},
        "variants": [_variant(rule, key, VARIANTS[key]) for key in VARIANTS if key.startswith(f"{name}/")],
    }


def _declared_jointly(rule: JointRule) -> Facts:
    return {
        "name": rule.name,
        "class": type(rule).__name__,
        "doc": inspect.getdoc(type(rule)) or "",
        "source": rule.source,
        "tensors": list(rule.tensors),
        "gauge": rule.gauge,
        "symmetry": rule.symmetry,
        "traits": dataclasses.asdict(rule.traits),
        "defaults": {field.name: _shown(getattr(rule, field.name)) for field in dataclasses.fields(rule)},
    }


def _state(rule: Rule) -> Iterator[Facts]:
    """Every entry of the state, with that of the configurations that keep more than the default one."""
    seen: set[str] = set()
    m, n = SIZES
    names = {m: "m", n: "n"}
    for each in (rule, *(VARIANTS[key] for key in VARIANTS if key.startswith(f"{rule.name}/"))):
        weight = torch.zeros((1, m, n) if each.min_ndim == 3 else (m, n), dtype=torch.float64)
        try:
            state = each.init(weight)
        except ValueError:
            continue  # this configuration is for other shapes
        for key, value in state.items():
            if key in seen:
                continue
            seen.add(key)
            action = each.state_actions.get(key)
            whole = isinstance(value, torch.Tensor)
            shape = [names.get(size, str(size)) for size in value.shape] if whole else []
            yield {
                "name": key,
                "shape": shape[1:] if each.min_ndim == 3 else shape,
                "axes": list(action.axes) if whole and action is not None else None,
                "signed": action.signed if whole and action is not None else True,
                "default": each is rule,
            }


def _variant(rule: Rule, key: str, variant: Rule) -> Facts:
    changed = {
        field.name: _shown(getattr(variant, field.name))
        for field in dataclasses.fields(variant)
        if getattr(variant, field.name) != getattr(rule, field.name)
    }
    return {"name": key, "options": changed, "symmetry": variant.symmetry, "traits": dataclasses.asdict(variant.traits)}


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


# What is found out about it ----------------------------------------------------------------------------------------


def above(spec: str) -> list[str]:
    """Every group with one factor of ``spec`` one class larger, and all rotations of the entries above both axes."""
    larger = []
    for family, replacements in ABOVE.items():
        for match in re.finditer(rf"(?<![\w*]){re.escape(family)}(?!experts)", spec):
            larger += [spec[: match.start()] + new + spec[match.end() :] for new in replacements]
    return larger + (["O(entries)"] if spec == "O(rows) x O(cols)" else [])


def found(name: str) -> tuple[Facts, str]:
    """Certificates, counterexamples, formula and cost of the default configuration, and the derivation as text."""
    if name in JOINT_RULES:
        return _found_jointly(name), ""
    rule = get_rule(name)
    block = "experts" if rule.min_ndim == 3 else "matrix"
    larger = above(rule.symmetry)
    questions = [Question(block, "equivariance", spec) for spec in (rule.symmetry, *larger)]
    if block == "matrix":
        questions += [Question("lm_head", one, "Perm(rows) x O(cols) + Shift(rows)") for one in SHIFTS]
    square = tuple(shapes for shapes in get_block(block).shapes if len({*shapes[0][-2:]}) == 1)
    if rule.side_conditions:
        questions.append(Question(block, "equivariance", rule.symmetry, square))
    # At the learning rate of `symcheck certify`: small updates would drown in the rounding of the weights.
    candidate = Candidate(f"rule:{name}", {"lr": 0.1}, lambda params: OPTIMIZERS[name](params, lr=0.1))
    own, *others = decide(candidate, questions, budget="quick", dtypes=(), seed=0)
    everywhere = own.verdict is not Verdict.REFUTED or not rule.side_conditions
    if not everywhere:  # ordinary gradients of a weight that is not square need not meet the side condition
        own = others[-1]
    written, derivation = traced(name)
    if own.verdict is not Verdict.PROVED:
        written, derivation = {**written, "lines": 0, "certificates": 0}, ""
    facts = {
        "proof": {"action": rule.symmetry, "block": block, "square": not everywhere, **_answer(own)},
        "above": [{"action": spec, **_answer(result)} for spec, result in zip(larger, others, strict=False)],
        "shift": {result.property: _answer(result) for result in others[len(larger) :] if result.property in SHIFTS},
        "torch": VERSION,
    }
    return {**facts, **written}, derivation


def _found_jointly(name: str) -> Facts:
    """The verdict of every configuration on every joint block that has its tensors."""
    rows = []
    for config in JOINT_CONFIGS[name]:
        target = joint_target(name, config)
        candidate = target.load()
        questions = plan(target.blocks or (), ["equivariance"])
        for result in decide(candidate, questions, budget="quick", dtypes=(), seed=0):
            options = {key: _shown(value) for key, value in config.items()}
            rows.append({"options": options, "block": result.block, "action": result.action, **_answer(result)})
    return {"blocks": rows, "torch": VERSION}


def traced(name: str) -> tuple[Facts, str]:
    """Formula and cost, the derivation as text and its length: what follows from the operations without any search."""
    rule = get_rule(name)
    shapes = get_block("experts" if rule.min_ndim == 3 else "matrix").shapes
    workshop = Workshop(Candidate(f"rule:{name}", {}, lambda params: OPTIMIZERS[name](params)), BUDGETS["quick"])
    proved = None
    for spec in (rule.symmetry, *BELOW):
        try:
            proved = workshop.prove("equivariance", parse_action(spec), shapes)
        except NoProof:
            continue
        break
    certificates = [proof.certificate for proof in proved.proofs] if proved is not None else []
    derivation = explain(certificates[0]) if certificates else None
    text = derivation.text() if derivation is not None and spec == rule.symmetry else ""
    facts = {
        "formula": dataclasses.asdict(recipe(derivation)) if derivation is not None else None,
        "cost": [_cost(each) for each in cost(rule)],
        "lines": sum(len(edge["lines"]) for one in certificates for edge in one["edges"]) if text else 0,
        "certificates": len(certificates) if text else 0,
    }
    # The last paragraph has measured numbers in it.
    return facts, text.partition("\nBridge. ")[0].rstrip() + "\n" if text else ""


def _answer(result: Result) -> Facts:
    answer: Facts = {"verdict": result.verdict.value, "conditions": list(result.conditions)}
    if result.verdict not in (Verdict.PROVED, Verdict.REFUTED):
        answer["reason"] = result.reason
    return answer


def _cost(each: Any) -> Facts:
    def terms(polynomial: Mapping[tuple[int, int], Any]) -> list[list[Any]]:
        return [[str(value), *powers] for powers, value in sorted(polynomial.items(), reverse=True)]

    return {
        "regime": each.regime,
        "multiply_flops": terms(each.multiply_flops),
        "entry_flops": terms(each.entry_flops),
        "traffic": terms(each.traffic),
        "state": terms(each.state),
        "factorisations": [[*name, times] for name, times in each.factorisations.items()],
    }


# Files -------------------------------------------------------------------------------------------------------------


def load() -> dict[str, Facts]:
    """What was found before, by rule."""
    return json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}


def pages(data: Mapping[str, Facts]) -> dict[str, str]:
    """All pages by file name."""
    shown = {
        f"{name}.md": joint_page(facts) if name in JOINT_RULES else rule_page(facts, picture=picture(name).exists())
        for name, facts in data.items()
    }
    single, joint = ([facts for name, facts in data.items() if (name in JOINT_RULES) == both] for both in (False, True))
    return {"README.md": index_page(single, joint), **shown}


def picture(name: str) -> Path:
    """Where the plot of a rule is, if it has one."""
    return HERE / f"{name}.svg"


def write(data: Mapping[str, Facts], derivations: Mapping[str, str]) -> None:
    """Writes everything that is given."""
    (HERE / "proofs").mkdir(parents=True, exist_ok=True)
    for name, text in derivations.items():
        path = HERE / "proofs" / f"{name}.txt"
        path.write_text(text, encoding="utf-8") if text else path.unlink(missing_ok=True)
    data = {name: data[name] for name in NAMES if name in data}
    DATA.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, text in pages(data).items():
        (HERE / name).write_text(text, encoding="utf-8")


def _summary(facts: Facts) -> str:
    answers = [facts["proof"]] if "proof" in facts else facts["blocks"]
    return ", ".join(f"{times} {verdict}" for verdict, times in Counter(each["verdict"] for each in answers).items())


def main(arguments: Sequence[str]) -> int:
    """Finds out what is asked for and writes all pages."""
    names = [argument for argument in arguments if not argument.startswith("--")]
    if unknown := sorted({*names} - {*NAMES}) or sorted({*arguments} - {*names} - {"--all", "--plots"}):
        print(f"unknown rule or option {unknown[0]!r}; known rules: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    known = load()
    data = {name: {**known[name], **declared(name)} for name in NAMES if name in known}
    wanted = NAMES if "--all" in arguments else names or [name for name in NAMES if name not in data]
    for number, name in enumerate(wanted, start=1):
        started = time.perf_counter()
        facts, derivation = found(name)
        data[name] = {**declared(name), **facts}
        if "--plots" in arguments and name in RULES:
            from rule_plots import draw

            draw(get_rule(name), picture(name))
        write(data, {name: derivation})
        print(f"[{number}/{len(wanted)}] {name}: {_summary(facts)}, {time.perf_counter() - started:.1f} s")
    write(data, {})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
