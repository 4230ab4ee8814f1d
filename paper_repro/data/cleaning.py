"""Text out of the forms it comes in: plain files, RFCs with their page breaks, HTML, manual pages' markup.

Cleaning is deliberately plain: it removes what no reader would miss, and changes no words.
"""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")

# The last and the first line of a page of an RFC: "Bradner   Best Current Practice   [Page 2]" and
# "RFC 2119   RFC Key Words   March 1997".
_PAGE_FOOT = re.compile(r"^\S.*\[Page [0-9ivxlc]+\][ \t]*$", re.MULTILINE)
_PAGE_HEAD = re.compile(r"\f[ \t]*\n*(?:(?:RFC|INTERNET-DRAFT)\b.*\n)?", re.IGNORECASE)

_SKIPPED = frozenset({"script", "style", "nav", "head", "noscript", "svg", "form", "footer", "header"})
_LINE = frozenset(
    {"p", "div", "br", "hr", "li", "ul", "ol", "dl", "dt", "dd", "table", "tr", "pre", "blockquote", "section"}
    | {"article", "h1", "h2", "h3", "h4", "h5", "h6"}
)


def normalise(text: str) -> str:
    """NFC, one kind of line end, no control characters, no trailing blanks, at most one empty line in a row."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", ""))
    text = _CONTROL.sub("", text.replace("\f", "\n"))
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text)).strip("\n") + "\n"


def clean_rfc(text: str) -> str:
    """An RFC as one text: page feet, form feeds and page heads are gone, and with them the gaps between pages."""
    text = _PAGE_FOOT.sub("\f", text.replace("\r\n", "\n"))
    # What is left between two pages is a form feed with blank lines around it; a paragraph may go on behind it.
    text = re.sub(r"\n*\f\s*\f", "\f", text)
    return normalise(re.sub(r"\n+\f", "\n\n\f", _PAGE_HEAD.sub("\f", text)).replace("\f", ""))


def clean_html(text: str) -> str:
    """The readable text of an HTML page; ``pre`` keeps its line breaks, navigation and scripts are gone."""
    parser = _Reader()
    parser.feed(text)
    parser.close()
    return normalise("".join(parser.pieces))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._skipped = 0
        self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipped += tag in _SKIPPED
        self._verbatim += tag == "pre"
        if tag in _LINE:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._skipped = max(0, self._skipped - (tag in _SKIPPED))
        self._verbatim = max(0, self._verbatim - (tag == "pre"))
        if tag in _LINE:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.pieces.append(data if self._verbatim else re.sub(r"\s+", " ", data))


def clean(name: str, text: str) -> str:
    """The cleaning that the file name calls for."""
    lower = name.lower()
    if lower.endswith((".html", ".htm", ".xhtml")):
        return clean_html(text)
    if re.search(r"(^|/)rfc[0-9]+(\.txt)?$", lower.removesuffix(".gz")):
        return clean_rfc(text)
    return normalise(text)
