"""``python -m symcheck.kernel CERT...``: exit 0 if all are accepted, 1 if one is rejected, else 2 (open or no file)."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from symcheck.kernel import refutation
from symcheck.kernel.check import SCHEMA, Accepted, check
from symcheck.kernel.document import Decline, Reject, anything, conform, load, text

BUNDLE = "symcheck.certificates/1"
"""The schema of several certificates that together answer one question."""


def verify(source: str | bytes) -> Accepted | refutation.Refuted:
    """Check a certificate or a refutation. Raises Reject or Decline, with one line that says why."""
    document = load(source)
    conform(document, {"schema": text, "*": anything})
    if document["schema"] == refutation.SCHEMA:
        return refutation.check_refutation(document)
    if document["schema"] == SCHEMA:
        return check(document)
    if document["schema"] != BUNDLE:
        raise Decline("document: no schema that this kernel knows")
    conform(document, {"schema": text, "certificates": [anything]})
    conform(document["certificates"][:1], (anything,), "document/certificates")  # not none
    parts = [check(part) for part in document["certificates"]]
    statement = "; and ".join(dict.fromkeys(part.statement for part in parts))
    return Accepted(statement, tuple(sorted({condition for part in parts for condition in part.conditions})))


def main(paths: Sequence[str]) -> int:
    """Print one line for each file."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not paths:
        print("usage: python -m symcheck.kernel CERT...", file=sys.stderr)
    codes = set()
    for path in paths:
        try:
            result = verify(Path(path).read_bytes())
            line, code = "; ".join([f"accepted: {result.statement}", *result.conditions]), 0
        except (Decline, OSError) as reason:
            line, code = f"declined: {reason}", 2
        except Exception as reason:  # what the kernel did not foresee is no proof either
            line, code = f"rejected: {reason if isinstance(reason, Reject) else repr(reason)}", 1
        print(f"{path}: {' '.join(line.split())}")
        codes.add(code)
    return 1 if 1 in codes else 2 if 2 in codes or not codes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
