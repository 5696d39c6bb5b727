"""The tests beside the definitions, against a module as it stands in its file: part of `make mutants`.

The cells of a notebook that are not exported are run with the names of its module."""
import importlib
import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "agg")

NBS = Path(__file__).resolve().parent.parent/"nbs"
NOTEBOOKS = {"engine/passes": "engine/02_passes", "inference": "04_inference", "grammar": "02_grammar",
             "diffusion": "05_diffusion"}


@pytest.mark.parametrize("module", NOTEBOOKS)
def test_cells(module):
    names = dict(vars(importlib.import_module(f"rhmdiff.{module.replace('/', '.')}")))
    notebook = json.loads((NBS/f"{NOTEBOOKS[module]}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] != "code" or "#| export" in text or "#| label: fig" in text: continue
        exec(compile(text, f"{module}, cell {cell['id']}", "exec"), names)
