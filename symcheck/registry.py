"""Optimizers that announce themselves: ``symcheck.register``, the entry-point group and ``[tool.symcheck]``.

Every way in gives the same thing: named configurations of an optimizer, the blocks that it is meant for, and claims
about it that a run then confirms or contradicts.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from symcheck.claims import Claim, check_blocks, parse_claims
from symcheck.errors import UsageError, describe_exception, unknown
from symcheck.target import Factory, Target

ENTRY_POINTS = "symcheck.optimizers"


@dataclass(frozen=True)
class OptimizerInfo:
    """What an author says about an optimizer.

    ``make(params, **config)`` builds it. A ``make`` that takes ``params`` alone gets the config's options written into
    the ``param_groups`` of the optimizer it returns. ``blocks`` are the blocks that it is meant for (empty: all), and
    ``claims`` maps ``"block"``, ``"block/property"`` or ``"contract"`` to a verdict or an ``Expectation`` with a
    reason; they hold for every config. ``symmetry`` is the group claimed, ``degree`` the homogeneity degree.
    """

    make: Factory
    blocks: Sequence[str] = ()
    claims: Mapping[str, object] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"default": {}})
    symmetry: str | None = None
    degree: float | None = None


_REGISTERED: dict[str, OptimizerInfo] = {}


def register(name: str) -> Callable[[Callable[[], OptimizerInfo]], Callable[[], OptimizerInfo]]:
    """Decorator: make the returned :class:`OptimizerInfo` known under ``name`` (``"plugin:name"``).

    Raises UsageError (a ValueError) for a claim or block that does not exist, or a name that is taken.
    """

    def add(describe: Callable[[], OptimizerInfo]) -> Callable[[], OptimizerInfo]:
        _add(name, describe())
        return describe

    return add


def _add(name: str, info: object) -> None:
    if not isinstance(info, OptimizerInfo):
        raise UsageError(f"register {name!r}: expected a symcheck.OptimizerInfo, got {type(info).__name__}")
    if _REGISTERED.setdefault(name, info) is not info:
        raise UsageError(f"register {name!r}: the name is already taken")
    try:
        targets_of(name, info)
    except UsageError as error:
        del _REGISTERED[name]
        raise UsageError(f"register {name!r}: {error}") from None


def registered() -> tuple[str, ...]:
    """The names registered so far, in order."""
    return tuple(_REGISTERED)


def plugins() -> tuple[str, ...]:
    """The names of the installed entry points of the group ``symcheck.optimizers`` (nothing is imported)."""
    return tuple(sorted({entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}))


def load_plugin(plugin: str) -> None:
    """Call the entry points named ``plugin``; each returns an OptimizerInfo or a mapping of names to them.

    They are registered as ``plugin`` and as ``plugin:name``.
    """
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS, name=plugin):
        try:
            found = entry.load()()
        except Exception as error:
            raise UsageError(f"plugin {plugin!r} ({entry.value}): {describe_exception(error)}") from error
        items = found if isinstance(found, Mapping) else {"": found}
        for name, info in items.items():
            full = f"{plugin}:{name}" if name else plugin
            if full not in _REGISTERED:
                _add(full, info)


def find(name: str) -> tuple[Target, ...] | None:
    """One target per configuration of a registered optimizer, or None if nothing has that name."""
    plugin = name.partition(":")[0]
    if name not in _REGISTERED and plugin in plugins():
        load_plugin(plugin)
        if name not in _REGISTERED:
            raise unknown(
                f"optimizer of plugin {plugin!r}", name, [key for key in _REGISTERED if key.startswith(plugin)]
            )
    info = _REGISTERED.get(name)
    return None if info is None else targets_of(name, info)


def targets_of(name: str, info: OptimizerInfo) -> tuple[Target, ...]:
    """One target per configuration of ``info``; checks the names of its blocks and claims."""
    check_blocks(info.blocks)
    if not info.configs:
        raise UsageError("configs is empty; leave it out for the one default configuration")
    claim = Claim(symmetry=info.symmetry, degree=info.degree, expectations=parse_claims(info.claims))
    factory = _configurable(info.make)
    return tuple(
        Target(name, lambda: factory, dict(config), claim, tuple(info.blocks) or None)
        for config in info.configs.values()
    )


def _configurable(make: Factory) -> Factory:
    """``make`` itself if it takes options, else one that writes options into the ``param_groups`` it made."""
    parameters = list(inspect.signature(make).parameters.values())
    if any(p.kind in (p.VAR_KEYWORD, p.KEYWORD_ONLY) for p in parameters) or len(parameters) > 1:
        return make

    def build(params: Any, **options: object) -> Any:
        optimizer = make(params)
        for group in optimizer.param_groups:
            for key, value in options.items():
                if key not in group:
                    raise UsageError(
                        f"{unknown('option', key, [k for k in group if k != 'params'])} (make takes params only)"
                    )
                group[key] = value
        return optimizer

    return build


@dataclass(frozen=True)
class ProjectTarget:
    """One entry of ``[tool.symcheck] targets``: a TARGET with its settings, blocks and claims."""

    target: str
    settings: Mapping[str, object]
    blocks: tuple[str, ...]
    claims: Mapping[str, object]


def project_targets(pyproject: Path) -> tuple[ProjectTarget, ...]:
    """The entries of ``[tool.symcheck]`` in a ``pyproject.toml`` (none if there is no such file or table).

    ``targets`` lists strings or tables ``{target, set, blocks, claims}``; ``blocks`` and ``claims`` beside it are the
    defaults of every entry. An unknown key raises UsageError.
    """
    try:
        table = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("tool", {}).get("symcheck", {})
    except FileNotFoundError:
        return ()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{pyproject}: {error}") from None
    where = f"{pyproject} [tool.symcheck]"
    _check_keys(where, table, {"targets": list, "blocks": list, "claims": dict})
    if table.get("targets") == []:
        raise UsageError(f"{where}: targets is empty; name some, or leave it out to certify the built-in ones")
    entries = []
    for item in table.get("targets", []):
        entry: dict[str, Any] = {"target": item} if isinstance(item, str) else item
        _check_keys(f"{where} targets", entry, {"target": str, "set": dict, "blocks": list, "claims": dict})
        if "target" not in entry:
            raise UsageError(f"{where} targets: an entry has no 'target'")
        entries.append(
            ProjectTarget(
                target=entry["target"],
                settings=entry.get("set", {}),
                blocks=tuple(entry.get("blocks", table.get("blocks", ()))),
                claims={**table.get("claims", {}), **entry.get("claims", {})},
            )
        )
    return tuple(entries)


def _check_keys(where: str, table: object, known: Mapping[str, type]) -> None:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: expected a table or a string, got {table!r}")
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{where}: {unknown('key', key, known)}")
        if not isinstance(value, known[key]):
            raise UsageError(f"{where}: {key!r} must be a {known[key].__name__}, got {value!r}")
