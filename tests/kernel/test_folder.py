"""What the kernel is made of: the standard library, no assertion, no recursion, nothing dynamic."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import symcheck.kernel

FOLDER = Path(symcheck.kernel.__file__).parent
MODULES = sorted(FOLDER.glob("*.py"))
ROOT = FOLDER.parents[1]
FORBIDDEN = {"eval", "exec", "compile", "getattr", "setattr", "globals", "locals", "vars", "__import__", "breakpoint"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_nothing_dynamic(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert | ast.Global | ast.Nonlocal), f"line {node.lineno}"
        if isinstance(node, ast.Name):
            assert node.id not in FORBIDDEN, f"line {node.lineno}"
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            assert name is not None
            assert name.startswith("symcheck.kernel") or name.partition(".")[0] in sys.stdlib_module_names, name
            assert name.partition(".")[0] not in ("importlib", "pickle", "ctypes", "inspect", "subprocess", "socket")


def test_no_recursion() -> None:
    """The graph of calls by name, over all modules, has no cycle; methods count as functions of their name."""
    calls: dict[str, set[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                called = (inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call))
                calls.setdefault(node.name, set()).update(
                    func.id if isinstance(func, ast.Name) else func.attr
                    for func in called
                    if isinstance(func, ast.Name)
                    or (isinstance(func, ast.Attribute) and ast.unparse(func.value) == "self")
                )
    done: set[str] = set()
    while ready := {name for name in calls if name not in done and calls[name] & calls.keys() <= done}:
        done |= ready
    assert calls.keys() - done == set()


@pytest.mark.parametrize("flags", [["-S", "-E"], ["-S", "-E", "-O"]])
def test_nothing_installed(flags: list[str]) -> None:
    """In a fresh interpreter without site-packages, from the root of the repository."""
    for folder, name, code in (
        ("good", "adamw-rotation", 0),
        ("bad", "matrix-not-orthogonal", 1),
        ("outside", "eigh", 2),
    ):
        path = FOLDER / "corpus" / folder / f"{name}.json"
        command = [sys.executable, *flags, "-m", "symcheck.kernel", str(path)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert (run.returncode, run.stderr) == (code, "")
        assert len(run.stdout.splitlines()) == 1
