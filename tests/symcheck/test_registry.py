"""Registered optimizers, entry points and ``[tool.symcheck]``."""

import importlib.metadata
import sys
import types
from pathlib import Path

import pytest
import torch

import symcheck
from symcheck import registry
from symcheck.claims import Expectation, is_met, parse_claims
from symcheck.errors import UsageError
from symcheck.result import Verdict
from symcheck.run import resolve


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})


def sgd(params: object, **options: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.02, **options)  # type: ignore[arg-type]


def test_every_config_is_a_target_with_the_claims() -> None:
    @symcheck.register("acme:sgd")
    def _() -> symcheck.OptimizerInfo:
        return symcheck.OptimizerInfo(
            make=lambda params: torch.optim.SGD(params, lr=0.02),
            blocks=["matrix"],
            claims={"matrix": "proved"},
            configs={"default": {}, "wd": {"weight_decay": 0.1}},
        )

    found = resolve(("acme:sgd",), {})
    assert [target.settings for target in found] == [{}, {"weight_decay": 0.1}]
    assert {target.blocks for target in found} == {("matrix",)}
    candidates = [target.load() for target in found]
    rates = [c.make([torch.nn.Parameter(torch.zeros(2))]).param_groups[0]["weight_decay"] for c in candidates]
    assert rates == [0, 0.1]
    assert found[0].claim is not None
    assert found[0].claim.expectation("matrix", "equivariance") == Expectation(Verdict.PROVED)


def test_make_may_take_options() -> None:
    symcheck.register("acme:sgd")(lambda: symcheck.OptimizerInfo(make=sgd, configs={"m": {"momentum": 0.5}}))
    (target,) = resolve(("acme:sgd",), {})
    assert target.load().make([torch.nn.Parameter(torch.zeros(2))]).param_groups[0]["momentum"] == 0.5


def test_an_option_that_a_group_does_not_have_is_named() -> None:
    info = symcheck.OptimizerInfo(make=lambda p: torch.optim.SGD(p, lr=1.0), configs={"x": {"momentumm": 0.5}})
    symcheck.register("acme:sgd")(lambda: info)
    (target,) = resolve(("acme:sgd",), {})
    with pytest.raises(UsageError, match="did you mean 'momentum'"):
        target.load()


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"claims": {"matrx": "proved"}}, "unknown block or contract 'matrx': did you mean 'matrix'"),
        ({"claims": {"matrix/equivarience": "proved"}}, "unknown property 'equivarience'"),
        ({"claims": {"matrix": "prooved"}}, "unknown verdict 'prooved': did you mean 'proved'"),
        ({"claims": {"matrix": {"reason": "because"}}}, "needs the key 'verdict'"),
        ({"blocks": ["matrx"]}, "unknown block 'matrx'"),
        ({"configs": {}}, "configs is empty"),
    ],
)
def test_a_mistake_in_a_registration_is_one_line(info: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match="register 'acme:x'") as caught:
        symcheck.register("acme:x")(lambda: symcheck.OptimizerInfo(make=sgd, **info))  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert registry.registered() == ()


def test_a_name_is_registered_once_and_with_an_info() -> None:
    symcheck.register("acme:x")(lambda: symcheck.OptimizerInfo(make=sgd))
    with pytest.raises(ValueError, match="already taken"):
        symcheck.register("acme:x")(lambda: symcheck.OptimizerInfo(make=sgd))
    with pytest.raises(ValueError, match=r"expected a symcheck\.OptimizerInfo, got int"):
        symcheck.register("acme:y")(lambda: 3)  # type: ignore[arg-type, return-value]


def test_claims_name_a_block_a_property_or_a_contract() -> None:
    reason = {"verdict": "refuted", "reason": "decoupled decay"}
    claims = parse_claims({"router": "proved", "router/shift_equivariance": reason, "purity": "supported"})
    assert claims == {
        ("router", "equivariance"): Expectation(Verdict.PROVED),
        ("router", "shift_equivariance"): Expectation(Verdict.REFUTED, "decoupled decay"),
        ("all", "purity"): Expectation(Verdict.SUPPORTED),
    }


def test_what_meets_a_claim() -> None:
    met = {(claim.value, verdict.value) for claim in Verdict for verdict in Verdict if is_met(claim.value, verdict)}
    same = {(verdict.value, verdict.value) for verdict in Verdict}
    assert met == same | {("supported", "proved")}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An installed distribution with the entry point ``zoo``; the module may be changed by the test."""
    module = types.ModuleType("zoo_of_optimizers")
    module.items = lambda: {"lion": symcheck.OptimizerInfo(make=sgd)}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zoo_of_optimizers", module)
    entry = importlib.metadata.EntryPoint("zoo", "zoo_of_optimizers:items", registry.ENTRY_POINTS)
    real = importlib.metadata.entry_points

    def entry_points(**query: str) -> importlib.metadata.EntryPoints:
        if query.get("group") != registry.ENTRY_POINTS:
            return real(**query)
        return importlib.metadata.EntryPoints([entry]).select(**query)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return module


def test_an_entry_point_is_loaded_when_it_is_asked_for(plugin: types.ModuleType) -> None:
    assert registry.plugins() == ("zoo",)
    assert registry.registered() == ()
    (target,) = resolve(("zoo:lion",), {})
    assert target.name == "zoo:lion"
    with pytest.raises(UsageError, match="did you mean 'zoo:lion'"):
        resolve(("zoo:lino",), {})


def test_an_entry_point_that_raises_is_one_line(plugin: types.ModuleType) -> None:
    plugin.items = lambda: 1 / 0  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"plugin 'zoo'.*ZeroDivisionError"):
        resolve(("zoo:lion",), {})


def write(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text)


def test_a_project_names_its_targets_and_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path,
        """
        [tool.symcheck]
        blocks = ["router"]
        [tool.symcheck.claims]
        "router/horizontality" = {verdict = "refuted", reason = "not centred"}
        [[tool.symcheck.targets]]
        target = "torch.optim.AdamW"
        set = {lr = 0.5}
        claims = {purity = "supported"}
        """,
    )
    (target,) = resolve((), {})
    assert (target.name, target.settings, target.blocks) == ("torch.optim.AdamW", {"lr": 0.5}, ("router",))
    assert target.claim is not None
    assert target.claim.expectation("router", "horizontality") == Expectation(Verdict.REFUTED, "not centred")
    assert target.claim.expectation("all", "purity") == Expectation(Verdict.SUPPORTED)


def test_without_a_table_the_builtin_ones_are_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, '[project]\nname = "x"\n')
    names = {target.name for target in resolve((), {})}
    assert {"torch.optim.AdamW", "rule:row_norm"} <= names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.symcheck\n", "pyproject.toml"),
        ("[tool.symcheck]\ntarget = []\n", "unknown key 'target': did you mean 'targets'"),
        ('[tool.symcheck]\ntargets = "x"\n', "'targets' must be a list"),
        ("[tool.symcheck]\ntargets = []\n", "[tool.symcheck]: targets is empty"),
        ("[tool.symcheck]\ntargets = [3]\n", "expected a table or a string"),
        ("[tool.symcheck]\ntargets = [{set = {}}]\n", "no 'target'"),
        ('[tool.symcheck]\ntargets = ["torch.optim.SGD"]\nclaims = {matrx = "proved"}\n', "unknown block"),
        ('[tool.symcheck]\ntargets = ["torch.optim.SGD"]\nblocks = ["matrx"]\n', "unknown block 'matrx'"),
    ],
)
def test_a_mistake_in_a_project_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        resolve((), {})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
