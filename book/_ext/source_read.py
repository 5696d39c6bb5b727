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
FOLD_TABLE = 12    # rows of a table that is shown open
SHORT = 28         # characters of an entry of a table that is not broken
THE_FIGURE = re.compile(r"(?:The|the) figure(?: below\b|(?= (?:shows|has|holds|counts|compares|follows)\b))")
NO_PROSE = ("#", "|", "```", ":::", "$$", "- ", "* ", ">")  # what begins a line of something else
IMAGES = {"image/svg+xml", "image/png"}
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


def prompt_of(cell: dict, directives: dict, body: list[ast.stmt]) -> str:
    "The line behind which the code of an experiment's cell is folded: what one finds there."
    if "label" in directives: return "The code of this figure"
    shows_table = any("text/html" in output.get("data", {}) for output in cell["outputs"])
    if shows_table: return "The code of this table"
    if body and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body): return "Imports"
    calls = [ast.unparse(n.func) for part in body for n in ast.walk(part) if isinstance(n, ast.Call)]
    if "runs.measure" in calls: return "The measurement"
    defined = [n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    if not defined: return "Code"
    more = f" and {len(defined) - 3} more" if len(defined) > 3 else ""
    return f"The code of {', '.join(defined[:3])}{more}"


def alternative(outputs: list[dict]) -> str:
    "The text of the images of a cell: what they draw, in the words of the kernel."
    texts = ["".join(output["data"].get("text/plain", "")) for output in outputs]
    return " ".join(text for text in texts if text and not text.startswith("<")) or "A figure."


def tables_used(node: ast.AST, known: dict[str, set[str]]) -> set[str]:
    "The tables of results that code reads, itself and through the names that it uses."
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name): found |= known.get(part.id, set())
        if isinstance(part, ast.Subscript) and ast.unparse(part.value) in ("results", "results.tables"):
            if isinstance(part.slice, ast.Constant): found.add(str(part.slice.value))
    return found


def tables_shown(code: str, known: dict[str, set[str]]) -> set[str]:
    "The tables of results behind what a cell shows; `known` learns those behind the names that it defines."
    used: set[str] = set()
    for node in parse(code):
        used = tables_used(node, known)
        names = [part.id for part in ast.walk(node)
                 if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)): names = [node.name]
        for name in names: known[name] = used
    return used


def fold_tables(cell: dict, tables: set[str]) -> None:
    "Put long tables behind a line that says how many rows and what files there are; mark those of numbers."
    made_of = ", ".join(f"<code>{name}.csv</code>" for name in sorted(tables))
    for output in cell["outputs"]:
        html = "".join(output.get("data", {}).get("text/html", ""))
        entries = re.findall(r"<td[^>]*>(.*?)</td>", html, re.S)
        if entries and max(map(len, entries)) <= SHORT: html = f'<div class="short">\n{html}\n</div>'
        count = len(re.findall(r"<tr\b", html.partition("<tbody")[2]))
        if entries: output["data"] = {**output["data"], "text/html": html}
        if count <= FOLD_TABLE: continue
        line = f"Table of {count} rows" + (f", made of {made_of}" if made_of else "")
        folded = f'<details class="rows"><summary>{line}</summary>\n{html}\n</details>'
        output["data"] = {**output["data"], "text/html": folded}


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
    elif experiment: fold(cell, prompt_of(cell, directives, body))
    if "label" in directives:
        caption = directives.get("fig-cap", "")
        if caption[:1] in "\"'": caption = yaml.safe_load(caption)
        figure = {"name": directives["label"], "caption": caption}
        cell["outputs"] = [output for output in cell["outputs"] if IMAGES & output.get("data", {}).keys()]
        cell["metadata"]["mystnb"] = {**cell["metadata"].get("mystnb", {}), "figure": figure,
                                      "image": {"alt": alternative(cell["outputs"])}}
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


def with_figures_cited(cells: list[dict]) -> list[dict]:
    "The cells, where the text before each figure cites it by its number if no text of the page does."
    written = "\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")
    shown: list[dict] = []
    for cell in cells:
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        drawn = name and cell["outputs"]  # a page that was not executed has no figures
        if drawn and not re.search(rf"[`<]{re.escape(name)}[`>]", written): cite(shown, name)
        shown.append(cell)
    return shown


def cite(cells: list[dict], name: str) -> None:
    "Let the last text of some cells cite a figure; a line of its own if there is none that can."
    for k, cell in reversed(list(enumerate(cells))):
        if cell["cell_type"] == "markdown" and cell["source"].startswith("```{index}"): continue
        if cell["cell_type"] == "markdown" and (text := citing(cell["source"], name, last=True)):
            cells[k] = {**cell, "source": text}
            return
        said = [output for output in cell.get("outputs", []) if "text/markdown" in output.get("data", {})]
        if said and (text := citing("".join(said[0]["data"]["text/markdown"]), name, last=False)):
            said[0]["data"] = {**said[0]["data"], "text/markdown": text}
            return
        if cell["cell_type"] == "markdown" or said: break
    line = {"cell_type": "markdown", "metadata": {}, "source": f"{{numref}}`{name}` follows."}
    cells.append({**line, "id": f"{name}-cited"} if cells and "id" in cells[-1] else line)


def citing(text: str, name: str, last: bool) -> str | None:
    """A text in which the last sentence, or the first of what follows its note, cites a figure.

    None where there is no prose in that place."""
    number = f"{{numref}}`{name}`"
    *before, place = text.strip().split("\n\n")
    after: list[str] = []
    if not last: before, place, after = paragraphs_at_note(text)
    if not place or place.startswith(NO_PROSE) or place.splitlines()[-1].startswith(NO_PROSE): return None
    if THE_FIGURE.search(place): place = THE_FIGURE.sub(number, place, count=1)
    elif last: place = re.sub(r"([.:!?]?)((?:\*\*)?)$", rf" ({number})\1\2", place, count=1)
    else: place = re.sub(r"([.!?])((?:\*\*)?)(?=\s+[A-Z*]|$)", rf" ({number})\1\2", place, count=1)
    return "\n\n".join([*before, place, *after])


def paragraphs_at_note(text: str) -> tuple[list[str], str, list[str]]:
    "The note of where results are from, the paragraph after it, and the rest."
    note, *rest = text.strip().split("\n\n")
    return ([note], rest[0], rest[1:]) if rest else ([], note, [])


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


def with_subject(cells: list[dict], name: str) -> list[dict]:
    "The same cells, with the name of an experiment in the index and so in the search, below the title."
    title = next((c for c in cells if c["cell_type"] == "markdown" and c["source"].startswith("# ")), None)
    if title is None: return cells
    said = f"{title['source']}\n\n```{{index}} ! {name.replace('_', ' ')}\n```"
    return [{**c, "source": said} if c is title else c for c in cells]


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
    known: dict[str, set[str]] = {}
    tagged = {tag: "".join(c["source"]) for c in nb["cells"] for tag in c["metadata"].get("tags", [])}
    for cell in nb["cells"]:
        source, tags = "".join(cell["source"]), cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code":
            directives, source = split(source)
            tables = tables_shown(source, known)
            module = directives.get("default_exp", module)
            plumbing = {"default_exp", "hide"} & directives.keys() or "nbdev_export(" in source
            if plumbing or "injected-parameters" in tags or not source: continue
            if "parameters" in tags and "injected-parameters" in tagged:
                source = merge_parameters(source, tagged["injected-parameters"])
            if module and "export" in directives: cells += index_entries(cell, source, module)
            show_code(cell, directives, source, experiment)
            fold_tables(cell, tables)
        cells.append({**cell, "source": source})
    if module: cells = with_module(cells, module)
    return {**nb, "cells": with_figures_cited(with_findings_first(cells))}


def on_source_read(app, docname: str, source: list) -> None:
    if not str(app.env.doc2path(docname)).endswith(".ipynb"): return
    experiment = "nbs/experiments/" in docname
    shown = readable(json.loads(source[0]), experiment)
    if experiment: shown["cells"] = with_subject(shown["cells"], docname.rpartition("/")[2])
    source[0] = json.dumps(shown)


def setup(app):
    app.connect("source-read", on_source_read)
    return {"parallel_read_safe": True, "version": str(Path(__file__).stat().st_mtime_ns)}
