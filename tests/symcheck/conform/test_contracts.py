"""Contracts of implementations: what each of them catches, and whom it does not accuse."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import pytest
import torch

from groups import get_block
from symcheck.probe.contracts import check_contract
from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.contracts.processes import run_sharded
from symcheck.probe.contracts.shard_invariance import Sharded, shard_cases
from symcheck.probe.names import BUDGETS, CONTRACTS, ON_REQUEST, plan
from symcheck.probe.nature import observe
from symcheck.probe.strata import draw_inputs
from symcheck.result import Verdict
from symcheck.selftest import implementations
from symcheck.target import Candidate

Make = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


def _setting(make: Make, name: str = "mine") -> Setting:
    candidate = Candidate(name, {}, make)
    nature = observe(candidate, draw_inputs("generic", ((3, 2),), 2, centre=False, seed=0))
    return Setting(candidate, nature, get_block("matrix"), BUDGETS["quick"], 0)


def _outcome(contract: str, make: Make, name: str = "mine") -> Outcome:
    setting = _setting(make, name)
    return check_contract(contract, setting.candidate, setting.nature, setting.block, setting.budget, 0)


def _adamw(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=0.1)


def _muon(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Muon(params, lr=0.1)


def test_a_survey_leaves_out_what_takes_seconds() -> None:
    surveyed = {question.property for question in plan(["matrix"])}
    assert "shard_invariance" in ON_REQUEST
    assert not surveyed & ON_REQUEST
    assert CONTRACTS.keys() - ON_REQUEST <= surveyed
    assert {question.property for question in plan(["matrix"], ["shard_invariance"])} == {"shard_invariance"}


# -- gradient_split ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [_adamw, _muon, implementations.CountsInBackward])
def test_steps_on_sums_are_steps_on_accumulated_gradients(make: Make) -> None:
    assert _outcome("gradient_split", make).verdict is Verdict.SUPPORTED


@pytest.mark.parametrize("make", [implementations.OrthogonalisesInBackward, implementations.StepsInBackward])
def test_what_runs_in_backward_is_caught(make: Make) -> None:
    outcome = _outcome("gradient_split", make)
    assert outcome.verdict is Verdict.REFUTED
    assert "2 micro-batches" in outcome.reason
    assert outcome.evidence.defect is not None
    assert outcome.evidence.defect > 0.01
    assert outcome.evidence.witness is not None  # it can be replayed


# -- layout ------------------------------------------------------------------------------------------------------------


def test_readings_of_a_convolution() -> None:
    everything = _outcome("layout", _adamw)
    assert everything.verdict is Verdict.SUPPORTED
    assert "[out, rest] or a stack of kernels" in everything.conditions[0]
    flattening = _outcome("layout", implementations.FlattensConvolutions)
    assert flattening.conditions == ("a convolution is read as [out, rest]",)


def test_a_scale_of_other_axes_is_caught_with_its_factor() -> None:
    outcome = _outcome("layout", implementations.ScalesByKernel)
    assert outcome.verdict is Verdict.REFUTED
    assert "4x3x3x2" in outcome.reason
    assert f"{1.5**0.5:.4g} times as far" in outcome.reason


def test_heads_are_blocks() -> None:
    from reference.optimizers import OPTIMIZERS

    def heads(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return OPTIMIZERS["muon_heads"](params, lr=0.1)

    assert _outcome("layout", heads).conditions == ("heads are blocks of rows, stepped one by one",)


def test_heads_are_accused_of_what_no_storage_explains() -> None:
    scaled = _outcome("layout", implementations.ScalesHeadsTogether)
    assert scaled.verdict is Verdict.REFUTED
    assert f"blocks of rows, but stepped {1.5**0.5:.4g} and 1 times as far" in scaled.reason
    interleaved = _outcome("layout", implementations.InterleavesHeads)
    assert interleaved.verdict is Verdict.DECLINED
    assert "heads in a way of its own" in interleaved.reason


def test_a_declared_orientation_is_the_transposed_parameter() -> None:
    from reference.optimizers import OPTIMIZERS

    def rows(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return OPTIMIZERS["row_norm"](params, lr=0.1)

    outcome = _outcome("layout", rows)
    assert outcome.verdict is Verdict.SUPPORTED
    assert "orientation='col' is the transposed parameter" in outcome.conditions


def test_an_option_without_effect_declares_nothing() -> None:
    from reference.optimizers import OPTIMIZERS

    def spectral(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return OPTIMIZERS["scion"](params, lr=0.1)  # `transpose` is for other norms

    outcome = _outcome("layout", spectral)
    assert outcome.verdict is not Verdict.REFUTED
    assert not any("transpose" in condition for condition in outcome.conditions)


def test_nothing_declared_is_vacuous() -> None:
    outcome = _outcome("layout", _muon)
    assert outcome.verdict is Verdict.VACUOUS
    assert "declares no heads and no orientation" in outcome.reason


# -- state_conformance -------------------------------------------------------------------------------------------------


def test_torch_and_rules_have_their_reference() -> None:
    outcome = _outcome("state_conformance", _adamw, "torch.optim.AdamW")
    assert outcome.verdict is Verdict.SUPPORTED
    assert outcome.conditions == ("against rule:adamw; state: exp_avg as mean, exp_avg_sq as square",)


def test_a_class_names_its_rule_and_is_held_to_it() -> None:
    outcome = _outcome("state_conformance", implementations.HalfCorrectedAdam)
    assert outcome.verdict is Verdict.REFUTED
    assert "parts from rule:adam at step 1" in outcome.reason
    assert "no bias correction of the second moment" in outcome.reason
    assert _outcome("state_conformance", implementations.HeavyRowNorm).verdict is Verdict.SUPPORTED


def test_without_a_reference_there_is_nothing_to_follow() -> None:
    outcome = _outcome("state_conformance", _adamw)
    assert outcome.verdict is Verdict.VACUOUS
    assert "symcheck conform TARGET --against" in outcome.reason


# -- shard_invariance --------------------------------------------------------------------------------------------------


def _broken(cases: list[Sharded]) -> set[str]:
    assert not any(case.refusal for case in cases)
    return {case.axis for case in cases if case.broken}


def test_real_groups_of_two_and_four_processes() -> None:
    outcome = _outcome("shard_invariance", _adamw)
    assert outcome.verdict is Verdict.SUPPORTED, outcome.reason
    assert outcome.conditions == ("sharded by rows, columns, experts over 2 and 4 processes",)


def test_newton_schulz_of_every_shard_is_caught() -> None:
    cases = shard_cases(_setting(implementations.ShardwiseNewtonSchulz), worlds=(2,))
    assert {"rows", "columns"} <= _broken(cases)
    assert max(case.defect for case in cases) > 0.1


def test_row_normalisation_of_every_shard_is_right_until_rows_are_cut() -> None:
    assert _broken(shard_cases(_setting(implementations.ShardwiseRowNorm), worlds=(2,))) == {"columns"}


def test_an_operation_without_a_sharded_form_is_declined_by_name() -> None:
    class Mixed(torch.optim.Optimizer):
        """Adds a plain tensor to what may be a shard."""

        def __init__(self, params) -> None:
            super().__init__(params, {"lr": 0.1})

        @torch.no_grad()
        def step(self, closure=None):
            for param in self.param_groups[0]["params"]:
                param.add_(torch.full(tuple(param.shape), 0.1, dtype=param.dtype) * param.grad)

    (refused, *_) = shard_cases(_setting(Mixed), worlds=(2,))
    assert "refuses DTensor at aten." in refused.refusal


def test_no_process_is_left_behind() -> None:
    class Hangs(torch.optim.SGD):
        """One process of a group waits for ever."""

        def step(self, closure=None):
            import torch.distributed as dist

            if dist.is_initialized() and dist.get_rank() == 1:
                import time

                time.sleep(1000)
            return super().step(closure)

    candidate = Candidate("hangs", {}, lambda params: Hangs(params, lr=0.1))
    from symcheck.probe.arithmetic import PLAIN
    from symcheck.probe.contracts.processes import Task

    task = Task(draw_inputs("generic", ((4, 2),), 1, centre=False, seed=0), 0)
    (answer,) = run_sharded(candidate, [task], processes=2, arithmetic=PLAIN, seed=0, time_limit=4.0)
    assert answer.displacements is None
    assert "time limit" in answer.error
    assert not multiprocessing.active_children()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
