"""What the kernel is made of: the standard library, no assertion, no recursion, nothing dynamic."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import symcheck.kernel
from symcheck.kernel.check import SOURCES

FOLDER = Path(symcheck.kernel.__file__).parent
MODULES = sorted(FOLDER.glob("*.py"))
ROOT = FOLDER.parents[1]
FORBIDDEN = {"eval", "exec", "compile", "getattr", "setattr", "globals", "locals", "vars", "__import__", "breakpoint"}

CERTIFICATES = ("document", "axioms", "laws", "rules", "linear", "check", "__main__")
"""All that a proof rests on; the other modules check refutations."""
LINES = {"certificates": 907, "refutations": 442}
"""Upper bounds of the lines of code, which docs/proof.md states too. The kernel is there to be read: they only fall."""


def lines_of_code(path: Path) -> int:
    """Lines that are neither blank nor only comment or docstring."""
    source = path.read_text()
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in silent]
    code = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def test_it_stays_small_enough_to_read() -> None:
    counts = {path.stem: lines_of_code(path) for path in MODULES}
    certificates = sum(counts[name] for name in CERTIFICATES)
    assert certificates <= LINES["certificates"]
    assert sum(counts.values()) - certificates <= LINES["refutations"]
    page = (ROOT / "docs" / "proof.md").read_text()
    for count in LINES.values():
        assert f" {count} lines" in page


def test_the_hash_covers_all_that_a_proof_rests_on() -> None:
    """The modules that `check` imports, and the data that they read."""
    found, todo = set(), ["check"]
    while todo:
        name = todo.pop()
        found.add(f"{name}.py")
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("symcheck.kernel."):
                todo += {str(node.module).rpartition(".")[2]} - {path.removesuffix(".py") for path in found}
    assert set(SOURCES) == found | {path.name for path in FOLDER.glob("*.json")}
    assert {path.removesuffix(".py") for path in found} | {"__main__"} == set(CERTIFICATES)


def test_lines_of_code_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text(
        '"""A\nB"""\n\n# c\nx = (\n    1,\n)  # d\n\n\ndef f() -> str:\n    """E."""\n    return """g\nh"""\n'
    )
    assert lines_of_code(path) == 6


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
