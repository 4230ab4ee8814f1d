"""Refutations written by hand: the corpus of the kernel. ``python tests/kernel/refutations.py`` writes the files.

Every document is small enough to check with a pencil. ``GOOD`` are accepted, ``BAD`` rejected, ``OUTSIDE`` declined.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parents[2] / "symcheck" / "kernel" / "corpus"
Document = dict[str, Any]


class Program:
    """Lines of one call, with the sizes of their values."""

    def __init__(self) -> None:
        self.lines: list[Document] = []
        self.leaks: list[int] = []

    def __call__(self, op: str, *operands: int, size: list[int], values: list[str] | None = None, **at: Any) -> int:
        line: Document = {"op": op, "in": list(operands), "size": size}
        if at:
            line["at"] = at
        if values is not None:
            line["values"] = values
        self.lines.append(line)
        return len(self.lines) - 1

    def size(self, x: int) -> list[int]:
        return self.lines[x]["size"]

    def input(self, name: str, *size: int) -> int:
        return self("input", size=list(size), name=name)

    def number(self, value: str) -> int:
        return self("number", size=[], value=value, nonneg=not value.startswith("-"))

    def contract(self, operands: list[int], indices: list[list[int]], out: list[int], mean: bool = False) -> int:
        sizes = {k: n for x, own in zip(operands, indices, strict=True) for k, n in zip(own, self.size(x), strict=True)}
        return self("contract", *operands, size=[sizes[k] for k in out], indices=indices, out=out, mean=mean)

    def times(self, x: int, y: int) -> int:
        """Elementwise, or with a number on either side."""
        axes = list(range(max(len(self.size(x)), len(self.size(y)))))
        return self.contract([x, y], [axes if self.size(v) else [] for v in (x, y)], axes)

    def scale(self, value: str, x: int) -> int:
        return self.times(self.number(value), x)

    def add(self, *operands: int, signs: list[int] | None = None) -> int:
        return self("add", *operands, size=self.size(operands[0]), signs=signs or [1] * len(operands))

    def map(self, fn: str, *operands: int, args: list[str | None] | None = None) -> int:
        return self("map", *operands, size=self.size(operands[0]), fn=fn, args=args or [])

    def expand(self, x: int, size: list[int], axes: list[int]) -> int:
        return self("expand", x, size=size, axes=axes)

    def step(self, **outputs: int) -> Document:
        """``weight_0`` and so on; states by their name."""
        names = {k: k.replace("_", ":") if k.startswith("weight") else f"state:{k}" for k in outputs}
        return {"lines": self.lines, "outputs": {names[k]: v for k, v in outputs.items()}, "leaks": self.leaks}


def constructor(*sizes: list[int], **states: list[int]) -> Document:
    """Weights stay, states begin as zeros."""
    p = Program()
    weights = {f"weight_{k}": p.input(f"weight:{k}", *size) for k, size in enumerate(sizes)}
    zeros = {name: p("zero", size=size, rank=len(size)) for name, size in states.items()}
    return p.step(**weights, **zeros)


def descend(direction: Callable[[Program, int], int], *size: int, leak: bool = False) -> Document:
    """``W - 1/2 direction(G)``."""
    p = Program()
    w, g = p.input("weight:0", *size), p.input("grad:0", *size)
    d = direction(p, g)
    if leak:
        p.leaks.append(d)
    return p.step(weight_0=p.add(w, p.scale("1/2", d), signs=[1, -1]))


def adamw(*size: int) -> Document:
    """With weight decay 1/100, without bias correction."""
    p = Program()
    w, g, m, v = (p.input(name, *size) for name in ("weight:0", "grad:0", "state:m", "state:v"))
    m = p.add(p.scale("9/10", m), p.scale("1/10", g))
    v = p.add(p.scale("99/100", v), p.scale("1/100", p.times(g, g)))
    denominator = p.add(p.map("sqrt", v), p.expand(p.number("1/100000000"), list(size), list(range(len(size)))))
    update = p.times(m, p.map("reciprocal", denominator))
    decayed = p.scale("99/100", w)
    return p.step(weight_0=p.add(decayed, p.scale("1/100", update), signs=[1, -1]), m=m, v=v)


def sign(p: Program, g: int) -> int:
    return p.map("sign", g)


def row_norm(p: Program, g: int) -> int:
    norm = p.map("rsqrt", p.contract([g, g], [[0, 1], [0, 1]], [0]))
    return p.contract([g, norm], [[0, 1], [0]], [0, 1])


def identity(p: Program, g: int) -> int:
    return g


TURN = [["3/5", "4/5"], ["-4/5", "3/5"]]
SWAP = [["0", "1"], ["1", "0"]]
STAB = [["2/3", "2/3", "-1/3"], ["-1/3", "2/3", "2/3"], ["2/3", "-1/3", "2/3"]]
HADAMARD = [
    [str(s).replace("0.5", "1/2") for s in row]
    for row in ([0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5], [0.5, 0.5, -0.5, -0.5], [0.5, -0.5, -0.5, 0.5])
]


def variable(name: str, kind: str, axes: int = 1, fibre: str | None = None) -> Document:
    return {"name": name, "class": kind, "axes": axes, "fibre": fibre}


def refutation(
    steps: list[Document],
    shapes: list[list[int]],
    weights: list[str],
    gradients: list[str],
    *,
    variables: tuple[Document, ...] = (),
    tensors: list[Any] | None = None,
    element: Document | None = None,
    name: str = "equivariance",
    shifts: list[Any] | None = None,
    centred: bool = False,
    entry: list[int],
    tensor: int = 0,
) -> Document:
    """Numbers are written as words, tensors separated by ``|``: ``1 2 | 3/5``."""
    return {
        "schema": "symcheck.refutation/1",
        "claim": {
            "property": name,
            "variables": list(variables),
            "tensors": tensors or [[None] * len(shape) for shape in shapes],
            "centred": centred,
        },
        "shapes": shapes,
        "weights": [part.split() for part in " ".join(weights).split("|")],
        "gradients": [[part.split() for part in one.split("|")] for one in gradients],
        "element": element or {},
        "shifts": shifts or [],
        "steps": steps,
        "differs": {"step": len(gradients), "tensor": tensor, "entry": entry},
    }


def rotated_columns(step: Document, *, entry: list[int] | None = None, **more: Any) -> Document:
    """One row of two columns, turned by (3/5, 4/5)."""
    return refutation(
        **{
            "steps": [constructor([2]), step],
            "shapes": [[1, 2]],
            "weights": ["0 0"],
            "gradients": ["1 2"],
            "variables": (variable("Q", "orth"),),
            "tensors": [[None, ["Q", 0, 1]]],
            "element": {"Q": [TURN]},
            "entry": entry or [0, 0],
            **more,
        }
    )


def _row_norm() -> Document:
    return refutation(
        [constructor([2, 2]), descend(row_norm, 2, 2)],
        [[2, 2]],
        ["1 0 0 1"],
        ["3 4 0 1"],
        variables=(variable("P", "orth"),),
        tensors=[[["P", 0, 1], None]],
        element={"P": [TURN]},
        entry=[0, 0],
    )


def _adamw() -> Document:
    return rotated_columns(
        adamw(2), steps=[constructor([2], m=[2], v=[2]), adamw(2), adamw(2)], gradients=["1 2", "-1 1/3"]
    )


def _decay(name: str = "shift_equivariance") -> Document:
    p = Program()
    w, g = p.input("weight:0", 2, 2), p.input("grad:0", 2, 2)
    lost = p.scale("1/100", w if name == "shift_equivariance" else p.map("relu", w))
    step = p.step(weight_0=p.add(w, g, lost, signs=[1, -1, -1]))
    return refutation(
        [constructor([2, 2]), step],
        [[2, 2]],
        ["1 0 -1 2"],
        ["1 1 -1 -1"],
        name=name,
        shifts=[[["1", "0"]]],
        centred=True,
        entry=[1, 0],
    )


def _insensitive() -> Document:
    return refutation(
        [constructor([2, 2]), descend(identity, 2, 2), descend(identity, 2, 2)],
        [[2, 2]],
        ["0 0 0 0"],
        ["1 2 3 4", "0 0 0 1"],
        name="shift_insensitivity",
        shifts=[[["0", "0"]], [["0", "1"]]],
        entry=[0, 1],
    )


def _horizontal() -> Document:
    return refutation(
        [constructor([3]), descend(sign, 3)],
        [[3, 1]],
        ["0 0 0"],
        ["2 -1 -1"],
        name="horizontality",
        centred=True,
        entry=[1, 0],
    )


def _heads() -> Document:
    """Two heads of two rows; the heads change places and each is turned by its own rotation."""
    p = Program()
    w, g = p.input("weight:0", 2, 2), p.input("grad:0", 2, 2)
    return refutation(
        [constructor([2, 2]), p.step(weight_0=p.add(w, p.map("sign", g), signs=[1, -1]))],
        [[2, 2, 1]],
        ["0 0 0 0"],
        ["1 2 3 -1"],
        variables=(variable("H", "perm"), variable("R", "orth", fibre="H")),
        tensors=[[["H", 0, 1], ["R", 0, 1], None]],
        element={"H": [SWAP], "R": [TURN, [["1", "0"], ["0", "-1"]]]},
        entry=[0, 0, 0],
    )


def _entries() -> Document:
    return refutation(
        [constructor([2, 2]), descend(sign, 2, 2)],
        [[2, 2]],
        ["0 0 0 0"],
        ["1 2 3 4"],
        variables=(variable("E", "orth", 2),),
        tensors=[[["E", 0, 1], ["E", 1, 1]]],
        element={"E": [HADAMARD]},
        entry=[0, 0],
    )


def _scale() -> Document:
    """Gradient descent is not equivariant under scales: gradients move by the dual."""
    return refutation(
        [constructor([2]), descend(identity, 2)],
        [[2, 1]],
        ["1 1"],
        ["1 1"],
        variables=(variable("S", "scale+"),),
        tensors=[[["S", 0, 1], None]],
        element={"S": [[["2", "0"], ["0", "1"]]]},
        entry=[0, 0],
    )


def _joint() -> Document:
    """A down projection that scales its columns by their number forgets the hidden permutation."""
    p = Program()
    w = [p.input(f"weight:{k}", 2) for k in (0, 1)]
    g = [p.input(f"grad:{k}", 2) for k in (0, 1)]
    places = p("array", size=[2], values=["0", "1"], rank=1)
    step = p.step(weight_0=p.add(w[0], g[0]), weight_1=p.add(w[1], p.times(g[1], places)))
    return refutation(
        [constructor([2], [2]), step],
        [[2, 1], [1, 2]],
        ["0 0 | 0 0"],
        ["1 2 | 3 4"],
        variables=(variable("P", "perm"),),
        tensors=[[["P", 0, 1], None], [None, ["P", 0, 1]]],
        element={"P": [SWAP]},
        tensor=1,
        entry=[0, 1],
    )


def _vocabulary() -> Document:
    """The smaller of two differences decides where to go: masks, minima, sorting, and picking of entries."""
    p = Program()
    w, g = p.input("weight:0", 2, 2), p.input("grad:0", 2, 2)
    top = p("symmetric", g, size=[2], fn="max", axes=[0])
    least = p("symmetric", p("symmetric", g, size=[2, 2], fn="sort", axes=[0]), size=[2], fn="median", axes=[1])
    mask = p.expand(p.map("gt", top, least), [2, 2], [0])
    flipped = p(
        "along",
        g,
        size=[2, 2],
        fn="flip",
        axes=[[1]],
        out=[["batch", 0], ["new"]],
        linear=True,
        args={"take": [1, 0], "sizes": [2]},
    )
    eye = p("eye", size=[2, 2])
    kept = p("select", mask, flipped, p.map("clamp", p.add(g, eye), args=["-1", None]), size=[2, 2])
    return refutation(
        [constructor([2, 2]), p.step(weight_0=p.add(w, p("round", kept, size=[2, 2], dtype="bfloat16")))],
        [[2, 2]],
        ["0 0 0 0"],
        ["1 2 3 5"],
        variables=(variable("P", "perm"), variable("S", "sign")),
        tensors=[[["P", 0, 1], ["S", 0, 1]]],
        element={"P": [SWAP], "S": [[["-1", "0"], ["0", "1"]]]},
        entry=[0, 0],
    )


def _stab() -> Document:
    return refutation(
        [constructor([3]), descend(sign, 3)],
        [[3, 1]],
        ["0 0 0"],
        ["1 1 -2"],
        variables=(variable("P", "stab1"),),
        tensors=[[["P", 0, 1], None]],
        element={"P": [STAB]},
        entry=[0, 0],
    )


def _constant() -> Document:
    """A number that is not in the program, and a leak that is the same on both sides."""
    p = Program()
    w, g = p.input("weight:0", 2), p.input("grad:0", 2)
    p.leaks.append(p.contract([g, g], [[0], [0]], []))
    rate = p("number", size=[], values=["1/5"], value=None, nonneg=True)
    return rotated_columns(p.step(weight_0=p.add(w, p.times(rate, p.map("sign", g)))))


def _leaking_norm(p: Program, g: int) -> int:
    """The norm, a root that is not rational, leaves the program."""
    p.leaks.append(p.map("sqrt", p.contract([g, g], [[0], [0]], [])))
    return p.map("sign", g)


GOOD: dict[str, Document] = {
    "sign-sgd-rotation": rotated_columns(descend(sign, 2)),
    "adamw-rotation": _adamw(),
    "row-norm-row-rotation": _row_norm(),
    "decay-shift": _decay(),
    "relu-decay-shift-quotient": _decay("shift_quotient"),
    "sgd-shift-of-gradients": _insensitive(),
    "sign-sgd-horizontality": _horizontal(),
    "sign-sgd-heads": _heads(),
    "sign-sgd-entries": _entries(),
    "sgd-scale": _scale(),
    "joint-permutation": _joint(),
    "vocabulary": _vocabulary(),
    "sign-sgd-stab1": _stab(),
    "constant-and-leak": _constant(),
}


def changed(document: Document, *path: Any, to: Any) -> Document:
    """A copy with one value replaced."""
    document = copy.deepcopy(document)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return document


def _bad() -> dict[str, Document]:
    turned, adam, perm = GOOD["sign-sgd-rotation"], GOOD["adamw-rotation"], GOOD["joint-permutation"]
    rows, stab = GOOD["row-norm-row-rotation"], GOOD["sign-sgd-stab1"]
    matrix, quarter = ("element", "Q", 0), [["1", "0", "0"], ["0", "0", "-1"], ["0", "1", "0"]]
    return {
        "matrix-not-orthogonal": changed(turned, *matrix, 0, 0, to="2/5"),
        "matrix-of-shear": changed(turned, *matrix, to=[["1", "1"], ["0", "1"]]),
        "matrix-not-square": changed(turned, *matrix, 0, to=["3/5"]),
        "matrix-too-large": changed(turned, *matrix, to=STAB),
        "two-matrices": changed(turned, "element", "Q", to=[TURN, TURN]),
        "no-matrix": changed(turned, "element", "Q", to=[]),
        "element-of-nothing": changed(turned, "element", "R", to=[TURN]),
        "identity": changed(turned, *matrix, to=[["1", "0"], ["0", "1"]]),
        "equal-sides": rotated_columns(descend(identity, 2)),
        "equal-sides-sqrt": changed(adam, *matrix, to=SWAP),
        "entry-outside": changed(turned, "differs", "entry", to=[0, 2]),
        "entry-of-equal-sides": changed(perm, "differs", to={"step": 1, "tensor": 0, "entry": [0, 0]}),
        "wrong-step": changed(adam, "differs", "step", to=1),
        "gradient-of-zeros": changed(turned, "gradients", 0, 0, to=["0", "0"]),
        "gradient-too-short": changed(turned, "gradients", 0, 0, to=["1"]),
        "gradient-a-decimal": changed(turned, "gradients", 0, 0, to=["1.0", "2"]),
        "one-gradient-too-many": changed(turned, "gradients", to=[[["1", "2"]], [["1", "2"]]]),
        "perm-with-signs": changed(perm, "element", "P", 0, to=[["0", "-1"], ["1", "0"]]),
        "perm-of-fractions": changed(perm, "element", "P", 0, to=TURN),
        "stab1-that-moves-ones": changed(stab, "element", "P", 0, to=quarter),
        "scale+-negative": changed(GOOD["sgd-scale"], "element", "S", 0, 0, 0, to="-2"),
        "scale-singular": changed(GOOD["sgd-scale"], "element", "S", 0, 0, 0, to="0"),
        "scale-not-diagonal": changed(GOOD["sgd-scale"], "element", "S", 0, 0, 1, to="1"),
        "sign-not-diagonal": changed(GOOD["vocabulary"], "element", "S", 0, to=SWAP),
        "fibre-without-base": changed(GOOD["sign-sgd-heads"], "claim", "tensors", 0, 0, to=None),
        "fibre-of-rotations": changed(GOOD["sign-sgd-heads"], "claim", "variables", 0, "class", to="orth"),
        "fibre-with-one-matrix": changed(GOOD["sign-sgd-heads"], "element", "R", to=[TURN]),
        "half-of-a-variable": changed(GOOD["sign-sgd-entries"], "claim", "tensors", 0, 1, to=None),
        "sub-axis-twice": changed(GOOD["sign-sgd-entries"], "claim", "tensors", 0, 1, to=["E", 0, 1]),
        "class-unknown": changed(turned, "claim", "variables", 0, "class", to="gl"),
        "property-unknown": changed(turned, "claim", "property", to="descent"),
        "variables-of-a-shift": changed(turned, "claim", "property", to="shift_insensitivity"),
        "horizontality-not-centred": changed(GOOD["sign-sgd-horizontality"], "gradients", 0, 0, to=["2", "-1", "0"]),
        "horizontality-not-claimed-centred": changed(GOOD["sign-sgd-horizontality"], "claim", "centred", to=False),
        "decay-that-ignores-the-shift": changed(GOOD["decay-shift"], "shifts", 0, 0, to=["0", "0"]),
        "decay-quotient": changed(GOOD["decay-shift"], "claim", "property", to="shift_quotient"),
        "shift-missing": changed(GOOD["decay-shift"], "shifts", to=[]),
        "operand-from-below": changed(turned, "steps", 1, "lines", 2, "in", to=[3]),
        "operand-missing": changed(turned, "steps", 1, "lines", 2, "in", to=[]),
        "sizes-lie": changed(turned, "steps", 1, "lines", 2, "size", to=[3]),
        "signs-of-zero": changed(turned, "steps", 1, "lines", 5, "at", "signs", to=[1, 0]),
        "attribute-unknown": changed(turned, "steps", 1, "lines", 2, "at", "descending", to=True),
        "input-unknown": changed(turned, "steps", 1, "lines", 1, "at", "name", to="state:g"),
        "gradient-in-the-constructor": changed(turned, "steps", 0, "lines", 0, "at", "name", to="grad:0"),
        "weight-not-returned": changed(turned, "steps", 1, "outputs", to={}),
        "output-unknown": changed(turned, "steps", 1, "outputs", "grad:0", to=1),
        "leak-unknown": changed(turned, "steps", 1, "leaks", to=[99]),
        "values-of-a-map": changed(turned, "steps", 1, "lines", 2, "values", to=["1", "1"]),
        "take-from-outside": changed(GOOD["vocabulary"], "steps", 1, "lines", 7, "at", "args", "take", to=[1, 2]),
        "take-too-few": changed(GOOD["vocabulary"], "steps", 1, "lines", 7, "at", "args", "take", to=[1]),
        "take-into-one-axis-twice": changed(GOOD["vocabulary"], "steps", 1, "lines", 7, "at", "out", 0, to=["new"]),
        "out-letter-twice": changed(rows, "steps", 1, "lines", 4, "at", "out", to=[0, 0]),
        "letters-missing": changed(rows, "steps", 1, "lines", 2, "at", "indices", to=[[0, 1], [0]]),
        "key-unknown": {**turned, "note": "trust me"},
        "schema-of-a-certificate": changed(turned, "schema", to="symcheck.certificate/1"),
    }  # fmt: skip


def _outside() -> dict[str, Document]:
    turned = GOOD["sign-sgd-rotation"]
    line = ("steps", 1, "lines", 2)
    return {
        "leak-differs": rotated_columns(descend(sign, 2, leak=True), gradients=["1 -1"]),
        "leak-not-exact": rotated_columns(descend(_leaking_norm, 2)),
        "map-exp": changed(turned, *line, "at", "fn", to="exp"),
        "map-of-two": changed(
            turned, *line, to={"op": "map", "in": [0, 1], "size": [2], "at": {"fn": "sign", "args": []}}
        ),
        "power-of-a-third": changed(turned, *line, "at", to={"fn": "power", "args": ["1/3"]}),
        "eigh": changed(turned, *line, to={"op": "eigh", "in": [1], "size": [2]}),
        "random": changed(turned, *line, to={"op": "random", "in": [], "size": [2], "at": {"rank": 1}}),
        "reciprocal-of-zero": changed(
            changed(turned, *line, "at", "fn", to="reciprocal"), "gradients", 0, 0, to=["0", "1"]
        ),
        "square-root-of-less-than-zero": changed(
            changed(turned, *line, "at", "fn", to="sqrt"), "gradients", 0, 0, to=["-1", "1"]
        ),
        "too-many-terms": changed(
            turned, *line, to={"op": "zero", "in": [], "size": [1 << 19, 1 << 19], "at": {"rank": 2}}
        ),
        "cumulative-sum": changed(
            turned,
            *line,
            to={
                "op": "along",
                "in": [1],
                "size": [2],
                "at": {"fn": "cumsum", "axes": [[0]], "out": [["new"]], "linear": True},
            },
        ),
        "schema-unknown": changed(turned, "schema", to="symcheck.refutation/2"),
    }


BAD, OUTSIDE = _bad(), _outside()


def corpus() -> dict[Path, str]:
    """The text of every file of the corpus."""
    return {
        CORPUS / folder / f"{name}.json": json.dumps(document, indent=None, separators=(",", ":")) + "\n"
        for folder, documents in (("good", GOOD), ("bad", BAD), ("outside", OUTSIDE))
        for name, document in documents.items()
    }


if __name__ == "__main__":
    for path, content in corpus().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
