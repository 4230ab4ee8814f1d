"""Debian's documentation as a source: the system's own archive, and each document once."""

import gzip

import pytest

from paper_repro.data.debian import Archive, Debian, read_documentation, system_archive, system_archives

PROSE = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 10
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12"\nVERSION_CODENAME=bookworm\n'
DEB822 = """\
# a comment
Types: deb
URIs: http://archive.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/example.gpg

Types: deb
URIs: http://archive.example/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
deb http://vendor.example/apt vendor-bookworm main
deb-src http://other.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/key.gpg] http://other.example/debian bookworm main contrib  # ours
"""


@pytest.fixture
def system(tmp_path):
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text(OS_RELEASE)
    return tmp_path


def test_both_forms_of_sources_are_read(system):
    (system / "etc/apt/sources.list").write_text(ONE_LINE)
    (system / "etc/apt/sources.list.d/debian.sources").write_text(DEB822)
    assert system_archives(system) == [
        Archive("http://other.example/debian", "bookworm", "/etc/key.gpg"),
        Archive("http://archive.example/debian", "bookworm", "/usr/share/keyrings/example.gpg"),
    ]


def test_a_system_without_an_archive_is_said_so(system):
    with pytest.raises(ValueError, match="give one with --mirror"):
        system_archive(system)


def test_the_private_list_names_suite_components_and_key():
    text = Archive("http://archive.example/debian", "bookworm", "/key.gpg").sources(("main", "non-free"))
    assert text.splitlines() == [
        "Types: deb",
        "URIs: http://archive.example/debian",
        "Suites: bookworm",
        "Components: main non-free",
        "Signed-By: /key.gpg",
    ]


def test_a_machine_without_apt_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="source debian needs apt-get"):
        Debian(["linux-doc"]).parts(tmp_path)


def test_each_document_once_and_prose_only(tmp_path):
    doc = tmp_path / "usr/share/doc/x"
    doc.mkdir(parents=True)
    (doc / "guide.txt.gz").write_bytes(gzip.compress(PROSE.encode()))
    (doc / "guide.html").write_text(f"<p>{PROSE}</p>")  # the same again
    (doc / "page.html").write_text(f"<p>{PROSE} More.</p>")
    (doc / "changelog.txt").write_text(PROSE)
    (doc / "genindex.html").write_text(PROSE)
    (doc / "table.txt").write_text("0123456789|" * 100)
    (doc / "short.txt").write_text("short")
    (doc / "link.txt").symlink_to(doc / "table.txt")
    assert [each.name.rpartition("/")[2] for each in read_documentation(tmp_path)] == ["guide.txt.gz", "page.html"]
