"""README.md from nbs/index.ipynb: its text as it stands, its code as fenced blocks, hidden cells left out."""
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent


def readme() -> str:
    parts = []
    for cell in nbformat.read(ROOT/"nbs"/"index.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown": parts.append(cell.source)
        elif not cell.source.startswith("#| hide"): parts.append(f"```python\n{cell.source}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__": (ROOT/"README.md").write_text(readme())
