"""Documentation packages of Debian as a source of text: fetched with apt's own tools, unpacked, never installed.

Works on Debian and its relatives, as any user. The archive is the one that this system's own configuration names for
its release, or the one given; a private sources list adds the components that the packages are in, and nothing of the
system's apt is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from paper_repro.data.cleaning import clean
from paper_repro.data.sources import Document, Part, is_prose, read_text

_TEXT = re.compile(r"\.(txt|html|htm|xhtml|md|rst)(\.gz)?$", re.IGNORECASE)
_NOT_PROSE = re.compile(r"(^|/)(changelog|copyright|news|todo|genindex|search|py-modindex)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Archive:
    """A Debian archive: where it is, the suite, and the key ring that signs it (None: apt's own)."""

    uri: str
    suite: str
    signed_by: str | None = None

    def sources(self, components: Sequence[str]) -> str:
        """A sources list in deb822 form."""
        lines = ["Types: deb", f"URIs: {self.uri}", f"Suites: {self.suite}", f"Components: {' '.join(components)}"]
        return "\n".join(lines + ([f"Signed-By: {self.signed_by}"] if self.signed_by else [])) + "\n"


@dataclass(frozen=True)
class Debian:
    """The text of documentation packages; ``mirror`` is ``URI`` or ``URI SUITE``, else this system's own."""

    packages: Sequence[str]
    components: Sequence[str] = ("main",)
    mirror: str | None = None
    licence: str = "those of the packages (usr/share/doc/*/copyright)"

    def parts(self, work: Path) -> Sequence[Part]:
        """One part per package, as fetched; packages that the archive does not have are an error that names them."""
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise ValueError(f"source debian needs {tool}: use it on Debian or Ubuntu, or use `files` or `fineweb`")
        apt = _Apt(work / "apt", self._archive())
        apt.update(self.components)
        found = apt.find(self.packages)
        names = list(dict.fromkeys(each for name in self.packages for each in found[name].contents or [name]))
        found = apt.find(names)
        return [self._part(apt, name, found[name].pin) for name in names]

    def _archive(self) -> Archive:
        if self.mirror is None:
            return system_archive()
        uri, _, suite = self.mirror.partition(" ")
        own = [each for each in system_archives() if not suite or each.suite == suite]
        if not suite and not own:
            raise ValueError(f"mirror {uri!r}: say the suite too, as in 'URI SUITE'")
        return Archive(uri, suite or own[0].suite, own[0].signed_by if own else None)

    def _part(self, apt: _Apt, name: str, version: str) -> Part:
        def documents() -> Iterator[Document]:
            with tempfile.TemporaryDirectory(dir=apt.folder) as unpacked:
                subprocess.run(["dpkg-deb", "-x", str(apt.download(name)), unpacked], check=True)
                yield from read_documentation(Path(unpacked))

        return Part(name, version, documents)


def read_documentation(root: Path) -> Iterator[Document]:
    """The prose under an unpacked package, in a fixed order; no symbolic links, no change logs, no indices.

    A document that comes both as text and as HTML is taken once, as text: twice would put it on both sides of the
    hold-out.
    """
    names = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    plain = {_TEXT.sub("", name) for name in names if name.lower().removesuffix(".gz").endswith(".txt")}
    for name, path in names.items():
        if path.is_symlink() or not _TEXT.search(name) or _NOT_PROSE.search(name):
            continue
        if "html" in path.name.lower() and _TEXT.sub("", name) in plain:
            continue
        text = clean(name.removesuffix(".gz"), read_text(path))
        if is_prose(text):
            yield Document(name, text)


def system_archive(root: Path = Path("/")) -> Archive:
    """The archive that the system's own apt configuration names for its release; ValueError if there is none."""
    found = system_archives(root)
    if not found:
        raise ValueError("no archive of this release in /etc/apt: give one with --mirror 'URI SUITE'")
    return found[0]


def system_archives(root: Path = Path("/")) -> list[Archive]:
    """Archives in ``/etc/apt`` with the suite of ``/etc/os-release`` and the component ``main``, in order."""
    release = root / "etc/os-release"
    codename = re.search(r"^VERSION_CODENAME=\"?(\w+)", release.read_text() if release.exists() else "", re.MULTILINE)
    folder = root / "etc/apt"
    entries = [*_one_line(folder / "sources.list")]
    for path in sorted((folder / "sources.list.d").glob("*")):
        entries += _one_line(path) if path.suffix == ".list" else _deb822(path) if path.suffix == ".sources" else ()
    return [
        Archive(uri, suite, key)
        for uri, suites, components, key in entries
        for suite in suites
        if codename and suite == codename[1] and "main" in components
    ]


_Entry = tuple[str, list[str], list[str], str | None]


def _one_line(path: Path) -> Iterator[_Entry]:
    """``deb [signed-by=KEY] URI SUITE COMPONENT...`` lines."""
    pattern = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")
    for line in path.read_text().splitlines() if path.exists() else ():
        if match := pattern.match(line.partition("#")[0].strip()):
            key = re.search(r"signed-by=(\S+)", match["options"] or "")
            yield match["uri"], [match["suite"]], match["components"].split(), key[1] if key else None


def _deb822(path: Path) -> Iterator[_Entry]:
    """Stanzas of ``Key: value`` lines."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            key.lower(): value.strip() for key, value in re.findall(r"^([\w-]+):[ \t]*(.*)$", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no":
            for uri in fields.get("uris", "").split():
                key = fields.get("signed-by")
                yield uri, fields.get("suites", "").split(), fields.get("components", "").split(), key or None


class _Package(NamedTuple):
    """Version and hash of a package, and what to take in its place: ``python3-doc`` only depends on the real one."""

    pin: str
    contents: list[str]


class _Apt:
    """apt with a sources list, lists and cache of its own."""

    def __init__(self, folder: Path, archive: Archive) -> None:
        self.folder = folder.resolve()
        self.archive = archive
        for name in ("lists/partial", "cache/archives/partial", "debs", "parts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::sourcelist": self.folder / "private.sources",
            "Dir::Etc::sourceparts": self.folder / "parts",
            "Dir::State::lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "APT::Get::List-Cleanup": "0",
            "Acquire::Languages": "none",
        }
        if os.geteuid() == 0:  # the user that apt steps down to cannot write into a private folder
            settings["APT::Sandbox::User"] = "root"
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def _run(self, *command: str, cwd: Path | None = None, check: bool = True) -> str:
        done = subprocess.run(
            [command[0], *self._options(), *command[1:]],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        if check and done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            raise ValueError(f"{' '.join(command)} failed with {self.archive.uri}: {said[-1]}")
        return done.stdout

    def update(self, components: Sequence[str]) -> None:
        (self.folder / "private.sources").write_text(self.archive.sources(components))
        self._run("apt-get", "-qq", "update")

    def find(self, packages: Sequence[str]) -> dict[str, _Package]:
        """What the archive says of each package; ValueError naming those that it does not have."""
        found: dict[str, _Package] = {}
        for stanza in self._run("apt-cache", "show", "--no-all-versions", *packages, check=False).split("\n\n"):
            fields = dict(re.findall(r"^(Package|Version|SHA256|Depends): (.*)$", stanza, re.MULTILINE))
            if "SHA256" in fields:
                pin = f"{fields['Version']}, sha256 {fields['SHA256']}"
                depends = (word.split()[0] for word in fields.get("Depends", "").split(",") if word.strip())
                contents = [name for name in depends if re.search(r"-doc(-|$)", name)]
                found[fields["Package"]] = _Package(pin, contents)
        if missing := [name for name in packages if name not in found]:
            raise ValueError(f"{self.archive.uri} {self.archive.suite} has no package {', '.join(missing)}")
        return found

    def download(self, package: str) -> Path:
        """The package's file; apt checks its hash, and goes on with what an earlier attempt has left."""
        self._run("apt-get", "-qq", "download", package, cwd=self.folder / "debs")
        (path,) = (self.folder / "debs").glob(f"{package}_*.deb")
        return path
