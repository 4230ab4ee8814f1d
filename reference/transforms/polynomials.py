"""Coefficients ``(a, b, c)`` of the odd quintics ``x -> a x + b x^3 + c x^5`` that push singular values towards one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Quintic: TypeAlias = tuple[float, float, float]
Schedule: TypeAlias = tuple[Quintic, ...]
"""One quintic per step, applied in order."""

JORDAN: Quintic = (3.4445, -4.7750, 2.0315)
"""KellerJordan/Muon, the same at every step: steep at zero (slope 485 after five), never converges to one."""

CUBIC: Quintic = (1.5, -0.5, 0.0)
"""The classical Newton-Schulz step: converges quadratically from anywhere in (0, sqrt(3)), slowly near zero."""

POLAR_EXPRESS: Schedule = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
"""arXiv 2505.16932: minimax-optimal composition for singular values in [1e-3, 1]; the last entry repeats for ever."""

POLAR_EXPRESS_2E2: Schedule = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Five Polar Express steps with a margin of 2e-2 (microsoft/dion; equivariant_optimizers optim/polar_express.py)."""

YOU: Schedule = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""J. You's tuned five steps (modded-nanogpt; "quintic" of Emerging-Optimizers)."""

AOL: Schedule = (
    (4.0098, -7.0585, 2.4635),
    (3.4585, -5.5479, 2.5959),
    (2.7573, -3.2939, 1.4254),
    (2.7215, -3.0494, 1.3169),
)
"""Four steps of thib-s/flash-newton-schulz, made for a matrix that was rescaled by AOL first.

After a mere Frobenius normalisation, as in Emerging-Optimizers ("aol") and here, singular values can exceed 0.88, where
the first quintic is negative: a gradient of rank about one comes out with its sign reversed. (After the rescaling it
would too. The present version of flash-newton-schulz has the last four of `YOU` instead: "turbo" here.)
"""

CANS: Schedule = (
    (8.4703, -25.1081, 18.6293),
    (4.1828, -3.1087, 0.5806),
    (3.9619, -2.9541, 0.5630),
    (3.2866, -2.4647, 0.5074),
    (2.2737, -1.6447, 0.4162),
)
"""arXiv 2506.10935: Remez-optimal steps on adapted intervals ("cans" of Emerging-Optimizers)."""

DEEPSEEK_V4: Schedule = (JORDAN,) * 8 + ((2.0, -1.5, 0.5),) * 2
"""Eight steep steps, then two that converge to one ("deepseekv4" of Emerging-Optimizers)."""


def polar_express(steps: int, safety: float) -> Schedule:
    """``steps`` Polar Express quintics on the interval widened by ``safety`` against rounding above one.

    Every quintic but the last of the list is evaluated at ``x / safety`` (``a / s, b / s^3, c / s^5``), as in the
    sources; beyond the list its last entry repeats. Sources use ``safety`` 1.01 (polargrad) and 1.05
    (gram-newton-schulz, invsqrt.py).
    """
    head = tuple((a / safety, b / safety**3, c / safety**5) for a, b, c in POLAR_EXPRESS[:-1])
    return (head + (POLAR_EXPRESS[-1],) * max(0, steps - len(head)))[:steps]


def evaluate(schedule: Sequence[Quintic], x: Any) -> Any:
    """The composed polynomial at a number or at every entry of an array: what happens to a singular value."""
    for a, b, c in schedule:
        x = a * x + b * x**3 + c * x**5
    return x
