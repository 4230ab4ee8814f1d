"""The report of a run: counts, exit code, JSON with witness files, and text that a person reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from symcheck.claims import is_met
from symcheck.errors import UsageError
from symcheck.output import write_json
from symcheck.result import Result, Verdict

SCHEMA = "symcheck.report/1"

ANSWERED = (Verdict.PROVED, Verdict.REFUTED, Verdict.SUPPORTED)
"""Verdicts that answer the question; the others leave it open."""


class CertificationError(AssertionError):
    """Raised by :meth:`Report.raise_for_status`; the message is one line per result that is not as it should be."""


@dataclass
class Report:
    """Everything that a run found out.

    ``asked``: a block, property or action was asked for by name, so that a refutation is a failure and not a finding.
    ``named``: the targets were named, so that one without a single answer is incomplete even if that was expected.
    ``failures`` are tracebacks of symcheck itself. ``base`` is the folder that paths of witness files start from.
    """

    environment: Mapping[str, object] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    asked: bool = False
    named: bool = True
    interrupted: bool = False
    failures: list[str] = field(default_factory=list)
    base: Path = Path()

    def __getitem__(self, key: tuple[str, ...]) -> Result:
        """``report[block, property]``, or ``report[target, block, property]`` where there are several targets."""
        *target, block, prop = key
        found = [
            r for r in self.results if (r.block, r.property) == (block, prop) and (not target or r.target == target[0])
        ]
        if len(found) == 1:
            return found[0]
        what = "no result" if not found else f"{len(found)} results (several targets or configurations)"
        raise KeyError(f"{what} for {key!r}; there are {sorted({(r.block, r.property) for r in self.results})}")

    @property
    def counts(self) -> dict[str, int]:
        """How many questions were planned, and how many got each verdict; the verdicts sum to ``planned``."""
        verdicts = Counter(result.verdict for result in self.results)
        return {"planned": len(self.results), **{verdict.value: verdicts[verdict] for verdict in Verdict}}

    @property
    def contradicted(self) -> list[Result]:
        """Answers that contradict a claim. A question that stayed open contradicts nothing."""
        return [r for r in self.results if r.verdict in ANSWERED and r.expected and not is_met(r.expected, r.verdict)]

    @property
    def refuted_on_request(self) -> list[Result]:
        """Refutations of what was asked for by name."""
        return [r for r in self.results if self.asked and r.verdict is Verdict.REFUTED]

    @property
    def incomplete(self) -> list[Result]:
        """Questions that stayed open and should not have.

        Those are the ones asked for by name, those with a claim that they fail to confirm, every ``error`` that nobody
        expected, and all of a named target that got no answer at all. A survey may decline what does not apply.
        """
        answered = {(r.target, repr(r.config)) for r in self.results if r.verdict in ANSWERED}

        def matters(result: Result) -> bool:
            if self.asked or (self.named and (result.target, repr(result.config)) not in answered):
                return True
            if result.expected is not None:
                return not is_met(result.expected, result.verdict)
            return result.verdict is Verdict.ERROR

        return [r for r in self.results if r.verdict not in ANSWERED and matters(r)]

    @property
    def exit_code(self) -> int:
        """0 as expected, 1 refuted or contradicted, 3 declined or incomplete, 4 symcheck itself failed."""
        if self.failures:
            return 4
        if self.contradicted or self.refuted_on_request:
            return 1
        return 3 if self.incomplete or self.interrupted or not self.results else 0

    def raise_for_status(self) -> None:
        """CertificationError unless :attr:`exit_code` is 0."""
        if self.exit_code:
            wrong = {id(r): r for r in (*self.contradicted, *self.refuted_on_request, *self.incomplete)}
            lines = [self.describe(result) for result in wrong.values()] + [text.strip() for text in self.failures]
            raise CertificationError("\n".join(lines or ["interrupted"]))

    @staticmethod
    def describe(result: Result) -> str:
        """One line: what was asked, the verdict, what was expected, why."""
        expected = f" (claimed: {result.expected})" if result.expected else ""
        reason = f": {result.reason}" if result.reason else ""
        return f"{result.target} {result.block} {result.property}: {result.verdict}{expected}{reason}"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data (``symcheck.report/1``), witnesses inline."""
        return {
            "schema": SCHEMA,
            "environment": dict(self.environment),
            "counts": self.counts,
            "results": [_finite(_referring(result).to_dict()) for result in self.results],
        }

    def write_witnesses(self, folder: str | Path, base: str | Path | None = None) -> None:
        """Store every witness in ``folder/witness/``, and its path relative to ``base`` (``folder``) in the result."""
        folder = Path(folder)
        self.base = folder if base is None else Path(base)
        taken: set[str] = set()
        for number, result in enumerate(self.results):
            witness = result.evidence.witness
            if witness is None or isinstance(witness, str):
                continue
            path = folder / "witness" / _file_name(result, taken)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(_finite(witness), path)
            evidence = dataclasses.replace(result.evidence, witness=path.relative_to(self.base).as_posix())
            self.results[number] = dataclasses.replace(result, evidence=evidence)

    def write_certificates(self, folder: str | Path) -> int:
        """Store every certificate once in ``folder``, as ``HASH.json``; how many files that makes.

        A result refers to its certificate by that hash, whether it is stored or not. The same certificate stands for
        every block with the same action and shapes.
        """
        folder = Path(folder)
        written: set[str] = set()
        for result in self.results:
            document = result.evidence.certificate
            if document is None or isinstance(document, str):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            name = certificate_name(document)
            if name not in written:
                (folder / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
                written.add(name)
        return len(written)

    def to_json(self, path: str | Path) -> None:
        """Write the report to ``path`` and its witnesses to ``witness/`` beside it."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write_witnesses(path.parent)
        write_json(self.to_dict(), path)

    def to_html(self, path: str | Path) -> None:
        """Write the report as one self-contained HTML page."""
        from symcheck.html import page

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(page(self), encoding="utf-8")

    def __str__(self) -> str:
        """The tables and details as plain text."""
        from symcheck.table import plain_text

        return plain_text(self)


def schema() -> dict[str, Any]:
    """The JSON Schema of :meth:`Report.to_dict`."""
    text = resources.files("symcheck").joinpath("schema/report-1.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def load_json(path: str | Path, kind: str) -> dict[str, Any]:
    """The JSON object in a file; UsageError, one line, where there is none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{path}: not a {kind}: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: not a {kind}: expected a JSON object")
    return data


def label(result: Result) -> str:
    """The target with the options that tell its configurations apart (all but ``lr``)."""
    options = ", ".join(f"{key}={value}" for key, value in result.config.items() if key != "lr")
    return f"{result.target} ({options})" if options else result.target


def _file_name(result: Result, taken: set[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9_.=-]+", "_", f"{label(result)}-{result.block}-{result.property}").strip("_.")
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return f"{name}.json"


def certificate_name(document: Mapping[str, Any]) -> str:
    """The name of a certificate: the first 16 hexadecimal digits of the SHA-256 of its canonical JSON."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def _referring(result: Result) -> Result:
    """The result with its certificate named instead of included."""
    document = result.evidence.certificate
    if document is None or isinstance(document, str):
        return result
    evidence = dataclasses.replace(result.evidence, certificate=certificate_name(document))
    return dataclasses.replace(result, evidence=evidence)


def _finite(value: Any) -> Any:
    """``value`` with infinities and NaN as strings: JSON has no numbers for them."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
