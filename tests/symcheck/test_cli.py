"""The command line, as a stranger meets it: files, exit codes, and one line for every mistake."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from symcheck.cli import run
from symcheck.isolate import interrupts_wait
from symcheck.probe.witness import repro_script
from symcheck.registry import OptimizerInfo, register
from symcheck.report import schema
from symcheck.result import Verdict
from tests.symcheck import fake_probe

OPTIMIZERS = """
import os, sys, time, torch
class Good(torch.optim.SGD):
    pass
class Picky(torch.optim.SGD):
    def __init__(self, params, lr, kind):
        super().__init__(params, lr=lr)
class Raises(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("no step today")
class Exits(torch.optim.SGD):
    def step(self, closure=None):
        print("leaving")
        sys.exit(5)
class Plain:
    pass
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OPTIMIZERS)
    fake_probe.install(monkeypatch, {("embedding", "equivariance"): Verdict.REFUTED})


def symcheck(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The real program in a process of its own."""
    return subprocess.run([sys.executable, "-m", "symcheck", *arguments], capture_output=True, text=True, timeout=60)


def test_certify_writes_a_report_with_its_witnesses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["certify", "mine.py:Good"]) == 0
    report = json.loads((tmp_path / "symcheck-report/report.json").read_text())
    jsonschema.validate(report, schema())
    (refuted,) = [result for result in report["results"] if result["verdict"] == "refuted"]
    assert (tmp_path / "symcheck-report" / refuted["evidence"]["witness"]).is_file()
    assert "<html" in (tmp_path / "symcheck-report/report.html").read_text()
    out, err = capsys.readouterr()
    assert "mine.py:Good(lr=0.1)" in out
    assert "symcheck-report/witness/mine.py_Good-embedding-equivariance.json" in out
    assert "symcheck-report/report.json" in err


def test_json_on_standard_output_is_nothing_but_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["certify", "mine.py:Good", "--block", "embedding", "--json", "-"]) == 1
    out, err = capsys.readouterr()
    data = json.loads(out)
    jsonschema.validate(data, schema())
    assert "mine.py:Good(lr=0.1)" in err
    assert (tmp_path / data["results"][0]["evidence"]["witness"]).is_file()
    assert not (tmp_path / "symcheck-report/report.json").exists()


def test_with_json_on_standard_output_the_page_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["certify", "mine.py:Good", "--block", "router", "--explain", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert err.endswith("nothing is proved\n")


def test_files_go_where_they_are_asked_to(tmp_path: Path) -> None:
    assert run(["certify", "mine.py:Good", "--json", "a/b/r.json", "--html", "c/r.html"]) == 0
    assert (tmp_path / "a/b/r.json").is_file()
    assert (tmp_path / "a/b/witness").is_dir()
    assert (tmp_path / "c/r.html").is_file()
    assert not (tmp_path / "symcheck-report").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["mine.py:Good", "--block", "router"], 0),
        (["mine.py:Good", "--block", "embedding"], 1),
        (["mine.py:Good", "--property", "equivariance"], 1),
        (["torch.optim.AdamW", "--block", "embedding"], 1),
        (["mine.py:Picky", "--block", "router"], 3),
        (["mine.py:Picky", "--block", "router", "--set", "kind=3"], 0),
        (["mine.py:Raises"], 3),
        (["mine.py:Exits"], 3),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    assert run(["certify", *arguments]) == code


def test_a_faulty_candidate_is_told_once_and_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run(["certify", "mine.py:Exits"])
    lines = capsys.readouterr().out.splitlines()
    assert sum("sys.exit(5)" in line for line in lines) == 1
    assert any("sys.exit(5); its last output: leaving" in line for line in lines)


def witness(**changes: object) -> dict[str, object]:
    """A witness like the one in the README, with some entries replaced."""
    rotation = [["3/5", "-4/5"], ["4/5", "3/5"]]
    return {
        "schema": "symcheck.witness/1",
        "target": "torch.optim.AdamW",
        "config": {"lr": 0.1},
        "block": "embedding",
        "property": "equivariance",
        "action": "Perm(rows) x O(cols)",
        "transformation": {"element": {"shapes": [[1, 2]], "matrices": {"rows": [["1"]], "cols": rotation}}},
        "weights": [[["0", "0"]]],
        "grads": [[[["1", "2"]]]],
        "step": 1,
        "seed": 0,
        **changes,
    }


MISTAKES = [
    (["certify", "nowhere.py:X"], "nowhere.py: no such file"),
    (["certify", "mine.py:Godo"], "did you mean 'Good'"),
    (["certify", "mine.py:Plain"], "not an optimizer"),
    (["certify", "torch.optim.AdamX"], "AdamX"),
    (["certify", "no_module_like_this:X"], "no_module_like_this:X: no module named 'no_module_like_this' in"),
    (["certify", "no_module_like_this:X"], "no optimizer is registered under that name"),
    (["certify", "rule:row_nrom"], "row_norm"),
    (["certify", "mine.py:Good", "--block", "ruoter"], "did you mean 'router'"),
    (["certify", "mine.py:Good", "--property", "x"], "known: equivariance"),
    (["certify", "mine.py:Good", "--dtype", "int3"], "unknown dtype"),
    (["certify", "mine.py:Good", "--budget", "huge"], "unknown budget"),
    (["certify", "mine.py:Good", "--seed", "one"], "--seed"),
    (["certify", "mine.py:Good", "--seed", "-1"], "--seed"),
    (["certify", "mine.py:Good", "--set", "lr"], "NAME=VALUE"),
    (["certify", "mine.py:Good", "--set", "momentumm=1"], "did you mean 'momentum'"),
    (["certify", "mine.py:Good", "--action", "Prem(rows)"], "--action"),
    (["certify", "mine.py:Good", "--time-limit", "0"], "--time-limit"),
    *((["certify", "mine.py:Good", "--time-limit", limit], "--time-limit") for limit in ("nan", "inf", "1e300")),
    *((["discover", "mine.py:Good", "--time-limit", limit], "--time-limit") for limit in ("nan", "inf")),
    (["certify", "mine.py:Good", "--seed", str(2**64 - 1)], "--seed"),
    (["discover", "mine.py:Good", "--seed", str(2**64 - 1)], "--seed"),
    (["conform", "mine.py:Good", "--against", "rule:sgd", "--seed", str(2**63)], "--seed"),
    (["audit", "torch.optim", "--seed", str(2**63)], "--seed"),
    (["selftest", "--seed", str(2**63)], "--seed"),
    (["certify", "mine.py:Good", "--certs", "mine.py"], "mine.py: the certificates cannot be written (not a folder)"),
    (["discover", "mine.py:Good", "--certs", "mine.py/x"], "mine.py/x: the certificates cannot be written"),
    (["audit", "torch.optim", "--sample", "1000000007", "--json", "a.jsonl"], "--sample 1000000007: takes none of"),
    (["audit", "torch.optim", "--atlas", "mine.py/x"], "mine.py"),
    (["certify", "--set", "lr=1"], "need a TARGET"),
    (["certify", "mine.py:Good", "--block", "router", "--json", "/proc/nothing/r.json"], "/proc/nothing"),
    (["certify", "--no-such-option"], "--no-such-option"),
    (["certifi"], "certifi"),
    (["verify", "nowhere.json"], "nowhere.json: no such file"),
    (["verify", "."], ".: a folder; name the certificates in it, e.g. *.json"),
    (["list", "ruels"], "rules"),
    (["list"], "rules"),
    (["selftest", "--budget", "huge"], "unknown budget"),
    (["replay"], "WITNESS"),
    (["replay", "nowhere.json"], "nowhere.json: no such file"),
    (["repro", "mine.py"], "mine.py: not a witness"),
    (["repro", "list.json"], "expected a JSON object"),
    (["replay", "other.json"], "other.json: damaged witness: missing or unknown key 'target'"),
    (["replay", "schema.json"], "its schema is 'x'"),
    (["repro", "empty.json"], "empty.json"),
    (["replay", "gone.json"], "gone.json: gone.py: no such file"),
    (["replay", "deep.json"], "deep.json: not a witness: nested too deeply"),
    (["repro", "list.json"], "symcheck: list.json: not a witness: expected a JSON object"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "other.json").write_text('{"schema": "symcheck.witness/1"}')
    (tmp_path / "schema.json").write_text('{"schema": "x", "target": "torch.optim.SGD", "config": {}}')
    (tmp_path / "empty.json").write_text('{"schema": "symcheck.witness/1", "target": "torch.optim.SGD", "config": {}}')
    (tmp_path / "gone.json").write_text(json.dumps(witness(target="gone.py:X")))
    (tmp_path / "deep.json").write_text(200_000 * "[")
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("symcheck: ")
    assert words in line


INJECTED = "AdamW as O\nimport os\nos.system('touch harmed')#"
DAMAGES = [
    ({"target": 3}, "witness/target: 3 does"),
    ({"target": "torch.optim.Nope"}, "no class or function 'Nope'"),
    ({"target": f"torch.optim:{INJECTED}"}, "is not a target"),
    ({"target": f"rule:{INJECTED}"}, "unknown rule"),
    ({"target": f"mine.py:{INJECTED}"}, "mine.py"),
    ({"config": [1]}, "witness/config: [1] does"),
    ({"config": {"nope": 1}}, "unknown argument 'nope'"),
    ({"config": {"lr": "a"}}, "building it with"),
    ({"property": "nope"}, "witness/property: 'nope' does"),
    ({"action": "Q(rows)"}, "action spec 'Q(rows)'"),
    ({"transformation": {}}, "witness/transformation: it has no 'element'"),
    ({"property": "shift_equivariance"}, "witness/transformation: it has no 'shift'"),
    ({"transformation": {"element": {"matrices": {"rows": [["1e999999999"]]}}}}, "witness/transformation"),
    ({"weights": [[["1e999999999", "0"]]]}, "witness/weights/0"),
    ({"weights": [[["9" * 4000, "0"]]]}, "damaged witness"),
    ({"weights": [[["1/0", "0"]]]}, "witness/weights/0"),
    ({"weights": [[["0"], ["0", "1"]]]}, "damaged witness"),
    ({"weights": []}, "damaged witness"),
    ({"grads": []}, "gradients of 0 steps"),
    ({"grads": [[]]}, "witness/grads/0: their shapes"),
    ({"grads": [[[["1"]]]]}, "witness/grads/0: their shapes"),
    ({"step": "a"}, "witness/step: 'a' does"),
    ({"step": 0}, "damaged witness: step 0, but"),
    ({"step": 10**9}, "gradients of 1 steps"),
    ({"seed": 10**30}, "witness/seed"),
    ({"unseen": "z"}, "witness/unseen: 'z' does"),
    ({"unseen": 10**400}, "witness/unseen: 1000"),
    ({"property": "layout", "seed": "x"}, "witness/seed: 'x' does"),
]


@pytest.mark.parametrize("command", ["replay", "repro"])
@pytest.mark.parametrize(("changes", "words"), DAMAGES)
def test_a_damaged_witness_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, changes: dict[str, object], words: str
) -> None:
    (tmp_path / "w.json").write_text(json.dumps(witness(**changes)))
    assert run([command, "w.json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("symcheck: w.json: ")
    assert line.count("w.json") == 1
    assert words in line


def test_nothing_of_a_witness_becomes_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.json").write_text(json.dumps(witness(block=INJECTED, config={"lr": 0.1, "foreach": INJECTED})))
    assert run(["repro", "w.json"]) == 0
    (tmp_path / "script.py").write_text(capsys.readouterr().out)
    subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=60)
    assert not (tmp_path / "harmed").exists()
    for changes in ({"target": f"pkg:{INJECTED}"}, {"target": f"{INJECTED}.A"}, {"target": f"a.py:{INJECTED}"}):
        with pytest.raises(ValueError, match="is no name"):
            repro_script(witness(**changes))
    with pytest.raises(ValueError, match="is no name"):
        repro_script(witness(config={"lr=0.1)\nimport os #": 1}))
    assert "OPTIMIZERS['\\n\"]']" in repro_script(witness(target='rule:\n"]'))


def test_the_script_of_a_nested_class_imports_its_module() -> None:
    script = repro_script(witness(target="pkg.mod:Outer.Inner"))
    assert "from pkg.mod import Outer as Optimizer\nOptimizer = Optimizer.Inner\n" in script


def test_a_registered_name_has_no_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    register("test_cli:sgd")(lambda: OptimizerInfo(make=torch.optim.SGD))
    (tmp_path / "w.json").write_text(json.dumps(witness(target="test_cli:sgd")))
    assert run(["repro", "w.json"]) == 2
    assert "which a script cannot import: symcheck replay" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["certify", "nowhere.py:X", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_ours_is_code_4_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("our mistake")

    monkeypatch.setattr("symcheck.decide.decide", broken)
    assert run(["certify", "mine.py:Good", "--block", "router"]) == 4
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "our mistake (--debug" in err
    monkeypatch.setattr("symcheck.run.resolve", broken)
    assert run(["certify", "mine.py:Good"]) == 4
    assert "internal error: AssertionError: our mistake" in capsys.readouterr().err


def test_a_real_witness_replays_and_its_script_needs_only_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run(["certify", "torch.optim.AdamW", "--block", "embedding", "--budget", "quick"]) == 1
    witness = "symcheck-report/witness/torch.optim.AdamW-embedding-equivariance.json"
    capsys.readouterr()
    assert run(["replay", witness]) == 0
    assert f"{witness}: confirmed" in capsys.readouterr().out
    assert run(["repro", witness]) == 0
    script = capsys.readouterr().out
    (tmp_path / "script.py").write_text(script)
    imports = {line.split()[1].split(".")[0] for line in script.splitlines() if line.startswith(("import ", "from "))}
    assert imports == {"torch"}
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert float(done.stdout.split("largest difference:")[1].split()[0]) > 1e-3


@pytest.mark.parametrize("what", ["rules", "blocks", "groups", "optimizers", "properties"])
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 8
    known = {
        "rules": "rule:row_norm",
        "blocks": "router",
        "groups": "SPerm",
        "optimizers": "torch.optim.AdamW",
        "properties": "horizontality",
    }
    assert any(line.startswith(known[what] + " ") for line in lines)


@pytest.mark.parametrize("arguments", [["--help"], ["certify", "--help"], ["list", "blocks"], ["list", "rules"]])
def test_looking_around_loads_no_torch(arguments: list[str]) -> None:
    code = f"import sys; sys.argv = ['symcheck', *{arguments!r}]\nfrom symcheck.__main__ import main\n"
    code += "try: main()\nfinally: print([m for m in ('torch', 'hypothesis', 'sympy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("verdict", "code", "words"), [("refuted", 0, "1/1 (100%)"), ("supported", 1, "0/1 (0%)")])
def test_the_selftest_prints_its_score(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verdict: str, code: int, words: str
) -> None:
    from symcheck.result import Result
    from symcheck.selftest import suite

    def trials(**_: object) -> list[suite.Trial]:
        def answer(verdict: str) -> Result:
            return Result("t", {}, "router", "equivariance", "O", Verdict(verdict))

        return [
            suite.Trial(suite.MUTANTS[0], answer(verdict), 0.0),
            suite.Trial(suite.CONTROLS[0], answer("supported"), 0.0),
        ]

    monkeypatch.setattr(suite, "run", trials)
    assert run(["selftest", "--programs", "4"]) == code
    *_, told, corpus, programs = capsys.readouterr().out.splitlines()
    assert told == f"mutants killed: {words}, false alarms: 0/1"
    judged, documents = corpus.removeprefix("certificates of the corpus judged rightly: ").split("/")
    assert int(judged) == int(documents) > 50
    assert programs.startswith("random programs: 4, asked about 8 symmetries: unsound proofs 0, proved ")


def test_the_version() -> None:
    done = symcheck("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "symcheck,")


def test_no_arguments_show_the_help() -> None:
    done = symcheck()
    assert "Usage" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "usage: "), (["nowhere.json"], "declined: [Errno 2] No such file"), (["."], "declined: [Errno 21] Is a dir")],
)
def test_the_kernel_by_itself_says_why_there_is_no_answer(arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "symcheck.kernel", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = (done.stdout + done.stderr).splitlines()
    assert words in line


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "symcheck", "list", "blocks"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2
    assert done.stderr == "symcheck: the command line needs click: python -m pip install 'symcheck[cli]'\n"


@pytest.mark.parametrize("arguments", ["--help", "list rules", "certify mine.py:Good --block router --json -"])
def test_a_closed_pipe_is_no_news(arguments: str) -> None:
    """The exit code is that of other programs, above all not 1, which means "refuted"."""
    command = f"{{ {sys.executable} -m symcheck {arguments}; echo $? >&2; }} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    *_, code = done.stderr.splitlines()
    assert code in ("0", "141")
    assert "symcheck: " not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("list blocks >/dev/full", "standard output: cannot be written (No space left on device)"),
        ("--help >/dev/full", "standard output: cannot be written (No space left on device)"),
        ("list blocks >&-", "standard output is closed"),
        ("certify mine.py:Good --block router --json - >/dev/full", "standard output: the report cannot be written"),
        ("certify mine.py:Good --block router --json /dev/full", "/dev/full: the report cannot be written"),
        ("certify mine.py:Good --block router --latex /dev/full", "/dev/full: the report cannot be written"),
    ],
)
def test_a_full_or_closed_output_is_one_line(arguments: str, words: str) -> None:
    command = f"{sys.executable} -m symcheck {arguments}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert sum(line.startswith("symcheck: ") for line in done.stderr.splitlines()) == 1


def test_an_interrupt_waits_until_torch_is_loaded() -> None:
    """Sent while the body of `interrupts_wait` runs, it arrives at its end."""
    reached = []

    def body() -> None:
        with interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        body()
    assert reached


@pytest.mark.parametrize("seconds", [1.0, 1.5])
def test_an_interrupt_while_starting(seconds: float) -> None:
    command = [sys.executable, "-m", "symcheck", "certify", "mine.py:Good", "torch.optim.SGD"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "interrupted" in err
    assert "internal" not in err
    assert "Traceback" not in err
