"""How a notebook is shown in the book: its plumbing left out, its definitions marked, its figures named.

A committed notebook carries directives for nbdev (`#| export`, `#| hide`, ...) and for figures. The book
reads an executed copy of it through `readable`, which changes only what is displayed.
"""
import ast
import json
import re
from pathlib import Path

import yaml

FOLD = 45          # exported definitions up to this many lines are shown open
FOLD_FIGURE = 12   # and code that only draws a figure
DIRECTIVE = re.compile(r"^#\|\s*([\w-]+)\s*:?\s*(.*?)\s*$")
DEFINES = re.compile(r"(:label:\s*|\$\$\s*\(|^\()([\w-]+)", re.M)
REFERS = re.compile(r"(\{(?:numref|ref|eq)\}`(?:[^`<]*<)?)([\w-]+)")


def split(source: str) -> tuple[dict, str]:
    "The directives at the head of a code cell, and the code below them."
    lines, found = source.splitlines(), {}
    while lines and (match := DIRECTIVE.match(lines[0])):
        found[match[1]] = match[2]
        lines.pop(0)
    return found, "\n".join(lines).strip("\n")


def parse(code: str) -> list[ast.stmt]:
    "The statements of a cell; none for cells that are not plain Python (shell lines, magics)."
    try: return ast.parse(code).body
    except SyntaxError: return []


def fold(cell: dict, prompt: str) -> None:
    "Hide the code of a cell behind a line that opens it."
    cell["metadata"].setdefault("tags", []).append("hide-input")
    cell["metadata"]["mystnb"] = {
        **cell["metadata"].get("mystnb", {}),
        "code_prompt_show": prompt,
        "code_prompt_hide": "Hide",
    }


def merge_parameters(defaults: str, injected: str) -> str:
    """The parameters cell as it ran: papermill's values over the defaults, comments kept in their column.

    `output` and `show` keep their defaults: a folder of the machine that built the book says nothing."""
    values = {
        n.targets[0].id: ast.get_source_segment(injected, n.value)
        for n in parse(injected)
        if isinstance(n, ast.Assign) and n.targets[0].id not in ("output", "show")
    }
    lines = defaults.splitlines()
    for node in reversed(parse(defaults)):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or target.id not in values: continue
        first, last, v = node.value.lineno - 1, node.value.end_lineno - 1, node.value
        head = lines[first].encode()[:v.col_offset].decode()
        tail = lines[last].encode()[v.end_col_offset:].decode()
        comment = tail.lstrip()
        column = len(lines[last]) - len(comment)
        written = head + values[target.id]
        lines[first:last + 1] = [written.ljust(column - 2) + "  " + comment if comment else written]
    return "\n".join(lines)


def prompt_of(cell: dict, directives: dict) -> str:
    "The line behind which the code of an experiment's cell is folded."
    if "label" in directives: return "The code of this figure"
    shows_table = any("text/html" in o.get("data", {}) for o in cell["outputs"])
    return "The code of this table" if shows_table else "Code"


def show_code(cell: dict, directives: dict, code: str, experiment: bool) -> None:
    "Mark, fold, hide or name a code cell."
    body, size = parse(code), len(code.splitlines())
    tags = cell["metadata"].get("tags", [])
    if directives.get("echo") == "false": cell["metadata"].setdefault("tags", []).append("remove-input")
    elif "parameters" in tags: fold(cell, "Parameters")
    elif "skip-execution" in tags: fold(cell, "A longer test, which `make test` runs")
    elif {"export", "exporti", "exports"} & directives.keys():
        cell["metadata"].setdefault("tags", []).append("definition")
        if body and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body): fold(cell, "Imports")
        elif size > FOLD:
            names = [n.name for n in body if hasattr(n, "name")]
            fold(cell, f"The definition of {', '.join(names) or 'these constants'} ({size} lines)")
    elif experiment: fold(cell, prompt_of(cell, directives))
    if "label" in directives:
        caption = directives.get("fig-cap", "")
        if caption[:1] in "\"'": caption = yaml.safe_load(caption)
        figure = {"name": directives["label"], "caption": caption}
        cell["metadata"]["mystnb"] = {**cell["metadata"].get("mystnb", {}), "figure": figure,
                                      "image": {"alt": re.sub(r"[$`{}\\]", "", caption)}}
        cell["outputs"] = [
            o for o in cell["outputs"] if "image/png" in o.get("data", {})
        ]  # the figure, not its repr
        if size > FOLD_FIGURE and not experiment: fold(cell, "The code of this figure")


def with_findings_first(cells: list[dict]) -> list[dict]:
    "The title and the line below it, then the cells tagged `finding`, then the rest in order."
    title = next((c for c in cells if c["cell_type"] == "markdown" and c["source"].startswith("# ")), None)
    if title is None: return cells
    finding = [c for c in cells if "finding" in c["metadata"].get("tags", [])]
    finding.sort(key=lambda c: "figure" in c["metadata"].get("mystnb", {}))  # text first
    head, _, text = title["source"].partition("\n\n> ")
    line, _, rest = text.partition("\n\n")
    top = {**title, "source": f"{head}\n\n> {line}" if line else head}
    below = [{**title, "id": title.get("id", "title") + "-text", "source": rest}] if rest else []
    others = [c for c in cells if c is not title and c not in finding]
    return [top, *finding, *below, *others]


def with_module(cells: list[dict], module: str) -> list[dict]:
    "The same cells, with the name of the module that the page makes below its title."
    title = next((c for c in cells if c["cell_type"] == "markdown" and c["source"].startswith("# ")), None)
    if title is None: return cells
    head = re.match(r"# .*(\n\n> .*(\n.+)*)?", title["source"])[0]
    said = f"{head}\n\nThe module `rhmdiff.{module}`.{title['source'][len(head):]}"
    return [{**c, "source": said} if c is title else c for c in cells]


def index_entries(cell: dict, code: str, module: str) -> list[dict]:
    "A cell that lists the public definitions of an exported cell in the index; none where there are none."
    defined = [n.name for n in parse(code) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    names = [name for name in defined if not name.startswith("_")]
    text = "\n\n".join(f"```{{index}} single: {name} (in rhmdiff.{module})\n```" for name in names)
    entries = {"cell_type": "markdown", "metadata": {}, "source": text}
    return [{**entries, "id": f"{cell['id']}-index"} if "id" in cell else entries] if names else []


def rename(nb: dict, suffix: str) -> dict:
    "The notebook with `suffix` on every label it defines, where it is defined and where it is referred to."
    own = {split("".join(c["source"]))[0].get("label") for c in nb["cells"] if c["cell_type"] == "code"}
    text = [c for c in nb["cells"] if c["cell_type"] == "markdown"]
    own |= {match[2] for c in text for match in DEFINES.finditer("".join(c["source"]))}
    def mark(match): return match[0] + suffix if match[2] in own else match[0]
    def edit(cell):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code": source = re.sub(r"(#\| label:\s*)([\w-]+)", mark, source)
        if cell["cell_type"] == "markdown": source = REFERS.sub(mark, DEFINES.sub(mark, source))
        return {**cell, "source": source}
    return {**nb, "cells": [edit(c) for c in nb["cells"]]}


def readable(nb: dict, experiment: bool = False) -> dict:
    "The notebook as the book shows it; of an experiment all code is folded."
    cells: list[dict] = []
    module = ""
    tagged = {tag: "".join(c["source"]) for c in nb["cells"] for tag in c["metadata"].get("tags", [])}
    for cell in nb["cells"]:
        source, tags = "".join(cell["source"]), cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code":
            directives, source = split(source)
            module = directives.get("default_exp", module)
            plumbing = {"default_exp", "hide"} & directives.keys() or "nbdev_export(" in source
            if plumbing or "injected-parameters" in tags or not source: continue
            if "parameters" in tags and "injected-parameters" in tagged:
                source = merge_parameters(source, tagged["injected-parameters"])
            if module and "export" in directives: cells += index_entries(cell, source, module)
            show_code(cell, directives, source, experiment)
        cells.append({**cell, "source": source})
    if module: cells = with_module(cells, module)
    return {**nb, "cells": with_findings_first(cells)}


def on_source_read(app, docname: str, source: list) -> None:
    if not str(app.env.doc2path(docname)).endswith(".ipynb"): return
    source[0] = json.dumps(readable(json.loads(source[0]), "nbs/experiments/" in docname))


def setup(app):
    app.connect("source-read", on_source_read)
    return {"parallel_read_safe": True, "version": str(Path(__file__).stat().st_mtime_ns)}
