"""Where text comes from. A source is a list of parts, each fetched, cleaned and kept on its own, so that work resumes.

``pydoc`` ships with Python and needs no network; ``files`` is a folder of the user's; ``debian`` fetches documentation
packages by apt; ``fineweb`` streams the corpus of the paper. Shards that are tokenised already are in
`paper_repro.data.hub`.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from paper_repro.data.cleaning import clean, normalise

_HEADING = re.compile(r"\n(?=[^\n]+\n[*=~-]{3,}\n)")
"""The line end in front of an underlined line."""


class Document(NamedTuple):
    """One document: where it came from, and its cleaned text."""

    name: str
    text: str


@dataclass(frozen=True)
class Part:
    """A piece of a source. ``pin`` says which version it is; a part with the same name and pin has the same text."""

    name: str
    pin: str
    documents: Callable[[], Iterator[Document]]


class Source(Protocol):
    """A source of text."""

    @property
    def licence(self) -> str:
        """Of the text, for the manifest."""

    def parts(self, work: Path) -> Sequence[Part]:
        """All parts, in a fixed order; ``work`` is a folder for what has to be fetched."""


@dataclass(frozen=True)
class Pydoc:
    """The language reference that CPython carries (``pydoc_data.topics``): 0.46 MB of English prose.

    A document is a section of a topic: topics are few, and some of them long. The text differs between versions of
    Python, so that the manifests do too.
    """

    licence: str = "Python Software Foundation License"

    def parts(self, work: Path) -> Sequence[Part]:
        """One part: the topics in alphabetical order."""
        topics: Mapping[str, str] = importlib.import_module("pydoc_data.topics").topics
        joined = "\0".join(f"{name}\0{topics[name]}" for name in sorted(topics))

        def documents() -> Iterator[Document]:
            for name in sorted(topics):
                for number, section in enumerate(_HEADING.split(normalise(topics[name]))):
                    yield Document(f"{name}:{number}", normalise(section))

        digest = hashlib.sha256(joined.encode()).hexdigest()
        return [Part("topics", f"Python {platform.python_version()}, sha256 {digest}", documents)]


@dataclass(frozen=True)
class Files:
    """Text (``.txt .md .rst .html``, also gzipped) and JSONL files (one object per line, key ``text``) of a folder."""

    path: str
    key: str = "text"
    licence: str = "that of the user's files"

    def parts(self, work: Path) -> Sequence[Part]:
        """One part per file. Raises ValueError if there is no such file in the folder."""
        root = Path(self.path)
        found = sorted(each for each in root.rglob("*") if each.is_file() and _readable(each.name))
        if not found:
            raise ValueError(f"{root}: no .txt, .md, .rst, .html or .jsonl file there")
        return [self._part(root, each) for each in found]

    def _part(self, root: Path, file: Path) -> Part:
        name = file.relative_to(root).as_posix()

        def documents() -> Iterator[Document]:
            if not _suffix(file.name).endswith("jsonl"):
                yield Document(name, clean(_plain_name(file.name), read_text(file)))
                return
            for number, line in enumerate(read_text(file).splitlines(), 1):
                if line.strip():
                    yield Document(f"{name}:{number}", normalise(self._text(file, number, line)))

        return Part(name, "sha256 " + hashlib.sha256(file.read_bytes()).hexdigest(), documents)

    def _text(self, file: Path, number: int, line: str) -> str:
        try:
            text = json.loads(line)[self.key]
        except (ValueError, KeyError, TypeError):
            text = None
        if not isinstance(text, str):
            raise ValueError(f"{file}, line {number}: not a JSON object with a text under {self.key!r}")
        return text


@dataclass(frozen=True)
class FineWeb:
    """FineWeb-Edu (or another text corpus of the hub) by streaming, the first ``documents`` documents."""

    documents: int
    repository: str = "HuggingFaceFW/fineweb-edu"
    subset: str = "sample-10BT"
    revision: str | None = None
    per_part: int = 50_000
    licence: str = "ODC-By 1.0"

    def parts(self, work: Path) -> Sequence[Part]:
        """Parts of ``per_part`` documents. Raises ModuleNotFoundError naming the extra without ``datasets``."""
        library = optional("datasets", "fineweb")
        stream = library.load_dataset(
            self.repository, name=self.subset, split="train", streaming=True, revision=self.revision
        )
        return [self._part(stream, first) for first in range(0, self.documents, self.per_part)]

    def _part(self, stream: Any, first: int) -> Part:
        count = min(self.per_part, self.documents - first)

        def documents() -> Iterator[Document]:
            for row in stream.skip(first).take(count):
                yield Document(str(row.get("id", "")), normalise(row["text"]))

        pin = f"{self.repository} {self.subset} {self.revision or 'main'}, {count} documents from {first}"
        return Part(f"documents-{first:09d}", pin, documents)


def optional(module: str, extra: str) -> Any:
    """An optional module, or ModuleNotFoundError, one line, naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ModuleNotFoundError(f"this needs {module}: install it with `pip install 'symcheck[{extra}]'`") from None


def read_text(path: Path) -> str:
    """A text file, gzipped or not; UTF-8, or Latin-1 where it is not UTF-8."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _plain_name(name: str) -> str:
    return name.removesuffix(".gz")


def _suffix(name: str) -> str:
    return Path(_plain_name(name)).suffix.lower()


def _readable(name: str) -> bool:
    return _suffix(name) in {".txt", ".md", ".rst", ".html", ".htm", ".xhtml", ".jsonl"}


def is_prose(text: str) -> bool:
    """Whether a document is worth training on: long enough, and mostly letters and blanks."""
    return len(text) >= 400 and sum(each.isalpha() or each.isspace() for each in text) >= 0.6 * len(text)
