"""Good certificates are accepted; bad ones, and good ones with anything changed, are not."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from symcheck.kernel.__main__ import verify
from symcheck.kernel.check import Accepted, check
from symcheck.kernel.document import Decline, Reject
from tests.kernel import certificates
from tests.kernel.certificates import CORPUS, Document, changed

GOOD = sorted((CORPUS / "good").glob("proof-*.json"))
BAD = sorted((CORPUS / "bad").glob("proof-*.json"))
MUTANTS = 300
"""Tampered copies of one certificate in one run; ``python -m tests.kernel.test_certificates`` tries all."""


def name(path: Path) -> str:
    return path.stem.removeprefix("proof-")


@cache
def proofs() -> dict[str, Document]:
    return certificates.good()


def one_line(reason: Exception) -> None:
    if len(str(reason).splitlines()) != 1:
        pytest.fail(f"not one line: {reason}")


def accepts(kernel: Callable[[bytes], Any], path: Path) -> bool:
    try:
        kernel(path.read_bytes())
    except (Reject, Decline) as reason:
        one_line(reason)
        return False
    return True


def failures(kernel: Callable[[bytes], Any]) -> list[str]:
    """The suite, for any kernel: what it accepts and should not, or the other way round."""
    return [name(p) for p in GOOD if not accepts(kernel, p)] + [name(p) for p in BAD if accepts(kernel, p)]


def test_corpus() -> None:
    assert len(GOOD) >= 15
    assert len(BAD) >= 35
    assert failures(verify) == []


def test_a_kernel_that_always_accepts_fails() -> None:
    assert failures(lambda data: None) == [name(p) for p in BAD]


def test_a_kernel_that_always_rejects_fails() -> None:
    def never(data: bytes) -> None:
        raise Reject("no")

    assert failures(never) == [name(p) for p in GOOD]


def test_the_prover_still_finds_the_good_ones() -> None:
    assert {f"proof-{key}" for key in proofs()} == {p.stem for p in GOOD}
    for document in proofs().values():
        check(document)


def test_each_bad_one_is_rejected_for_its_own_reason() -> None:
    """Also without the hash of its subject, which `certificates.sealed` makes fit."""
    reasons = {}
    for key, document in certificates.bad(proofs()).items():
        with pytest.raises(Reject) as reason:
            check(document)
        reasons[key] = str(reason.value)
    assert [key for key, text in reasons.items() if text.startswith("subject")] == ["other-program"]


def test_without_assertions_and_packages() -> None:
    """``python -O -I`` sees only the standard library here: the kernel imports nothing else."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from symcheck.kernel.__main__ import main; sys.exit(main(sys.argv[1:]))"  # noqa: E501
    root = str(CORPUS.parents[2])
    for paths, expected in ((GOOD, 0), (BAD[:1], 1)):
        command = [sys.executable, "-O", "-I", "-S", "-c", code, root, *map(str, paths)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == expected


# -- tampering ---------------------------------------------------------------------------------------------------------


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def replacements(data: Any, known: dict[Any, list[Any]], key: Any) -> Iterator[Any]:
    """What a value may be changed to: near ones, and others that stand in such a place of the document."""
    if isinstance(data, bool):
        yield not data
    elif isinstance(data, int):
        yield from (data + 1, data - 1)
    elif isinstance(data, str):
        yield data + "x"
        yield from ("1", "-1", "1/2") if data.lstrip("-").replace("/", "").isdigit() else ()
    elif isinstance(data, list):
        yield from ([*data[:i], *data[i + 1 :]] for i in range(len(data)))
        yield from ([*data[:i], data[i + 1], data[i], *data[i + 2 :]] for i in range(len(data) - 1))
        yield from ([*data, *data[-1:]], [*data, 0])
    elif isinstance(data, dict):
        yield from ({k: v for k, v in data.items() if k != gone} for gone in data)
        yield {**data, "extra": 0}
    if data is not None:
        yield None
    yield from (other for other in known.get(key, []) if type(other) is type(data))


def kind(path: tuple[Any, ...]) -> Any:
    """What stands in a place, where values of other such places might be put."""
    return next(key for key in reversed(path) if isinstance(key, str)), len(path)


def mutants(document: Document) -> list[tuple[tuple[Any, ...], Any]]:
    """Every place of a document with everything that it is changed to."""
    found = list(places(document))
    known: dict[Any, list[Any]] = {}
    for path in found:
        value = at(document, path)
        if value not in known.setdefault(kind(path), []):
            known[kind(path)].append(value)
    result = []
    for path in found:
        value = at(document, path)
        unlike = [new for new in replacements(value, known, kind(path)) if json.dumps(new) != json.dumps(value)]
        result += [(path, new) for i, new in enumerate(unlike) if new not in unlike[:i]]
    return result


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def put(document: Document, path: tuple[Any, ...], value: Any) -> Document:
    document = copy.deepcopy(document)
    at(document, path[:-1])[path[-1]] = value
    return document


def harmless(document: Document, path: tuple[Any, ...], value: Any) -> bool:
    """Changes that leave what is proved, of which programs, and under which conditions:

    the report of the bridge, which is not part of the proof; the order of nodes; and the law of a line, or of a state
    tensor, that is given up (null) or weakened: the kernel accepts that only if nothing else rests on it.
    """
    if "law" in path:
        place = path[: path.index("law")]
        if at(document, place)["op"] == "coerce":
            return True  # any law that follows from its operand's
        law, weaker = (at(x, place)["law"] for x in (document, put(document, path, value)))
        return implied(law, weaker)
    if path[0] == "bridge" or path == ("nodes",):
        return True
    return value is None and (path[-1] == "law" or path[2:3] == ("laws",))


def implied(law: Any, weaker: Any) -> bool:
    """Whether a law of a line says less than another, in the JSON of certificates and by eye:

    facts left out, labels that give up something, or null.
    """
    if weaker is None or law == weaker:
        return True
    if isinstance(law, list) and law and isinstance(law[0], dict):  # a bundle
        return isinstance(weaker, list) and len(law) == len(weaker) and all(map(implied, law, weaker))
    if isinstance(law, list):  # of a shift, or of sums
        return (law[0] == weaker[0] and law[1] is None) or weaker == ["0", 0]
    if "zero" in law:
        return law["zero"] == len(weaker["axes"]) if "axes" in weaker else False
    if "axes" not in weaker or len(law["axes"]) != len(weaker["axes"]) or law.get("scalars") != weaker.get("scalars"):
        return False
    less = all(law.get(fact, False) >= weaker.get(fact, False) for fact in ("sym", "nonneg"))
    iso = ["iso"] in law["axes"]
    return less and all(
        a == b or iso or a == ["free"] or (a[0].startswith("eig") and b in (["inv"], ["eig", a[1]]))
        or (len(a) == len(b) == 5 and a[2:] == [1, *b[3:]] and b[2] == 0)
        for a, b in zip(law["axes"], weaker["axes"], strict=True)
    )  # fmt: skip


def examine(document: Document, chosen: list[tuple[tuple[Any, ...], Any]]) -> list[str]:
    """The tampered copies that were accepted and should not have been."""
    original = check(document)
    wrong = []
    for path, value in chosen:
        try:
            result: Accepted | None = check(put(document, path, value))
        except (Reject, Decline) as reason:
            one_line(reason)
            continue
        if result != original or not harmless(document, path, value):
            wrong.append(f"{'/'.join(map(str, path))} = {json.dumps(value)[:80]}")
    return wrong


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_tampering(path: Path) -> None:
    document = json.loads(path.read_text())
    everything = mutants(document)
    chosen = random.Random(path.stem).sample(everything, min(MUTANTS, len(everything)))
    assert examine(document, chosen) == []


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_tampering_with_the_proof_needs_no_hash(path: Path) -> None:
    """The same for laws, gauges, nodes and conditions, which the hash of the subject does not cover."""
    document = json.loads(path.read_text())
    proof = {"law", "gauge", "rename", "nodes", "conditions"}
    everything = [(p, value) for p, value in mutants(document) if proof & {key for key in p if isinstance(key, str)}]
    chosen = random.Random(path.stem).sample(everything, min(MUTANTS, len(everything)))
    assert examine(document, chosen) == []


def test_a_larger_group_needs_another_proof() -> None:
    """The claim changed to a class that contains the one proved, with a hash that fits (Muon's group is larger)."""
    larger = {"perm": "sperm", "sperm": "orth", "scale+": "scale"}
    count = 0
    for document in (document for key, document in proofs().items() if not key.startswith("muon")):
        for number, variable in enumerate(document["claim"].get("variables", [])):
            if variable["class"] in larger:
                with pytest.raises(Reject):
                    check(changed(document, "claim", "variables", number, "class", to=larger[variable["class"]]))
                count += 1
    assert count >= 5


if __name__ == "__main__":
    for path in GOOD:
        document = json.loads(path.read_text())
        everything = mutants(document)
        print(path.stem, len(everything), examine(document, everything))
