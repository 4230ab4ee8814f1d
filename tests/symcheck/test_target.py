"""What the user wrote becomes an optimizer, or one line that says why not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import symcheck
from symcheck.errors import CandidateFault, UsageError
from symcheck.run import resolve, resolve_one
from symcheck.target import Candidate, object_name, parse_settings, plain

GOOD = """
import torch
class Good(torch.optim.SGD):
    pass
class NoRate(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})
    def step(self, closure=None):
        pass
class Picky(torch.optim.SGD):
    def __init__(self, params, lr, kind):
        raise RuntimeError("kind of what?\\nno idea")
class Stacks(torch.optim.SGD):
    def __init__(self, params, lr):
        params = list(params)
        if any(p.ndim != 3 for p in params):
            raise ValueError("stacks only")
        super().__init__(params, lr=lr)
def factory(params, lr=0.5, momentum=0.0):
    return torch.optim.SGD(params, lr=lr, momentum=momentum)
def wrong(params):
    return "not an optimizer"
class Plain:
    pass
number = 3
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my_optimizers.py"
    path.write_text(GOOD)
    return path


def load(target: object, **settings: object) -> Candidate:
    (found,) = resolve_one(target, settings)
    return found.load()


def complaint(target: object, **settings: object) -> str:
    with pytest.raises(UsageError) as caught:
        load(target, **settings)
    line = str(caught.value)
    assert "\n" not in line
    return line


def params() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(2, 2))]


@pytest.mark.parametrize("target", ["torch.optim.AdamW", "torch.optim:AdamW", "torch.optim.adamw:AdamW"])
def test_an_importable_class(target: str) -> None:
    candidate = load(target)
    assert candidate.target == target
    assert isinstance(candidate.make(params()), torch.optim.AdamW)


def test_a_missing_rate_is_tried_with_a_tenth_and_reported(source: Path) -> None:
    assert load("torch.optim.SGD").config == {"lr": 0.1}
    assert load(f"{source}:factory").config == {"lr": 0.1}
    assert load("torch.optim.SGD", lr=0.02).config == {"lr": 0.02}
    assert load(f"{source}:NoRate").config == {}


def test_settings_reach_the_constructor(source: Path) -> None:
    optimizer = load(f"{source}:factory", momentum=0.9, lr=2).make(params())
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert optimizer.param_groups[0]["lr"] == 2


def test_a_file_is_importable_together_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("import torch\nBase = torch.optim.SGD\n")
    (tmp_path / "mine.py").write_text("from neighbour_of_mine import Base\nclass Mine(Base): pass\n")
    assert isinstance(load(f"{tmp_path}/mine.py:Mine").make(params()), torch.optim.SGD)


def test_a_rule(source: Path) -> None:
    candidate = load("rule:row_norm", momentum=0.5)
    assert candidate.config == {"lr": 0.1, "momentum": 0.5}
    assert candidate.claim is not None
    assert candidate.claim.symmetry == "SPerm(rows) x O(cols)"


def test_objects_of_the_session() -> None:
    class Mine(torch.optim.SGD):
        pass

    assert isinstance(load(Mine, lr=0.5).make(params()), Mine)
    assert isinstance(load(lambda p: torch.optim.SGD(p, lr=1.0)).make(params()), torch.optim.SGD)
    assert object_name(torch.optim.AdamW) == "torch.optim.AdamW"


def test_an_optimizer_of_stacks_is_one(source: Path) -> None:
    assert load(f"{source}:Stacks").config == {"lr": 0.1}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere/at_all.py:Name", ["nowhere/at_all.py", "no such file"]),
        ("{folder}:Name", ["directory"]),
        ("{file}", ["which optimizer", ":NAME"]),
        ("{file}:Goood", ["my_optimizers.py", "'Goood'", "did you mean 'Good'"]),
        ("{file}:xyzzy", ["'xyzzy'", "optimizers there: Good, NoRate"]),
        ("{file}:Plain", ["'Plain'", "not an optimizer"]),
        ("{file}:number", ["'number'", "int"]),
        ("{file}:wrong", ["not an optimizer", "str"]),
        ("torch.optim.AdamX", ["torch.optim", "did you mean 'Adam"]),
        ("torch.optim.Optimizer", ["not an optimizer"]),
        ("no_such_module_at_all:Name", ["no module named 'no_such_module_at_all'"]),
        ("json.nothing:Name", ["json.nothing"]),
        ("AdamW", ["'AdamW' is not a target"]),
        ("a b:c", ["not a target"]),
        ("", ["not a target"]),
        ("rule:row_nrom", ["unknown rule 'row_nrom'", "row_norm"]),
    ],
)
def test_a_target_that_cannot_be_used_is_one_line(source: Path, target: str, words: list[str]) -> None:
    line = complaint(target.format(file=source, folder=source.parent))
    for word in words:
        assert word in line


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import torch\n\nclass Broken(:\n    pass\n")
    assert f"{path}:3: syntax error" in complaint(f"{path}:Broken")


def test_a_failing_import_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "failing.py"
    path.write_text("import torch\n\n1 / 0\n")
    assert f"{path}:3: import failed: ZeroDivisionError" in complaint(f"{path}:Name")
    path.write_text("import no_such_dependency_at_all\n")
    assert "no_such_dependency_at_all" in complaint(f"{path}:Name")


def test_an_unknown_argument_is_named_with_its_neighbours() -> None:
    assert "unknown argument 'momentumm': did you mean 'momentum'?" in complaint("torch.optim.SGD", momentumm=0.9)
    assert "'momentumm'" in complaint("rule:row_norm", momentumm=0.9)


def test_a_constructor_that_raises_is_the_candidates_fault(source: Path) -> None:
    (target,) = resolve_one(f"{source}:Picky", {"kind": "odd"})
    with pytest.raises(CandidateFault) as caught:
        target.load()
    line = str(caught.value)
    assert "\n" not in line
    assert f"{source}:Picky" in line
    assert "RuntimeError: kind of what? no idea" in line
    assert "--set" in line


def test_resolving_runs_nothing_of_the_candidate(tmp_path: Path) -> None:
    path = tmp_path / "dangerous.py"
    path.write_text("raise SystemExit(3)\n")
    (target,) = resolve((f"{path}:Name",), {})
    assert target.name == f"{path}:Name"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr=0.5", 0.5),
        ("betas=(0.9, 0.95)", (0.9, 0.95)),
        ("nesterov=True", True),
        ("mode=fast", "fast"),
        ("name='x=y'", "x=y"),
        ("text=", ""),
        ("expression=a=b", "a=b"),
    ],
)
def test_settings_are_literals_or_strings(setting: str, value: object) -> None:
    assert parse_settings([setting]) == {setting.partition("=")[0]: value}


@pytest.mark.parametrize("setting", ["lr", "=3", "a b=3", "", "1x=2"])
def test_a_bad_setting_is_one_line(setting: str) -> None:
    with pytest.raises(UsageError, match="expected NAME=VALUE"):
        parse_settings([setting])
    with pytest.raises(UsageError, match="set twice"):
        parse_settings(["lr=1", "lr=2"])


@given(st.text())
def test_any_text_is_a_setting_or_one_line(text: str) -> None:
    message = ""
    try:
        parse_settings([text])
    except UsageError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(object),
        lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=10,
    )
)
def test_a_reported_config_is_always_json(value: object) -> None:
    import json

    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"block": 3}, "block 3: expected a name or a list of names"),
        ({"property": [1]}, "property [1]: expected a name"),
        ({"dtype": 8}, "dtype 8: expected a name"),
        ({"budget": 9}, "unknown budget '9'"),
        ({"seed": "a"}, "seed 'a': expected an integer from 0"),
        ({"seed": -1}, "seed -1: expected an integer from 0"),
        ({"seed": 2**64}, "expected an integer from 0 to 9223372036854775807"),
        ({"time_limit": float("nan")}, "time limit nan: expected seconds"),
        ({"time_limit": 0}, "time limit 0: expected seconds"),
        ({"time_limit": "1"}, "time limit '1': expected seconds"),
        ({"action": 3}, "action 3: expected a text"),
    ],
)
def test_wishes_that_make_no_sense_are_one_line(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        symcheck.certify(torch.optim.SGD, **wishes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
