"""A document as Markdown and as HTML, with its figures as PNG and SVG; equal documents give equal files."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from paper_repro.records import write_atomically
from paper_repro.report.document import Document

_PAGES = ("report.md", "report.html")


def write(document: Document, folder: Path) -> Path:
    """Writes all files into ``folder`` and removes figures of earlier reports; returns the Markdown page."""
    environment = _environment()
    drawings = folder / "figures"
    drawings.mkdir(parents=True, exist_ok=True)
    figures = [figure for section in document.sections for figure in section.figures]
    from paper_repro.report.figures import save

    for figure in figures:
        save(figure.draw(), drawings, figure.name)
    for old in drawings.iterdir():
        if old.suffix in (".png", ".svg") and old.stem not in {figure.name for figure in figures}:
            old.unlink()
    for page in _PAGES:
        text = environment.get_template(f"{page}.j2").render(document=document)
        write_atomically(folder / page, re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n")
    return folder / "report.md"


def _environment() -> Any:
    try:
        jinja2 = importlib.import_module("jinja2")
        importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the report needs {error.name}: install it with `pip install 'symcheck[report]'`", name=error.name
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("paper_repro.report"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    environment.filters["anchor"] = _anchor
    return environment


def _cell(text: str) -> str:
    """Text inside a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
