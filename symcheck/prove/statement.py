"""The claim of a certificate in words: what acts on what, the invariant of the state, and the names of all inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sympy import Expr, Symbol

from symcheck.prove.notation import Expression, MatrixSymbol
from symcheck.prove.ranks import ranks_of
from symcheck.prove.transform import Law, Motions

Phrase = tuple[str | tuple[Expression | str, ...], ...]
"""Prose (strings) and formulas (tuples of expressions and relation signs)."""

CUSTOM = {
    "exp_avg": "M", "momentum_buffer": "M", "momentum": "M", "exp_avg_sq": "V", "square_avg": "V", "step": "t",
    "max_exp_avg_sq": "K", "sum": "S", "second_moment": "V", "prev_grad": "G^", "acc_delta": "D", "exp_inf": "K",
    "mu_product": "μ",
}  # fmt: skip
"""Letters that readers expect for common state tensors."""
FAMILIES = {
    "perm": "Perm", "sign": "Sign", "sperm": "SPerm", "orth": "O", "stab1": "Stab₁", "scale+": "Scale₊",
    "scale": "Scale",
}  # fmt: skip
PROPERTIES = {
    "shift_equivariance": "if one row is added to all rows of the initial weights, the weights after every number of "
    "steps have the same row added to theirs",
    "shift_quotient": "if one row is added to all rows of the initial weights, the weights after every number of steps "
    "have one row, perhaps another, added to theirs",
    "shift_insensitivity": "one row added to all rows of a gradient, another one at every step, changes no weights",
    "horizontality": "if the column sums of all gradients vanish, no step changes the column sums of the weights",
    "independence": "the other weights do not depend on this input",
}


class Statement:
    """The claim of a certificate, its variables, and the names of weights, gradients and state."""

    def __init__(self, certificate: Mapping[str, Any]) -> None:
        self.claim = certificate["claim"]
        self.property: str = self.claim["property"]
        self.motions = Motions(
            self.claim.get("variables", []), linear="" if self.property == "equivariance" else self.property
        )
        self.nodes = {node["name"]: node for node in certificate["nodes"]}
        tensors = self.claim["tensors"]
        self.tensors: list[list[Any]] | None = None if isinstance(tensors, int) else tensors
        self.count: int = tensors if isinstance(tensors, int) else len(tensors)
        self.ranks = self._ranks(certificate)
        self.names: dict[str, str] = {}
        for number in range(self.count):
            sub = f"_{{{number + 1}}}" if self.count > 1 else ""
            self.names |= {f"weight:{number}": f"W{sub}", f"grad:{number}": f"G{sub}"}
        for path in sorted({path for node in self.nodes.values() for path in node["laws"]}):
            self.names[path] = self._state_name(path)
        self.sizes = self._sizes()

    def _ranks(self, certificate: Mapping[str, Any]) -> dict[str, int]:
        ranks: dict[str, int] = {}
        for number, axes in enumerate(self.tensors or []):
            ranks |= {f"weight:{number}": len(axes), f"grad:{number}": len(axes)}
        for edge in certificate["edges"] if self.tensors is None else []:
            for line in edge["lines"]:
                if line["op"] == "input" and line["at"]["name"].startswith(("weight", "grad")):
                    ranks[line["at"]["name"]] = 2
        for node in self.nodes.values():
            for path, law in node["laws"].items():
                if isinstance(law, dict):
                    ranks[path] = law["zero"] if "zero" in law else len(law["axes"])
        for edge in certificate["edges"]:
            found = ranks_of(edge["lines"], ranks)
            for name, number in edge["outputs"].items():
                ranks.setdefault(name, found[number])
        return ranks

    def _state_name(self, path: str) -> str:
        tail = re.split(r"[.\[\]:]+", path.rstrip("]"))[-1]
        letter = CUSTOM.get(tail) or (tail[:1].upper() if tail[:1].isalpha() else "S")
        if self.ranks.get(path) == 1:
            letter = letter.lower()
        taken = {*self.names.values(), *(v.symbol for v in self.motions.variables.values())}
        return next(n for n in (letter, *(f"{letter}_{{{k}}}" for k in range(1, 10**4))) if n not in taken)

    def _sizes(self) -> dict[tuple[int, int], Expr]:
        """A symbol for the size of every axis of every tensor; axes that one variable moves have one size."""
        letters = iter("mnpqrdl" * 99)
        known: dict[Any, Expr] = {}
        sizes = {}
        for number in range(self.count):
            for axis in range(self.ranks.get(f"weight:{number}", 2)):
                label = self.tensors[number][axis] if self.tensors is not None else None
                key = (number, axis) if label is None else (label[0], label[1])
                if key not in known:
                    known[key] = Symbol(next(letters), integer=True, positive=True)
                sizes[number, axis] = known[key]
        return sizes

    def symbol(self, name: str, suffix: str = "") -> Expression:
        """The symbol of a weight, gradient or state tensor."""
        rank = self.ranks.get(name, 0)
        number = int(name.partition(":")[2]) if name.startswith(("weight", "grad")) else -1
        sizes: Sequence[Any] = [self.sizes.get((number, axis), Symbol("n")) for axis in range(rank)]
        head = ",".join("hlabcd"[: rank - 2]) if rank > 2 else ""
        text = self.names[name]
        for index in (head, suffix):
            if index:
                text = f"{text[:-1]},{index}}}" if text.endswith("}") else f"{text}_{{{index}}}"
        if rank == 0:
            return Symbol(text)
        return MatrixSymbol(text, *(sizes[-2:] if rank > 1 else (sizes[0], 1)))

    def image(self, name: str, law: Law, node: str | None = None, suffix: str = "") -> Phrase:
        """``X ↦ P X Q^T`` for an input, or words."""
        symbol = self.symbol(name, suffix)
        image = self.motions.with_gauges(self.gauges(node) if node else []).image(symbol, law)
        if isinstance(image, tuple):
            return (image,)
        return ((symbol,), f" {image}") if isinstance(image, str) else ((symbol, "↦", image),)

    def gauges(self, node: str) -> list[Mapping[str, Any]]:
        """The gauges of a node."""
        return list(self.nodes[node]["gauges"])

    def law(self, name: str) -> Law:
        """The law of a weight or gradient, which the claim determines."""
        if self.tensors is None:
            return None
        kind, _, number = name.partition(":")
        side = 1 if kind == "weight" else -1
        axes: list[Any] = []
        for axis in self.tensors[int(number)]:
            if axis is None:
                axes.append(["inv"])
                continue
            variable = self.motions.variables[axis[0]]
            reflects, scales = variable.kind in ("sign", "sperm", "scale"), variable.kind.startswith("scale")
            k = 1 if reflects or variable.kind in ("orth", "stab1") else 0
            axes.append(["vec", axis[0], axis[1], k, str(side * axis[2] if scales else 0)])
        return {"axes": axes, "scalars": self.claim.get("characters", {}).get(name, [])}

    def hypothesis(self) -> Iterator[Phrase]:
        """How weights and gradients move."""
        for kind, number in [(kind, n) for n in range(self.count) for kind in ("weight", "grad")]:
            yield self.image(f"{kind}:{number}", self.law(f"{kind}:{number}"))

    def variables(self) -> Phrase:
        """``P ∈ O(m), Q ∈ O(n)``."""
        parts: list[Any] = []
        sizes: dict[str, list[Expr]] = {}
        for number, axes in enumerate(self.tensors or []):
            for place, axis in enumerate(axes):
                if axis is not None and self.sizes[number, place] not in sizes.setdefault(axis[0], []):
                    sizes[axis[0]].append(self.sizes[number, place])
        for name, variable in self.motions.variables.items():
            size = " ".join(str(s) for s in sizes.get(name, []))
            family = FAMILIES.get(variable.kind, variable.kind) + (f"({size})" if size else "")
            index = "_{h}" if variable.fibre else ""
            parts += [", "] if parts else []
            if variable.axes == 0:
                signs = {"scale+": "> 0", "scale": "≠ 0", "sign": "= ±1"}[variable.kind]
                parts += [(Symbol(variable.symbol),), f" {signs}"]
            else:
                parts += [(Symbol(variable.symbol + index), "∈", Symbol(f"{family}"))]
        return tuple(parts)

    def order(self, edge: Mapping[str, Any]) -> tuple[bool, int]:
        """Where to tell about an edge: construction first, then general steps, then those with less state."""
        steps = any(line["op"] == "input" and line["at"]["name"].startswith("grad") for line in edge["lines"])
        return steps, -len(self.nodes[edge["source"]]["laws"])

    def path(self, edge: Mapping[str, Any]) -> str:
        """A title for an edge: which step it is."""
        state = self.nodes[edge["source"]]["laws"]
        if not any(line["op"] == "input" and line["at"]["name"].startswith("grad") for line in edge["lines"]):
            return "Construction of the optimizer"
        if not state and self.nodes[edge["target"]]["laws"]:
            return "The first step"
        many = sum(bool(node["laws"]) for node in self.nodes.values()) > 1
        return f"A step from {edge['source']}" if many else "A step"
