"""`block_independence`: what one parameter does is its own affair."""

from __future__ import annotations

from symcheck.probe.contracts.agreement import apart
from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.measure import MARGIN, Defect
from symcheck.probe.strata import Shapes
from symcheck.probe.trajectory import Inputs, run
from symcheck.result import Evidence, Verdict

STEPS = 4


def block_independence(setting: Setting) -> Outcome:
    """Other parameters' gradients, however different, leave a displacement as it is, whether the parameters share a
    shape (where implementations stack them) or not."""
    candidates = [shapes for shapes in setting.shapes(4) if setting.single(shapes)] or setting.shapes(1)
    most = Defect(0, 0.0)
    for shapes in candidates[:2]:
        neighbour = candidates[-1]
        for scale in (1.0, 2.0**10):
            ours = setting.draw("generic", shapes, STEPS)
            twin = _scaled(setting.draw("generic", shapes, STEPS, offset=1), scale)
            other = _scaled(setting.draw("generic", neighbour, STEPS, offset=2), scale)
            alone = run(setting.candidate, ours, setting.nature.arithmetic, seed=setting.seed)
            together = run(setting.candidate, _join(ours, twin, other), setting.nature.arithmetic, seed=setting.seed)
            defect = apart(setting, ours, alone, [step[: len(shapes)] for step in together])
            if defect.ratio > MARGIN and setting.draws:
                return Outcome(
                    Verdict.DECLINED,
                    "its update is random: beside other parameters it draws other numbers, which coupling cannot be "
                    "told from",
                )
            if defect.ratio > MARGIN:
                return _refuted(
                    "beside other parameters the same gradients give another displacement "
                    f"(by {defect.value:.2g} of it): the step couples parameters",
                    defect.value,
                    shapes,
                )
            most = max(most, defect, key=lambda each: each.ratio)
    return Outcome(
        Verdict.SUPPORTED,
        evidence=Evidence(
            examples=2 * len(candidates[:2]),
            steps=STEPS,
            defect=most.value,
            noise_floor=most.floor,
            shapes=tuple(shape for shapes in candidates for shape in shapes),
        ),
    )


def _scaled(inputs: Inputs, scale: float) -> Inputs:
    return inputs.map(lambda tensor: tensor * scale)


def _join(*several: Inputs) -> Inputs:
    """Several blocks as parameters of one optimizer."""
    return Inputs(
        tuple(weight for inputs in several for weight in inputs.weights),
        tuple(tuple(grad for inputs in several for grad in inputs.grads[step]) for step in range(several[0].steps)),
    )


def _refuted(reason: str, defect: float, shapes: Shapes) -> Outcome:
    return Outcome(Verdict.REFUTED, reason, evidence=Evidence(examples=1, steps=STEPS, defect=defect, shapes=shapes))
