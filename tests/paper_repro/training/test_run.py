"""Runs: they learn, they are what they say, they stop and go on without a trace, and failures are results."""

import json
import math
from importlib import resources

import jsonschema
import pytest
import torch

from paper_repro.presets import default_spec
from paper_repro.records import RunInterrupted, RunRecord, read_record, read_records
from paper_repro.training import run as module
from paper_repro.training.run import run_one

SCHEMA = json.loads(resources.files("paper_repro").joinpath("schema/run.json").read_text())


@pytest.fixture
def train(tiny, tmp_path):
    def one(preset="smoke/qwen3", optimizer="row-muon", results=tmp_path / "results", **fields):
        keywords = {key: fields.pop(key) for key in ("stop", "sequences_per_forward", "certify") if key in fields}
        spec = default_spec(preset, optimizer, **fields)
        return run_one(spec, results=results, data=tiny, **{"certify": False, "progress": False, **keywords})

    return one


def after(steps):
    """A ``stop`` that is true once ``steps`` steps are done."""
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= steps


CASES = [
    ("smoke/qwen3", "row-muon"),
    ("smoke/qwen3", "hybrid-hybrid"),
    ("smoke/qwen3", "adamw"),
    ("smoke/olmoe", "row-muon-left"),
    ("smoke/gpt-oss", "adamw-row-row"),
]


@pytest.mark.parametrize(("preset", "optimizer"), CASES)
def test_losses_fall_and_the_record_is_what_the_schema_says(train, tmp_path, preset, optimizer):
    record = train(preset, optimizer)
    uniform = math.log(320)
    assert record.outcome == "finished"
    assert abs(record.curves["val_loss"][0] - uniform) < 0.1 * uniform  # initial logits are near zero
    assert record.curves["val_loss"][-1] < 0.95 * uniform
    assert record.curves["step"] == list(range(1, 13))
    assert record.curves["val_step"] == [0, 6, 12]
    assert record.diagnostics["step"] == [0, 4, 8, 12]
    assert all(len(series) == 4 and all(map(math.isfinite, series)) for series in record.diagnostics.values())
    line = (tmp_path / "results" / f"{record.id}.json").read_text()
    assert line.count("\n") == 1
    jsonschema.validate(json.loads(line), SCHEMA)
    assert read_record(tmp_path / "results" / f"{record.id}.json") == record
    assert [each.id for each in read_records(tmp_path / "results")] == [record.id]


def test_a_run_that_has_a_record_is_not_repeated(train, monkeypatch):
    first = train(steps=2)
    monkeypatch.setattr(module, "_train", lambda *_: pytest.fail("trained again"))
    assert train(steps=2) == first


def test_the_seed_decides_everything_but_the_optimizer(train):
    starts = [
        train(optimizer=name, seed=seed, steps=1).curves for name, seed in (("row-muon", 0), ("adamw", 0), ("adamw", 1))
    ]
    losses = [(curves["val_loss"][0], curves["train_loss"][0]) for curves in starts]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(("preset", "optimizer"), [CASES[0], CASES[4]])
def test_a_resumed_run_is_the_same_run_bit_for_bit(train, tmp_path, preset, optimizer):
    whole = train(preset, optimizer)
    for stop in (after(5), after(2)):
        with pytest.raises(RunInterrupted, match="call it again"):
            train(preset, optimizer, results=tmp_path / "pieces", stop=stop)
    assert not list(read_records(tmp_path / "pieces"))
    pieces = train(preset, optimizer, results=tmp_path / "pieces")
    assert pieces.curves == whole.curves
    assert pieces.diagnostics == whole.diagnostics
    assert not (tmp_path / "pieces" / "checkpoints" / whole.id).exists()


def test_a_crash_while_saving_loses_no_more_than_the_last_steps(train, tmp_path, monkeypatch):
    whole, pieces = train(), tmp_path / "pieces"
    with pytest.raises(RunInterrupted):
        train(results=pieces, stop=after(4))
    save = module.checkpoint.dcp.save

    def crashes(*args, **keywords):
        save(*args, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.checkpoint.dcp, "save", crashes)
    with pytest.raises(KeyboardInterrupt):
        train(results=pieces, stop=after(4))
    monkeypatch.undo()
    assert [each.name for each in (pieces / "checkpoints" / whole.id).glob("step-*")] == ["step-4"]


def test_nothing_of_a_crash_is_used(train, tmp_path, monkeypatch):
    whole, pieces = train(), tmp_path / "pieces"
    with pytest.raises(RunInterrupted):
        train(results=pieces, stop=after(4))
    folder = pieces / "checkpoints" / whole.id
    (folder / "partial-8").mkdir()  # begun, and never finished
    (folder / "step-9").mkdir()
    assert train(results=pieces).curves == whole.curves


def test_accumulation_changes_nothing_but_rounding(train, tmp_path):
    """Gradients are means over the same sequences; each loss of the first step is exact up to the order of a sum."""
    once, pieces = (
        train(results=tmp_path / str(size), sequences_per_forward=size, steps=1).curves["train_loss"][0]
        for size in (8, 2)
    )
    assert abs(once - pieces) <= 8 * torch.finfo(torch.float32).eps * abs(once)


def test_divergence_is_a_result(train, tmp_path):
    record = train(rates={"embedding": 1e30, "attention": 1e30})
    assert record.outcome == "diverged"
    assert "loss" in record.message
    assert math.isnan(record.final["val_loss"])
    jsonschema.validate(json.loads((tmp_path / "results" / f"{record.id}.json").read_text()), SCHEMA)


def test_what_does_not_fit_is_said_in_one_line(train, tmp_path, tiny):
    for fields, message in (
        ({"optimizer": "row-muno"}, "unknown choice 'muno'"),
        ({"optimizer": "right-muon"}, "no learning rate for role 'embedding' with rule 'right'"),
        ({"preset": "smoke/olmoe"}, "has no rule for the router"),
        ({"preset": "smoke/none"}, "unknown preset"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            train(**fields)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="paper_repro data tiny"):
        run_one(default_spec("smoke/qwen3", "adamw"), results=tmp_path, data=tmp_path, certify=False)
    with pytest.raises(ValueError, match="device must be cpu or cuda"):
        run_one(default_spec("smoke/qwen3", "adamw"), results=tmp_path, data=tiny, device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_said_so(tiny, tmp_path):
    with pytest.raises(ValueError, match="no CUDA device here: use --device cpu"):
        run_one(default_spec("smoke/qwen3", "adamw"), results=tmp_path, data=tiny, device="cuda")


def test_the_tuning_split_is_another_one(train):
    found = [train(split=split, steps=1) for split in ("validation", "tuning")]
    assert found[0].curves["val_loss"][0] != found[1].curves["val_loss"][0]
    assert found[0].id != found[1].id


def test_records_survive_their_json(train):
    record = train(steps=1)
    assert RunRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    with pytest.raises(ValueError, match="unknown keys: extra"):
        RunRecord.from_json({**record.to_json(), "extra": 1})
