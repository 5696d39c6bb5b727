"""What the tools of readers are given: the text of each page to search, and folds called by their labels.

The search page reads the text of a page from a script, because a page that is opened as a file cannot read
other files.
"""
import json
from pathlib import Path

from docutils import nodes

# What is no prose of a page: its titles, which a result shows, and code.
SILENT = (nodes.raw, nodes.comment, nodes.image, nodes.title, nodes.literal_block, nodes.system_message)


def words(node: nodes.Node) -> str:
    "The prose of a node; mathematics without its backslashes."
    if isinstance(node, SILENT): return ""
    if isinstance(node, (nodes.math, nodes.math_block)): return node.astext().replace("\\", "")
    if isinstance(node, nodes.Text): return node.astext()
    between = "" if isinstance(node, nodes.TextElement) else " "
    return between.join(words(child) for child in node.children)


def sections(node: nodes.Element) -> list[tuple[str, str]]:
    "The identifiers and the text of a section without those inside it, then of these."
    inside = [child for child in node.children if isinstance(child, nodes.section)]
    own = " ".join(words(child) for child in node.children if child not in inside)
    found = [(" ".join(node.get("ids", [])), " ".join(own.split()))]
    return found + [part for child in inside for part in sections(child)]


def terms(doctree: nodes.document) -> list[tuple[str, str]]:
    "The identifiers of the terms of a glossary, with what is said of each."
    items = [item for item in doctree.findall(nodes.definition_list_item) if item[0].get("ids")]
    return [(" ".join(item[0]["ids"]), " ".join(words(item).split())) for item in items]


def write_text(outdir: Path, name: str, doctree: nodes.document) -> None:
    "Leave the text of a page where the search page finds it."
    top = [child for child in doctree.children if isinstance(child, nodes.section)]
    parts = [part for child in top for part in sections(child)] + terms(doctree)
    path = outdir/"searchtexts"/f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"searchText({json.dumps(name)}, {json.dumps(parts, ensure_ascii=False)});\n", "utf-8")


def on_page(app, name: str, template: str, context: dict, doctree) -> None:
    if doctree is None: return
    write_text(Path(app.outdir), name, doctree)
    body = context["body"].replace(' aria-label="Toggle hidden content"', "")  # its text names a fold
    context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')  # of a list


def setup(app):
    app.connect("html-page-context", on_page)
    return {"parallel_read_safe": True, "version": str(Path(__file__).stat().st_mtime_ns)}
