"""A hook of mkdocs: files of the repository to which pages link become part of the site.

A link of a page such as ``../recipes/xnli/xlm.yaml`` leads out of the folder of pages, which a site
cannot follow. The file is copied below ``repository/``, a folder becomes a page that lists its
files, and the links are rewritten; ``mkdocs build --strict`` then checks all of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
HOME = Path("README.md")
"""The site has a first page of its own in place of this one."""


def target_of(link: str, source: Path) -> Path | None:
    """Return the file that a link of the file ``source`` leads to, if it is in the repository."""
    path = Path(os.path.normpath(source.parent / link))
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) and path.exists() else None


def place_of(path: Path) -> str:
    """Return the place of a file of the repository in the site."""
    name = path.as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"repository/{name}/index.md"
    if path == HOME:
        return "index.md"
    return f"repository/{re.sub(r'README.md$', 'index.md', name)}"


def rewritten(markdown: str, source: Path) -> str:
    """Return a page whose links lead to places in the site."""
    here = PurePosixPath(place_of(source.relative_to(ROOT))).parent

    def link(match: re.Match[str]) -> str:
        path = target_of(match[1], source)
        if path is None:
            return match[0]
        heading = "" if path == HOME else match[2] or ""
        return f"]({os.path.relpath(place_of(path), here)}{heading})"

    return LINK.sub(link, markdown)


def text_of(path: Path) -> str:
    """Return the Markdown of a page; for a folder, a list of what it holds."""
    full = ROOT / path
    if not full.is_dir():
        return full.read_text(encoding="utf-8")
    names = sorted(own.name + "/" * own.is_dir() for own in full.iterdir() if own.name[0] != ".")
    lines = [f"- [{name}]({path.name}/{name.rstrip('/')})" for name in names]
    return "\n".join([f"# {path.as_posix()}", "", *lines, ""])


def is_page(path: Path) -> bool:
    """Return whether a file of the repository becomes a page, and is not copied as it is."""
    return path.suffix == ".md" or (ROOT / path).is_dir()


def outside(pages: list[Path]) -> list[Path]:
    """Return all files and folders outside of docs/ to which pages lead, directly or not."""
    found: list[Path] = []
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        for match in LINK.finditer(text_of(page)):
            path = target_of(match[1], ROOT / page)
            if path is None or path in found or path.parts[0] == "docs" or path == HOME:
                continue
            found.append(path)
            if is_page(path):
                waiting.append(path)
    return sorted(found)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files of the repository to which pages lead."""
    pages = [Path("docs") / file.src_uri for file in files.documentation_pages()]
    for path in outside(pages):
        if is_page(path):
            text = rewritten(text_of(path), ROOT / path)
            files.append(File.generated(config, place_of(path), content=text))
        else:
            files.append(File.generated(config, place_of(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Rewrite the links of a page of docs/."""
    if page.file.generated_by:
        return markdown
    return rewritten(markdown, ROOT / "docs" / page.file.src_uri)
