"""Small faults of prose in what people read: `python tests/prose.py` lists them, and `make lint` runs it.

It reads the pages, the captions of figures, and the docstrings of the library. Code, formulas, tables and
links are left out. codespell looks at the letters of words.
"""
import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("*.md", "book/*.md", "nbs/**/*.ipynb", "rhmdiff/**/*.py")

CODE = r"```.*?```|`[^`]*`"
FORMULAS = r"\$\$.*?\$\$|\$[^$]*\$"
MARKS = r"\]\([^)]*\)|<[^>]*>|https?://\S+|^\|.*?$|\A---.*?^---"  # links, HTML, tables, a header
NO_PROSE = re.compile(f"{CODE}|{FORMULAS}|{MARKS}", re.S | re.M)

BETWEEN = r"(?:[^\S\n]+|[^\S\n]*\n[^\S\n]*)"  # two words of one paragraph
RULES = {name: re.compile(rule) for name, rule in {
    "a word twice": rf"\b(?!that\b)(?i:([a-z]+){BETWEEN}\1)\b",
    "a gap in a line": r"(?<=\S)   +(?=\S)",
    "a space before it": r"\w [,;!](?=\s)|\w \.(?=\s)",
    "a before a vowel": r"\b[Aa]\s+(?!one\b|once\b|one-|un[iv]|us[aeu]|eu)[aeiou]\w+",
    "an before a consonant": r"\b[Aa]n\s+(?!hour|honest|heir)[b-df-hj-np-tv-z]\w+",
    "an abbreviation": r"\b(?:e\.g\.|i\.e\.|etc\.|cf\.|w\.r\.t\.|resp\.)",
}.items()}


def cells(notebook: dict) -> Iterator[tuple[str, str]]:
    "The prose of a notebook and its place: cells of Markdown, and captions."
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        captions = re.findall(r"^#\| fig-cap: (.*)", source, re.M)
        for text in [source] if cell["cell_type"] == "markdown" else captions: yield f":{cell['id']}", text


def docstrings(source: str) -> Iterator[tuple[str, str]]:
    "The docstrings of a module and their places."
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)): continue
        if text := ast.get_docstring(node): yield f":{getattr(node, 'name', '')}", text


def prose(path: Path) -> Iterator[tuple[str, str]]:
    "The prose of a file and its place there."
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb": return cells(json.loads(text))
    return docstrings(text) if path.suffix == ".py" else iter([("", text)])


def faults(text: str) -> Iterator[str]:
    "What is wrong in a text."
    words = NO_PROSE.sub("\N{REPLACEMENT CHARACTER}", text)
    for name, rule in RULES.items():
        for match in rule.finditer(words):
            around = " ".join(words[max(0, match.start() - 30):match.end() + 30].split())
            yield f"{name}: {match[0]!r} in … {around} …"


def main() -> None:
    found = [f"{path.relative_to(ROOT)}{place}: {fault}"
             for pattern in FILES for path in sorted(ROOT.glob(pattern))
             for place, text in prose(path) for fault in faults(text)]
    if found: sys.exit("\n".join(found))


if __name__ == "__main__": main()
