"""What readers and their tools are given on every page: names of folds, texts to search, a name for images.

The search page reads the text of a page from a script of its own, because a page that is opened as a file
cannot read other files.
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


def write_text(outdir: Path, name: str, doctree: nodes.document) -> None:
    "Leave the text of a page where the search page finds it."
    top = [child for child in doctree.children if isinstance(child, nodes.section)]
    parts = [part for child in top for part in sections(child)]
    path = outdir/"searchtexts"/f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"searchText({json.dumps(name)}, {json.dumps(parts, ensure_ascii=False)});\n", "utf-8")


def on_page(app, name: str, template: str, context: dict, doctree) -> None:
    if doctree is None: return
    write_text(Path(app.outdir), name, doctree)
    # a fold is called what is written on it
    context["body"] = context["body"].replace(' aria-label="Toggle hidden content"', "")


def setup(app):
    app.connect("html-page-context", on_page)
    return {"parallel_read_safe": True, "version": str(Path(__file__).stat().st_mtime_ns)}
