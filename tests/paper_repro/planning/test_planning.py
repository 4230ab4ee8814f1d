"""From records to pairs, verdicts and the plan, on records of runs with known losses."""

from __future__ import annotations

import dataclasses
import math
import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_repro.planning import claims as claims_module
from paper_repro.planning import study as study_module
from paper_repro.planning.pairs import gather, secondary
from paper_repro.planning.plan import MORE_SEEDS, TUNING, make_plan, remaining_seconds
from paper_repro.planning.queue import LOCK, work
from paper_repro.planning.runs import Runs
from paper_repro.planning.verdicts import verdicts
from paper_repro.records import RunInterrupted
from paper_repro.statistics import Finding
from tests.paper_repro.synthetic import STEPS, Catalogue, record

PRESET = "scaled/qwen3-s"
STUDY = study_module.parse(
    """
scale = "scaled"
[tuning]
factors = [0.5, 1.0, 2.0]
roles = ["embedding", "lm_head"]
seed = 1000
steps_share = 0.5
[[stage]]
name = "core"
presets = ["scaled/qwen3-s"]
optimizers = ["adamw-muon", "row-muon"]
seeds = 3
"""
)
CLAIMS = claims_module.parse(
    """
[[claim]]
id = "A"
source = "paper"
statement = "row-norm ends below AdamW"
comparisons = [
    { family = "qwen3", treatment = "row-muon", baseline = "adamw-muon", metric = "final_loss", direction = "lower" },
]
[[claim]]
id = "B"
source = "ours"
statement = "row-norm keeps logits small"
comparisons = [
    { family = "qwen3", metric = "largest_logit", treatment = "row-muon", baseline = "adamw-muon", direction="lower" },
]
"""
)
BEST = {"adamw-muon": 2.0, "row-muon": 1.0}
"""The factor of the learning rates that is best in this world."""


def outcome(spec, losses, **more):
    """The run of ``spec``: trials are best at `BEST`, full runs have the loss ``losses[optimizer][seed]``."""
    if spec.split == "tuning":
        base = Catalogue().rates(PRESET, spec.optimizer)["embedding"]
        return record(spec, 4.5 + abs(math.log(spec.rates["embedding"] / base / BEST[spec.optimizer])))
    loss = losses[spec.optimizer][spec.seed]
    if not math.isfinite(loss):
        return record(spec, outcome="diverged", **more)
    return record(spec, loss, diagnostics={"head_max_logit": [10.0 + loss] * 7}, **more)


def runs_of(records, **more):
    return Runs.of(STUDY, Catalogue(), records, **more)


def carried_out(losses, claims=(), **more):
    """All records after every job of the plan has been done."""
    done = []
    while jobs := [job for job in make_plan(runs_of(done), claims) if job.status == "todo"]:
        done.append(outcome(jobs[0].spec, losses, **more))
    return done


CLEAR = {"adamw-muon": [4.20, 4.21, 4.19] + [4.2] * 5, "row-muon": [4.17, 4.182, 4.161] + [4.17] * 5}


def test_learning_rates_come_first_and_decide():
    jobs = make_plan(runs_of([]))
    assert [job.stage for job in jobs[:6]] == [TUNING] * 6
    assert {job.status for job in jobs[:6]} == {"todo"}
    assert {job.status for job in jobs[6:]} == {"waiting"}
    records = carried_out(CLEAR)
    jobs = make_plan(runs_of(records))
    assert {job.status for job in jobs} == {"done"}
    assert len(jobs) == len(records) == 2 * 3 + 2 * 3
    for job in jobs[6:]:
        base = Catalogue().rates(PRESET, job.optimizer)
        factor = BEST[job.optimizer]
        assert job.spec.rates == {role: base[role] * factor for role in ("embedding", "lm_head")}
    assert runs_of(records).choice(PRESET, "adamw-muon").at_edge
    assert not runs_of(records).choice(PRESET, "row-muon").at_edge


def test_every_configuration_gets_the_same_trials():
    by_optimizer = {}
    for job in make_plan(runs_of([])):
        if job.stage == TUNING:
            by_optimizer.setdefault(job.optimizer, []).append(job.spec)
    first, *others = by_optimizer.values()
    for other in others:
        assert [(s.seed, s.steps, s.split, s.precision) for s in first] == [
            (s.seed, s.steps, s.split, s.precision) for s in other
        ]
    assert all(spec.split == "tuning" and spec.seed == 1000 and spec.steps == STEPS // 2 for spec in first)


def test_pairs_are_complete_as_early_as_possible():
    jobs = [job for job in make_plan(runs_of([])) if job.stage == "core"]
    assert [(job.seed, job.optimizer) for job in jobs[:4]] == [
        (0, "adamw-muon"), (0, "row-muon"), (1, "adamw-muon"), (1, "row-muon"),
    ]  # fmt: skip


def test_time_that_remains():
    jobs = make_plan(runs_of([]))
    assert remaining_seconds(jobs) == (0.0, len(jobs))
    records = carried_out(CLEAR)
    jobs = make_plan(runs_of(records[:-1]))
    seconds, unknown = remaining_seconds(jobs)
    assert unknown == 0
    assert seconds == pytest.approx(0.6 * STEPS)


def test_verdicts():
    found = {verdict.claim.id: verdict for verdict in verdicts(runs_of(carried_out(CLEAR)), CLAIMS)}
    assert found["A"].finding is Finding.CONFIRMED
    (row,) = found["A"].rows
    assert row.judgement.pairs == 3
    assert row.judgement.mean == pytest.approx(-0.029)
    assert row.secondary.steps_share < 1
    assert row.secondary.late_difference < 0
    assert found["B"].finding is Finding.NO_DIFFERENCE, "the logits differ by 0.2 %"


def test_nothing_is_tested_before_all_planned_seeds_have_run():
    records = [r for r in carried_out(CLEAR) if r.spec.seed != 2]
    verdict = verdicts(runs_of(records), CLAIMS)[0]
    assert verdict.finding is Finding.INCONCLUSIVE
    assert "2 of 3 planned seeds" in verdict.rows[0].reason
    assert verdict.rows[0].judgement.p_claimed == 1.0
    assert verdicts(runs_of([]), CLAIMS)[0].finding is Finding.NOT_RUN


def test_inconclusive_comparisons_get_more_seeds():
    close = {
        "adamw-muon": [4.2, 4.2, 4.2, 4.2, 4.2, 4.2, 4.2, 4.2],
        "row-muon": [4.19, 4.17, 4.1999, 4.18, 4.17, 4.182, 4.18, 4.181],
    }
    jobs = make_plan(runs_of(carried_out(close)), CLAIMS[:1])
    extra = [job for job in jobs if job.stage == MORE_SEEDS]
    assert extra
    assert extra[0].seed == 3
    assert {job.optimizer for job in extra} == set(close)
    records = carried_out(close, CLAIMS[:1])
    verdict = verdicts(runs_of(records), CLAIMS[:1])[0]
    assert verdict.finding is Finding.CONFIRMED
    assert verdict.rows[0].judgement.pairs > 3


def test_seeds_end_at_eight():
    never = {"adamw-muon": [4.2] * 8, "row-muon": [4.2 + 0.02 * (-1) ** seed for seed in range(8)]}
    records = carried_out(never, CLAIMS[:1])
    assert max(r.spec.seed for r in records if r.spec.split == "validation") == 7
    verdict = verdicts(runs_of(records), CLAIMS[:1])[0]
    assert verdict.finding is Finding.INCONCLUSIVE
    assert "eight seeds did not settle it" in verdict.rows[0].reason


NAN = math.nan


@pytest.mark.parametrize(
    ("adamw", "row", "finding", "noted"),
    [
        ([4.2, 4.21, 4.19], [NAN, 4.18, 4.16], Finding.INCONCLUSIVE, "one run diverged in 1 of 3"),
        ([4.2, 4.21, 4.19], [NAN, NAN, NAN], Finding.INCONCLUSIVE, "one run diverged in 3 of 3"),
        ([NAN, 4.21, 4.19], [NAN, 4.18, 4.161], Finding.CONFIRMED, "both runs diverged in 1 of 3"),
        ([NAN, NAN, NAN], [NAN, NAN, NAN], Finding.INCONCLUSIVE, "both runs diverged in 3 of 3"),
    ],
)
def test_divergence(adamw, row, finding, noted):
    """A diverged run counts with its initial loss. Where all treatments diverge the differences have no spread but
    that of the baseline: enough to refute."""
    losses = {"adamw-muon": adamw, "row-muon": row}
    verdict = verdicts(runs_of(carried_out(losses)), CLAIMS)[0]
    if all(map(math.isnan, row)) and not any(map(math.isnan, adamw)):
        finding = Finding.REFUTED
    assert verdict.finding is finding
    assert noted in verdict.rows[0].reason


def test_a_treatment_that_diverges_confirms_nothing_about_its_logits():
    losses = {"adamw-muon": [9.0, 9.1, 9.2, 9.0], "row-muon": [4.0, 4.1, 4.3, NAN]}
    study = dataclasses.replace(STUDY, stages=(dataclasses.replace(STUDY.stages[0], seeds=4),))
    done = []
    while jobs := [j for j in make_plan(Runs.of(study, Catalogue(), done)) if j.status == "todo"]:
        done.append(outcome(jobs[0].spec, losses))
    row = verdicts(Runs.of(study, Catalogue(), done), CLAIMS)[1].rows[0]
    assert row.finding is Finding.INCONCLUSIVE
    assert "not confirmed" in row.reason


def test_failed_runs_are_no_results():
    records = carried_out(CLEAR)
    broken = [dataclasses.replace(r, outcome="failed") if r.spec.seed == 1 else r for r in records]
    verdict = verdicts(runs_of(broken), CLAIMS)[0]
    assert verdict.finding is Finding.INCONCLUSIVE
    assert "2 of 3" in verdict.rows[0].reason


def test_losses_compare_only_within_one_manifest_and_code_version():
    records = carried_out(CLEAR)
    foreign = [outcome(r.spec, CLEAR, manifest="cd" * 32) for r in records if r.spec.split == "validation"]
    old = [dataclasses.replace(r, code="0") for r in records]
    mixed = runs_of([*foreign, *old, *records])
    assert dict(mixed.records) == {r.spec: r for r in records}
    assert sum(mixed.left_out.values()) == len(foreign) + len(old)
    chosen = runs_of([*foreign, *records], manifests={PRESET: "cd" * 32})
    assert {r.manifest for r in chosen.records.values()} == {"cd" * 32}


def test_all_trials_diverged():
    records = [record(job.spec, outcome="diverged") for job in make_plan(runs_of([])) if job.stage == TUNING]
    jobs = make_plan(runs_of(records))
    assert [job.status for job in jobs].count("waiting") == 6
    choice = runs_of(records).choice(PRESET, "row-muon")
    assert choice.settled
    assert choice.rates is None


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 12))
def test_order_and_number_of_records_do_not_confuse_the_plan(order, kept):
    """Any part of the records in any order: what is there is done, once, and nothing else is."""
    every = carried_out(CLEAR)
    some = [every[i] for i in order[:kept]]
    jobs = make_plan(runs_of(some))
    assert len(jobs) == 12
    specs = [job.spec for job in jobs if job.spec is not None]
    assert len(set(specs)) == len(specs)
    done = {job.spec for job in jobs if job.status == "done"}
    assert done <= {r.spec for r in some}
    assert {r.spec for r in some if r.spec.split == "tuning"} <= done


def test_secondary_without_finished_pairs():
    evidence = gather(runs_of([]), CLAIMS[0].comparisons[0], PRESET)
    assert math.isnan(secondary(evidence.pairs).steps_share)


# The queue


def queue(done, results, run=None, **more):
    def plain(spec, stop):
        return outcome(spec, CLEAR)

    def keep(spec, stop):
        made = (run or plain)(spec, stop)
        done.append(made)
        return made

    return work(lambda: make_plan(runs_of(done)), keep, results=results, **more)


def test_a_queue_does_the_plan_once(tmp_path):
    done = []
    summary = queue(done, tmp_path)
    assert summary.ending == "finished"
    assert len(summary.added) == len(done) == 12
    again = queue(done, tmp_path)
    assert again.ending == "finished"
    assert not again.added


def test_a_queue_without_time_runs_nothing(tmp_path):
    done = []
    assert queue(done, tmp_path, seconds=0.0).ending == "time"
    assert not done


def test_a_signal_stops_the_run_and_the_queue(tmp_path):
    done = []

    def run(spec, stop):
        if len(done) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop()
            raise RunInterrupted("checkpoint saved")
        return outcome(spec, CLEAR)

    before = signal.getsignal(signal.SIGTERM)
    assert queue(done, tmp_path, run).ending == "signal"
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(done) == 4
    assert queue(done, tmp_path).ending == "finished"
    assert len(done) == 12


def test_one_queue_per_folder(tmp_path):
    def run(spec, stop):
        with pytest.raises(BlockingIOError, match="another queue works in"):
            queue([], tmp_path)
        return outcome(spec, CLEAR)

    queue([], tmp_path, run)
    assert (tmp_path / LOCK).exists()


def test_a_record_that_the_plan_does_not_see_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="asks for it again"):
        work(lambda: make_plan(runs_of([])), lambda spec, stop: outcome(spec, CLEAR), results=tmp_path)


def test_learning_rates_that_all_diverged_end_the_queue(tmp_path):
    summary = queue([], tmp_path, lambda spec, stop: record(spec, outcome="diverged"))
    assert summary.ending == "waiting"
    assert len(summary.added) == 6
