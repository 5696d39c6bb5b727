"""README.md from nbs/index.ipynb: its text as it stands, its code as fenced blocks, hidden cells left out.

A cell under `#| echo: false` is run in the folder of the notebook, and leaves what it shows: its Markdown, or
its figure, which is saved again only where the cell or the results that it reads have changed."""
import ast
import hashlib
import os
import re
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
FIGURE = ROOT/"book"/"assets"/"readme.png"


def shown(source: str, names: dict) -> str:
    "What a cell shows, run with `names`, which it adds to."
    *statements, last = ast.parse(source).body
    ends = isinstance(last, ast.Expr)
    exec(compile(ast.Module(statements if ends else [*statements, last], []), "index.ipynb", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "index.ipynb", "eval"), names) if ends else None
    told = dict(re.findall(r'^#\| (fig-cap|fig-alt): "(.*)"$', source, re.MULTILINE))
    if not told: return value.data
    save(names["fig"], source)
    return f"![{told['fig-alt']}]({FIGURE.relative_to(ROOT).as_posix()})\n\n*{told['fig-cap']}*"


def save(figure, source: str) -> None:
    "Save a figure, with a hash of what it is made from; leave one that has the same."
    made_from = key(source)
    if FIGURE.exists() and Image.open(FIGURE).info.get("Source") == made_from: return
    figure.savefig(FIGURE, dpi=160, metadata={"Source": made_from, "Software": None})


def key(source: str) -> str:
    "A hash of the cell that draws the figure and of the record of the results that it reads."
    record = (ROOT/"book"/"reference"/"phase_transition"/"run.json").read_bytes()
    return hashlib.sha256(source.encode() + record).hexdigest()


def readme() -> str:
    parts, names = [], {}
    before = os.getcwd()
    os.chdir(ROOT/"nbs")
    try:
        for cell in nbformat.read("index.ipynb", as_version=4).cells:
            if cell.cell_type == "markdown": parts.append(cell.source)
            elif cell.source.startswith("#| echo: false"): parts.append(shown(cell.source, names))
            elif not cell.source.startswith("#| hide"): parts.append(f"```python\n{cell.source}\n```")
    finally: os.chdir(before)
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__": (ROOT/"README.md").write_text(readme(), encoding="utf-8")
