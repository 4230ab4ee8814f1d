"""torch.optim and the reference agree over trajectories, in float64, over every option that both have.

All bounds are forward error bounds, in units of the roundoff: a defect of a formula is many orders of magnitude larger.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from reference import optimizers
from reference.orthogonalizers import NewtonSchulz

STEPS = 5
UNIT = 2.0**-53
SHAPES = ((3, 4), (4, 3), (5,), ())
quick = settings(max_examples=40, deadline=None)

paths = st.sampled_from([{"foreach": False}, {"foreach": True}])
fused_paths = st.sampled_from([{"foreach": False}, {"foreach": True}, {"fused": True}])
rates = st.sampled_from([1e-3, 1e-2, 0.1])
decays = st.sampled_from([0.0, 1e-2, 0.1])
fractions = st.sampled_from([0.0, 0.5, 0.9])
seeds = st.integers(0, 2**20)


def entries(shape, generator, low, high):
    """Entries of random sign with sizes in [low, high], so that no denominator is close to zero."""
    size = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    return torch.where(torch.rand(shape, generator=generator) < 0.5, size, -size)


def assert_same_trajectory(theirs, ours, seed):
    """Both optimizers on the same gradients; after every step the weights agree to rounding.

    Sizes: gradients lie in [1/2, 2] and weights start in [-1, 1] and stay in [-2, 2], so decay (at most 0.1) leaves
    every gradient entry above 1/4, and no sum loses more than the factor 8 = 2 / (1/4) by cancellation. At most 16
    operations make one entry of an update, each with an error of one roundoff of its largest term; an average over
    the steps at most doubles that. A variance (centred RMSprop) is at least ``alpha^t >= 2^-5`` of the mean square it
    is the rest of, by Cauchy-Schwarz. Updates are bounded by the largest that is seen, the weights by 2 and rounded
    four times.
    """
    generator = torch.Generator().manual_seed(seed)
    start = [entries(shape, generator, 0.0, 1.0) for shape in SHAPES]
    left, right = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    first, second = theirs(left), ours(right)
    largest = 0.0
    for step in range(1, STEPS + 1):
        before = [value.detach().clone() for value in right]
        for a, b in zip(left, right, strict=True):
            grad = entries(a.shape, generator, 0.5, 2.0)
            a.grad, b.grad = grad.clone(), grad.clone()
        first.step()
        second.step()
        largest = max(
            largest, *((new.detach() - old).abs().max().item() for new, old in zip(right, before, strict=True))
        )
        bound = step * UNIT * (4 * 2 + 8 * 16 * 2 * 32 * largest)
        for a, b in zip(left, right, strict=True):
            assert (a - b).abs().max() <= bound
    assert largest > 0


@quick
@given(seeds, rates, decays, fractions, fractions, st.booleans(), st.booleans(), fused_paths)
def test_sgd(seed, lr, weight_decay, momentum, dampening, nesterov, maximize, path):
    nesterov = nesterov and momentum > 0
    shared = {
        "lr": lr,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "dampening": 0.0 if nesterov else dampening,
        "nesterov": nesterov,
        "maximize": maximize,
    }
    assert_same_trajectory(
        lambda params: torch.optim.SGD(params, **shared, **path), lambda params: optimizers.SGD(params, **shared), seed
    )


@quick
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@given(
    seed=seeds,
    lr=rates,
    weight_decay=decays,
    betas=st.tuples(fractions, st.sampled_from([0.5, 0.95, 0.999])),
    eps=st.sampled_from([0.0, 1e-8, 1e-2]),
    amsgrad=st.booleans(),
    maximize=st.booleans(),
    path=fused_paths,
)
def test_adam(name, seed, path, **shared):
    assert_same_trajectory(
        lambda params: getattr(torch.optim, name)(params, **shared, **path),
        lambda params: getattr(optimizers, name)(params, **shared),
        seed,
    )


@quick
@given(
    seed=seeds,
    lr=st.sampled_from([1e-3, 1e-2]),
    weight_decay=decays,
    alpha=st.sampled_from([0.5, 0.9, 0.99]),
    eps=st.sampled_from([1e-8, 1e-2]),
    momentum=fractions,
    centered=st.booleans(),
    maximize=st.booleans(),
    path=paths,
)
def test_rmsprop(seed, alpha, path, **shared):
    assert_same_trajectory(
        lambda params: torch.optim.RMSprop(params, alpha=alpha, **shared, **path),
        lambda params: optimizers.RMSprop(params, beta=alpha, **shared),
        seed,
    )


@quick
@given(
    seed=seeds,
    lr=rates,
    lr_decay=st.sampled_from([0.0, 0.1]),
    weight_decay=decays,
    initial_accumulator_value=st.sampled_from([0.0, 0.25]),
    eps=st.sampled_from([1e-10, 1e-2]),
    maximize=st.booleans(),
    path=fused_paths,
)
def test_adagrad(seed, path, **shared):
    assert_same_trajectory(
        lambda params: torch.optim.Adagrad(params, **shared, **path),
        lambda params: optimizers.AdaGrad(params, **shared),
        seed,
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda p: torch.optim.Adam(p, eps=1e-8), lambda p: optimizers.Adam(p, eps=2e-8)),
        (lambda p: torch.optim.AdamW(p, weight_decay=0.1), lambda p: optimizers.Adam(p, weight_decay=0.1)),
        (
            lambda p: torch.optim.SGD(p, momentum=0.9, dampening=0.5),
            lambda p: optimizers.SGD(p, momentum=0.9, dampening=0.0),
        ),
        (lambda p: torch.optim.RMSprop(p), lambda p: optimizers.RMSprop(p, centered=True)),
    ],
    ids=["eps", "decay", "dampening", "centered"],
)
def test_the_bound_sees_a_wrong_formula(theirs, ours):
    with pytest.raises(AssertionError):
        assert_same_trajectory(theirs, ours, seed=0)


class PromoteCasts(TorchDispatchMode):
    """Turns every cast to bfloat16 into one to float64 and counts them."""

    def __init__(self):
        super().__init__()
        self.casts = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16:
            kwargs["dtype"] = torch.float64
            self.casts += 1
        return func(*args, **kwargs)


def amplification(sigma, coefficients, steps):
    """How much ``steps`` quintic steps enlarge a small perturbation of a matrix with singular values ``sigma``.

    In the singular bases the derivative of an odd matrix function multiplies the entries of a perturbation by divided
    differences of the scalar function between the values ``+-sigma_i`` (Daleckii and Krein); the largest is its norm.
    """
    a, b, c = coefficients
    x = np.concatenate([sigma, -sigma])
    y, slope = x, np.ones_like(x)
    for _ in range(steps):
        slope = slope * (a + 3 * b * y**2 + 5 * c * y**4)
        y = a * y + b * y**3 + c * y**5
    gap = x[:, None] - x
    near = np.abs(gap) < 1e-9
    differences = np.abs(y[:, None] - y) / np.where(near, np.inf, np.abs(gap))
    return max(np.abs(slope).max(), differences.max())


def newton_schulz_error(v, coefficients, steps, unit):
    """First-order bound, in the Frobenius norm, on the error of Newton-Schulz with every matrix rounded to ``unit``.

    Start: the cast, the norm and the division, one roundoff each. A step rounds the Gram matrix ``G = X X^T``, then
    ``Z = b G + c G^2`` and ``a X + Z X`` (an ``addmm`` may round its product and its sum). Each error is amplified by
    the steps that follow.
    """
    a, b, c = coefficients
    sigma = torch.linalg.svdvals(v)
    sigma = (sigma / sigma.norm()).numpy()
    error = 3 * unit * amplification(sigma, coefficients, steps)
    for step in range(steps):
        gram = sigma**2
        z = b * gram + c * gram**2
        rounded_z = (abs(b) + 2 * abs(c) * gram.max()) * unit * np.linalg.norm(gram) + 2 * unit * np.linalg.norm(z)
        new = np.abs(a * sigma + z * sigma)
        local = sigma.max() * rounded_z + 2 * unit * np.linalg.norm(new)
        error += local * amplification(new, coefficients, steps - step - 1)
        sigma = new
    return error, np.linalg.norm(sigma)


def well_conditioned(shape, seed):
    """Gradients with common singular vectors and singular values in [1, 1.5], so that no average is near singular."""
    generator = torch.Generator().manual_seed(seed)
    bases = [
        torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0][:, : min(shape)] for n in shape
    ]
    values = 1 + 0.5 * torch.rand(STEPS, min(shape), generator=generator, dtype=torch.float64)
    return [bases[0] @ torch.diag(value) @ bases[1].T for value in values]


muon_options = {
    "seed": seeds,
    "shape": st.sampled_from([(2, 2), (4, 4), (3, 7), (7, 3), (1, 5), (8, 6)]),
    "lr": rates,
    "weight_decay": decays,
    "momentum": fractions,
    "nesterov": st.booleans(),
    "ns_coefficients": st.sampled_from([(3.4445, -4.7750, 2.0315), (2.0, -1.5, 0.5)]),
    "ns_steps": st.integers(0, 6),
    "eps": st.sampled_from([1e-7, 1e-2]),
    "adjust_lr_fn": st.sampled_from([None, "original", "match_rms_adamw"]),
}


def muon_trajectories(mode, unit, *, seed, shape, ns_coefficients, ns_steps, eps, adjust_lr_fn, **shared):
    """After every step: the difference, its bound for a Newton-Schulz with roundoff ``unit``, and the path length."""
    grads = well_conditioned(shape, seed)
    start = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, right = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"ns_coefficients": ns_coefficients, "ns_steps": ns_steps, "eps": eps, "adjust_lr_fn": adjust_lr_fn}
    theirs = torch.optim.Muon([left], **shared, **options)
    ours = optimizers.MuonTorch(
        [right],
        **shared,
        adjust_lr=adjust_lr_fn or "original",
        orthogonalizer=NewtonSchulz((ns_coefficients,) * ns_steps, eps=eps, floor="clamp"),
    )
    scale = max(1, shape[0] / shape[1]) ** 0.5 if adjust_lr_fn != "match_rms_adamw" else 0.2 * max(shape) ** 0.5
    mu = shared["momentum"]
    buffer, error, size = torch.zeros(shape, dtype=torch.float64), 0.0, 0.0
    for grad in grads:
        left.grad, right.grad = grad.clone(), grad.clone()
        with mode:
            theirs.step()
        ours.step()
        buffer = mu * buffer + (1 - mu) * grad
        ahead = mu * buffer + (1 - mu) * grad if shared["nesterov"] else buffer
        step_error, norm = newton_schulz_error(ahead, ns_coefficients, ns_steps, unit)
        error += shared["lr"] * scale * step_error
        size += shared["lr"] * scale * norm
        # The weights themselves, at most 1 plus the path length in size, are rounded four times a step in float64.
        weights = len(grads) * 4 * UNIT * (start.norm() + size)
        yield (left - right).norm().item(), float(error + weights), size


@quick
@given(**muon_options)
def test_muon_with_promoted_casts_agrees_to_float64_rounding(**options):
    mode = PromoteCasts()
    # A product of float64 matrices rounds n times per entry; both sides compute all of them.
    unit = 2 * max(options["shape"]) * UNIT
    for difference, bound, size in muon_trajectories(mode, unit, **options):
        assert difference <= bound
        assert bound <= 1e-9 * max(size, 1)
    assert mode.casts == STEPS


@settings(max_examples=20, deadline=None)  # bfloat16 products are slow on some CPUs
@given(**muon_options)
def test_muon_agrees_up_to_its_bfloat16_casts(**options):
    unit = 2.0**-8
    for difference, bound, _ in muon_trajectories(torch.no_grad(), unit, **options):
        assert difference <= bound


def test_the_bfloat16_bound_says_something_at_the_defaults():
    defaults = {
        "seed": 0,
        "lr": 0.1,
        "weight_decay": 0.1,
        "momentum": 0.95,
        "nesterov": True,
        "ns_coefficients": (3.4445, -4.7750, 2.0315),
        "ns_steps": 5,
        "eps": 1e-7,
        "adjust_lr_fn": None,
    }
    for shape in ((2, 2), (3, 7), (8, 6)):
        for difference, bound, size in muon_trajectories(torch.no_grad(), 2.0**-8, shape=shape, **defaults):
            assert 1e-4 * size < difference <= bound < 2**0.5 * size  # the distance of unrelated rotations


@pytest.mark.parametrize("wrong", [{"momentum": 0.9}, {"nesterov": False}, {"accumulation": "heavy_ball"}])
def test_the_promoted_comparison_sees_a_wrong_convention(wrong):
    """With eps = 1e-2 even heavy ball, the same direction in the limit, is told from the moving average."""
    left, right = (nn.Parameter(torch.zeros(2, 3, dtype=torch.float64)) for _ in range(2))
    options = {"lr": 0.1, "momentum": 0.95}
    theirs = torch.optim.Muon([left], eps=1e-2, **options)
    method = NewtonSchulz(((3.4445, -4.7750, 2.0315),) * 5, eps=1e-2, floor="clamp")
    ours = optimizers.MuonTorch([right], orthogonalizer=method, **{**options, **wrong})
    generator = torch.Generator().manual_seed(0)
    with PromoteCasts():
        for _ in range(3):
            left.grad = 1e-2 * torch.randn(2, 3, generator=generator, dtype=torch.float64)
            right.grad = left.grad.clone()
            theirs.step()
            ours.step()
    assert (left - right).abs().max() > 1e-3
