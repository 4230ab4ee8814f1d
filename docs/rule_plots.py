"""Draws what a rule makes of the singular values of a gradient (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from groups import parse_action
from reference import Rule
from reference.orthogonalizers import NewtonSchulz, Orthogonalizer, get_orthogonalizer
from reference.trajectory import trajectory
from reference.transforms.polynomials import evaluate
from reference.variants import VARIANTS

GRID = np.geomspace(1e-3, 1.0, 240)
SPECTRUM = np.geomspace(1e-3, 1.0, 120)
STYLES = ("-", "--", "-.", ":")


def of_method(method: Orthogonalizer) -> np.ndarray:
    """What a method makes of the singular values ``GRID`` of a matrix that has been divided by its starting norm."""
    if isinstance(method, NewtonSchulz):
        return np.asarray(evaluate(method.schedule, GRID / method.margin))
    return np.diagonal(method(np.diag(GRID)))


def of_rule(rule: Rule) -> np.ndarray:
    """What the second step of a rule makes of the singular values ``SPECTRUM`` of a gradient that does not change, over
    their root mean square."""
    grad = np.diag(SPECTRUM)
    displacements, _ = trajectory(rule, np.eye(len(SPECTRUM)), [grad, grad])
    values = -np.diagonal(displacements[-1])
    return values / np.sqrt((values**2).mean())


def curves(rule: Rule) -> tuple[np.ndarray, Mapping[str, np.ndarray], str]:
    """Singular values, what becomes of them by name, and what the latter are relative to; nothing to draw: empty."""
    rules = {"": rule} | {key.partition("/")[2]: VARIANTS[key] for key in VARIANTS if key.startswith(f"{rule.name}/")}
    if hasattr(rule, "orthogonalizer"):
        methods = dict.fromkeys(each.orthogonalizer for each in rules.values())  # type: ignore[attr-defined]
        named = {each if isinstance(each, str) else type(each).__name__: get_orthogonalizer(each) for each in methods}
        return GRID, _distinct({name: of_method(method) for name, method in named.items()}), "1"
    rotations, all_rotations = parse_action("O(rows) x O(cols)"), parse_action("O(entries)")
    shown = {
        name or "defaults": of_rule(each)
        for name, each in rules.items()
        if rotations <= parse_action(each.symmetry) and not each.decay_rate
    }
    linear = all_rotations <= parse_action(rule.symmetry)  # a multiple of the gradient
    return SPECTRUM, {} if linear else _distinct(shown), "their root mean square"


def _distinct(lines: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Every line once, under all of its names; none at all if all are level: then there is nothing to see."""
    names: dict[str, list[str]] = {}
    for name, values in lines.items():
        same = next((first for first in names if np.allclose(lines[first], values, atol=1e-6)), name)
        names.setdefault(same, []).append(name)
    level = all(np.ptp(values) < 1e-4 for values in lines.values())
    return {} if level else {", ".join(names[first]): lines[first] for first in names}


def draw(rule: Rule, path: Path) -> None:
    """Writes the picture, or removes the one there is if the rule has none."""
    sigma, lines, unit = curves(rule)
    path.unlink(missing_ok=True)
    if not lines:
        return
    settings = {"svg.fonttype": "none", "svg.hashsalt": rule.name, "font.size": 9, "path.simplify_threshold": 0.5}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.add_subplot(
            xscale="log", xlabel="singular value, over the starting norm" if unit == "1" else "singular value"
        )
        axes.set_ylabel("after the polar factor" if unit == "1" else f"in the step, over {unit}")
        for number, (name, values) in enumerate(lines.items()):
            axes.plot(sigma, values, STYLES[number % 4], color=f"C{number % 10}", label=name, linewidth=1.3)
        if unit == "1":
            axes.axhline(1.0, color="0.7", linewidth=0.8, zorder=0)
        if len(lines) > 1:
            figure.legend(loc="outside right upper", frameon=False)
        low, high = min(map(np.min, lines.values())), max(map(np.max, lines.values()))
        axes.set_ylim(min(0.0, 1.05 * low), 1.05 * high)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
