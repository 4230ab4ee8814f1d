"""What surrounds a run: certification, estimates, progress, and the commands."""

import json
import os
import signal

import pytest
import torch
from click.testing import CliRunner

from paper_repro.data.command import command as data_command
from paper_repro.models import build
from paper_repro.presets import default_spec, load_preset
from paper_repro.records import RunInterrupted, read_records
from paper_repro.training import certify
from paper_repro.training.certify import Question, certify_stack, questions
from paper_repro.training.command import command as run_command
from paper_repro.training.command import stop_on_signal
from paper_repro.training.estimates import PEAKS, estimate
from paper_repro.training.log import Progress, duration
from paper_repro.training.stack import make_optimizer


def stack(name, optimizer):
    preset = load_preset(name)
    with torch.device("meta"):
        model = build(preset.family, **preset.model)
    return make_optimizer(model, default_spec(name, optimizer), preset)


def test_each_rule_is_asked_about_on_its_block_and_once():
    asked = questions(stack("smoke/olmoe", "row-muon-left"))
    assert {label: (each.rule, each.block) for label, each in asked.items()} == {
        "embedding": ("row_norm", "embedding"),
        "lm_head": ("row_norm", "lm_head"),
        "router": ("left_spectral", "router"),
        "attention_qkv": ("muon_heads", "attention_qkv"),
        "attention_o": ("muon_heads", "attention_o"),
        "expert_gate_up": ("expert_muon", "experts"),
        "expert_down": ("expert_muon", "experts"),
    }
    assert asked["lm_head"].settings == {"center_rows": True}
    assert asked["attention_qkv"].settings["heads"] == 2
    down = questions(stack("smoke/olmoe", "row-row-left"))["expert_down"]
    assert down.action == "(O(rows) x Perm(cols)) wr Perm(experts)"
    pairs = questions(stack("smoke/gpt-oss", "row-row-left"))["expert_gate_up"]
    assert "orientation" not in pairs.settings
    assert "pair" in pairs.note


def test_answers_do_not_depend_on_rates_and_are_kept(tmp_path, monkeypatch):
    asked = []

    def answer(new):
        asked.append(sorted(each.rule for each in new.values()))
        return {key: {"equivariance": {"verdict": "proved", "conditions": []}} for key in new}, None

    monkeypatch.setattr(certify, "_ask", answer)
    first = certify_stack(stack("smoke/qwen3", "row-muon"), tmp_path, "1")
    assert first["embedding"]["verdicts"]["equivariance"]["verdict"] == "proved"
    certify_stack(stack("smoke/qwen3", "row-muon"), tmp_path, "1")
    certify_stack(stack("scaled/qwen3-s", "row-muon"), tmp_path, "1")
    assert len(asked) == 1
    certify_stack(stack("smoke/qwen3", "adamw-muon"), tmp_path, "1")
    assert asked[1] == ["adamw", "adamw"]
    certify_stack(stack("smoke/qwen3", "row-muon"), tmp_path, "2")
    assert len(asked) == 3
    json.dumps(first)


def test_symcheck_is_really_asked():
    keys = {"good": Question("row_norm", {"center_rows": True}, "lm_head"), "bad": Question("adamw", {}, "embedding")}
    answers, failure = certify._ask(keys)
    assert failure is None
    assert answers["good"]["equivariance"]["verdict"] == "proved"
    assert answers["good"]["horizontality"]["verdict"] == "proved"
    assert answers["bad"]["equivariance"]["verdict"] == "refuted"


def test_a_question_without_an_answer_is_an_error_not_a_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(certify.sys, "executable", "false")
    found = certify_stack(stack("smoke/qwen3", "row-muon"), tmp_path, "1")
    assert found["embedding"]["verdicts"] == {"error": "symcheck ended with code 1"}
    assert not list(tmp_path.iterdir())  # so that it is asked again


def test_estimates_count_what_can_be_counted():
    found = estimate(default_spec("paper/olmoe", "adamw-muon-adamw"), devices=8, device="NVIDIA H200")
    assert round(found.parameters / 1e6) == 2824
    experts = 12 * 32 * 3 * 2048 * 1024
    assert found.active == found.parameters - experts + experts // 4
    assert found.tokens == 163_840 * 30_000
    assert found.device == "H200"
    one = estimate(default_spec("paper/olmoe", "adamw-muon-adamw"), device="H200")
    assert one.seconds == pytest.approx(8 * found.seconds)
    assert one.bytes_per_device > found.bytes_per_device > 8 * found.parameters
    # Six operations for every parameter that a token meets, but the embedding; attention and Newton-Schulz beside it.
    least = 6 * (found.active - 50304 * 2048) * found.tokens / one.speed
    assert least < one.seconds < 1.5 * least
    with pytest.raises(ValueError, match="no data sheet for device 'abacus'"):
        estimate(default_spec("smoke/qwen3", "adamw"), device="abacus")
    assert estimate(default_spec("smoke/qwen3", "adamw"), device="cpu").seconds < 600
    assert all(peaks == tuple(sorted(peaks, reverse=True)) for peaks in PEAKS.values())


def test_progress_says_where_it_is_and_how_long(capsys):
    progress = Progress("x", 10, 0)
    progress.point(5, {"train_loss": 1.5})
    progress.point(6, {"train_loss": 1.4})  # too soon after the last line
    progress.point(10, {"val_loss": 1.25})
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("  train")[0] for line in lines] == ["x  step 5/10", "x  step 10/10"]
    assert "val 1.2500" in lines[-1]
    assert [duration(seconds) for seconds in (0, 61, 3661)] == ["0:00", "1:01", "1:01:01"]


def test_a_signal_asks_once_and_interrupts_twice():
    with stop_on_signal() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):  # and what was before is back
        os.kill(os.getpid(), signal.SIGINT)


def invoke(command, *words):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


def test_commands_make_data_train_and_go_on(tiny, world, tmp_path, monkeypatch):
    root, results = tmp_path / "data", tmp_path / "results"
    assert "tiny  not made yet" in invoke(data_command, "--data", root).output
    assert "tiny:" in invoke(data_command, "tiny", "--data", root).output
    assert "tiny  ready" in invoke(data_command, "--data", root).output
    assert invoke(data_command, "tiny", "--data", root, "--verify").exit_code == 0
    run = ("smoke/qwen3", "row-muon", "--data", root, "--results", results, "--no-certify", "--quiet", "--steps", 4)

    def interrupted(*_args, **_keywords):
        raise RunInterrupted("run x stopped after step 1 of 4; call it again")

    with monkeypatch.context() as patched:
        patched.setattr("paper_repro.training.run.run_one", interrupted)
        assert invoke(run_command, *run).exit_code == 3
    assert invoke(run_command, *run, "--minutes", 0).exit_code == 3
    assert not list(read_records(results))
    done = invoke(run_command, *run, "--rate", "embedding=0.01", "--target-offset", 1)
    assert done.exit_code == 0
    (record,) = read_records(results)
    assert record.id in done.output
    assert (record.spec.rates, record.spec.target_offset, record.spec.steps) == ({"embedding": 0.01}, 1, 4)
    assert "million parameters" in invoke(run_command, *run[:2], "--dry-run").output
    with pytest.raises(ValueError, match="write ROLE=RATE"):
        invoke(run_command, *run, "--rate", "embedding")
    with pytest.raises(ValueError, match="unknown preset 'smoke/qwen'"):
        invoke(run_command, "smoke/qwen", *run[1:])


def test_files_of_the_user_become_a_data_set(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(40):
        words = " ".join(f"word{number * place % 97}" for place in range(60))
        (folder / f"{number}.md").write_text(words)
    done = invoke(
        data_command, "mine", "--files", folder, "--vocabulary", 300, "--held-out", 0.2, "--data", tmp_path / "data"
    )
    assert "mine:" in done.output
    with pytest.raises(ValueError, match="give it one NAME"):
        invoke(data_command, "a", "b", "--files", folder)
