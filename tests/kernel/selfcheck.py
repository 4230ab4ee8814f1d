# ruff: noqa: PT009, PT027  (a bare assert does nothing under -O)
"""The kernel over its corpus, with nothing installed: ``python -m unittest tests/kernel/selfcheck.py``, also ``-O``.

Every file of ``good`` is accepted, of ``bad`` rejected, of ``outside`` declined.
"""

import contextlib
import io
import sys
import unittest
from pathlib import Path

from symcheck.kernel.__main__ import main

CORPUS = Path(__file__).parents[2] / "symcheck" / "kernel" / "corpus"


def verdict(path: Path) -> int:
    """The exit code of ``python -m symcheck.kernel path``."""
    with contextlib.redirect_stdout(io.StringIO()):
        return main([str(path)])


class Corpus(unittest.TestCase):
    """One test for each folder."""

    def _each(self, folder: str, code: int) -> None:
        paths = sorted((CORPUS / folder).glob("*.json"))
        self.assertGreater(len(paths), 0)
        for path in paths:
            with self.subTest(path.name):
                self.assertEqual(verdict(path), code)

    def test_good(self) -> None:
        """Accepted."""
        self._each("good", 0)

    def test_bad(self) -> None:
        """Rejected."""
        self._each("bad", 1)

    def test_outside(self) -> None:
        """Declined: not wrong, but not checked either."""
        self._each("outside", 2)

    def test_controls(self) -> None:
        """This very check fails for a kernel that answers all files alike, also under ``-O``."""
        for folder, code in (("good", 1), ("bad", 0), ("outside", 0)):
            with self.assertRaises(self.failureException):
                self.assertEqual(verdict(min((CORPUS / folder).glob("*.json"))), code)

    def test_standard_library_only(self) -> None:
        """Nothing else is loaded."""
        for name in ("torch", "numpy", "scipy", "sympy", "hypothesis", "groups", "reference"):
            self.assertNotIn(name, sys.modules)


if __name__ == "__main__":
    unittest.main()
