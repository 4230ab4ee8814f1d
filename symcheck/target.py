"""From what the user wrote to something that builds an optimizer.

A :class:`Target` is resolved in the parent process, which never runs code of the candidate: it only looks at the text,
the file and its syntax. ``Target.load()`` imports and inspects; it runs in the candidate's own process.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from symcheck.claims import Claim
from symcheck.errors import CandidateFault, UsageError, describe_exception, one_line, unknown

if TYPE_CHECKING:
    import torch

DEFAULT_LR = 0.1
"""Given to a constructor that takes ``lr`` when the user does not say one. Large, because a displacement far below
the weights drowns in the rounding of the weights; always reported in the config."""

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Candidate:
    """An optimizer ready to be built: ``make(params)`` returns a new ``torch.optim.Optimizer`` over ``params``.

    ``target`` is what the user wrote, ``config`` the constructor arguments actually used (plain data).
    """

    target: str
    config: Mapping[str, object]
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
    claim: Claim | None = None


@dataclass(frozen=True)
class Target:
    """One configuration of one optimizer to certify.

    ``locate`` returns the class or factory and may run code of the candidate. ``settings`` are the constructor
    arguments that were asked for, ``blocks`` the blocks to survey (None: all).
    """

    name: str
    locate: Callable[[], Factory]
    settings: Mapping[str, object] = field(default_factory=dict)
    claim: Claim | None = None
    blocks: tuple[str, ...] | None = None

    def load(self) -> Candidate:
        """Import the candidate, choose its arguments and build it once on a small matrix.

        Raises UsageError if it is not an optimizer or does not take the settings, CandidateFault if it raises.
        """
        factory = self.locate()
        if isinstance(factory, ModuleType) or not callable(factory):
            raise UsageError(f"{self.name}: {type(factory).__name__} is not an optimizer class or factory function")
        arguments = _arguments(self.name, factory, self.settings)
        candidate = Candidate(
            target=self.name,
            config={key: plain(value) for key, value in arguments.items()},
            make=lambda params: _build(factory, params, arguments),
            claim=self.claim,
        )
        _try_out(candidate, self.blocks or ())
        return candidate


def plain(value: object) -> object:
    """``value`` if JSON can hold it, a tuple as a list, else its ``repr`` on one line."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return one_line(repr(value))


def parse_settings(settings: Sequence[str]) -> dict[str, object]:
    """``["lr=0.1", "betas=(0.9, 0.95)", "mode=fast"]`` as a dict: Python literals where they parse, else strings."""
    parsed: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--set {setting!r}: expected NAME=VALUE, e.g. --set momentum=0.9")
        if key in parsed:
            raise UsageError(f"--set {setting!r}: {key!r} is set twice")
        try:
            parsed[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            parsed[key] = text
    return parsed


def is_optimizer_class(thing: object) -> bool:
    """Whether ``thing`` is a class derived from ``torch.optim.Optimizer``, and not that abstract class itself."""
    import torch

    return inspect.isclass(thing) and issubclass(thing, torch.optim.Optimizer) and thing is not torch.optim.Optimizer


def object_name(thing: object) -> str:
    """The dotted name of a class or function, the shortest public one for ``torch.optim``."""
    module = getattr(thing, "__module__", None) or "<unknown>"
    name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    if module.startswith("torch.optim.") and getattr(sys.modules.get("torch.optim"), name, None) is thing:
        module = "torch.optim"
    return f"{module}.{name}"


def locate_in_file(path: Path, name: str) -> Callable[[], Factory]:
    """The locator of ``path/file.py:Name``. The file must exist and parse; nothing of it is run yet."""
    if path.is_dir():
        raise UsageError(f"{path}: is a directory; write FOLDER/file.py:Name")
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: syntax error: {error.msg}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not a Python source file: {one_line(error)}") from None

    def locate() -> Factory:
        return _attribute(_load_file(path), name, str(path))

    return locate


def locate_in_module(module: str, name: str) -> Callable[[], Factory]:
    """The locator of ``pkg.mod:Name`` (imported only when called)."""

    def locate() -> Factory:
        if (cwd := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, cwd)
        return _attribute(_import(module, f"{module}:{name}"), name, f"module {module}")

    return locate


def _load_file(path: Path) -> ModuleType:
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # A name of its own: `optim.py` of the user must not be confused with an installed module of that name.
    spec = importlib.util.spec_from_file_location(f"_symcheck_target_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: not a Python source file (expected a name that ends in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path}{_line_in(error, path)}: import failed: {describe_exception(error)}") from error
    return module


def _line_in(error: BaseException, path: Path) -> str:
    """``:LINE`` of the last frame of ``error`` inside ``path``, or nothing."""
    line, trace = "", error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _import(module: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
            raise UsageError(
                f"{target}: no module named {error.name!r} in {sys.executable}, and no optimizer is registered under "
                "that name (see: symcheck list optimizers)"
            ) from None
        raise UsageError(f"module {module}: import failed: {describe_exception(error)}") from error
    except Exception as error:
        raise UsageError(f"module {module}: import failed: {describe_exception(error)}") from error


def _attribute(module: ModuleType, name: str, where: str) -> Factory:
    try:
        found: object = module
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        optimizers = [key for key, value in vars(module).items() if is_optimizer_class(value)]
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = unknown("name", name, public)
        raise UsageError(f"{where}: {near if 'did you mean' in str(near) else _no_such(name, optimizers)}") from None
    if inspect.isclass(found) and not is_optimizer_class(found):
        raise UsageError(f"{where}: class {name!r} is not an optimizer (it must derive from torch.optim.Optimizer)")
    if not callable(found):
        raise UsageError(f"{where}: {name!r} is a {type(found).__name__}, not an optimizer class or factory function")
    return found


def _no_such(name: str, optimizers: Sequence[str]) -> str:
    return f"no class or function {name!r}; optimizers there: {', '.join(optimizers) or 'none'}"


def _signature(factory: Factory) -> inspect.Signature | None:
    try:
        return inspect.signature(factory)
    except (TypeError, ValueError):
        return None  # some C callables have none; the call itself will tell


def _arguments(name: str, factory: Factory, settings: Mapping[str, object]) -> dict[str, object]:
    """The keyword arguments to build with: the settings, and ``lr`` where it is taken but not given."""
    signature = _signature(factory)
    if signature is None:
        return dict(settings)
    parameters = signature.parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    names = [key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    arguments = dict(settings)
    for key in settings:
        if key not in names and not takes_any:
            raise UsageError(f"{name}: {unknown('argument', key, names[1:])}")
    if "lr" in names and "lr" not in arguments:
        arguments = {"lr": DEFAULT_LR, **arguments}
    return arguments


def _build(factory: Factory, params: list[torch.nn.Parameter], arguments: Mapping[str, object]) -> Any:
    return factory(params, **arguments)


def _try_out(candidate: Candidate, blocks: Sequence[str]) -> None:
    """Build once, so that a constructor that cannot work is one line and not one error per question."""
    import torch

    from groups import get_block

    failure: Exception | None = None
    # Some take matrices only, some stacks only, and some the tensors of the blocks that they are for.
    for shapes in (*(get_block(name).shapes[-1] for name in blocks), ((2, 2),), ((2, 2, 2),)):
        try:
            parameters = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes]
            optimizer: object = candidate.make(parameters)
            break
        except (UsageError, MemoryError):
            raise
        except Exception as error:
            failure = failure or error
    else:
        raise CandidateFault(
            f"{candidate.target}: building it with {json.dumps(candidate.config)} raised "
            f"{describe_exception(failure or RuntimeError())}; pass other constructor arguments with --set NAME=VALUE"
        ) from failure
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(
            f"{candidate.target}: not an optimizer: it returned {type(optimizer).__name__}, not torch.optim.Optimizer"
        )
