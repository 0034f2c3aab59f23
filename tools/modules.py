"""Write the list of modules in docs/architecture.md from the modules' docstrings.

    python tools/modules.py [--check]

With ``--check`` the page is left as it is, and the exit status is 1 if it is out of date.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- modules -->", "<!-- end of modules -->"


def summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring on one line, as Markdown."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def listing(package: Path) -> str:
    """Return one table for each folder of a package, with a row for each module."""
    tables = []
    for folder in sorted({path.parent for path in package.rglob("*.py")}):
        room = folder.relative_to(package.parent).as_posix() + "/"
        modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        if not modules:
            continue
        top = folder == package  # a full path there, as its name alone would be no room
        idea = "" if top else summary(folder / "__init__.py")
        rows = [f"| `{room}` | {idea} |" if idea else f"| `{room}` | |", "| --- | --- |"]
        for path in modules:
            name = room + path.name if top else path.name
            rows.append(f"| `{name}` | {summary(path)} |")
        tables.append("\n".join(rows) + "\n")
    return "\n".join(tables)


def rebuilt(page: str, package: Path) -> str:
    """Return a page with its list of modules made anew."""
    before, found, rest = page.partition(BEGIN + "\n")
    _, closed, after = rest.partition(END + "\n")
    if not found or not closed:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}: add them")
    return f"{before}{BEGIN}\n\n{listing(package)}\n{END}\n{after}"


def main() -> int:
    """Rewrite the page, or check it; return the exit status."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="only check that it is current")
    page = PAGE.read_text(encoding="utf-8")
    new = rebuilt(page, ROOT / "xlm")
    if options.parse_args().check:
        if new != page:
            sys.stderr.write(f"{PAGE.name} is out of date: run python tools/modules.py\n")
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
