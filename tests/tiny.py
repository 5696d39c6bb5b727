"""A tiny experiment, and plain notebooks, for the tests of runs and sweeps."""
import os
import sys
import time
from pathlib import Path

import nbformat

RHM = str(Path(sys.executable).with_name("rhm"))

PARAMETERS = """
preset: str = None
parts: int = None
rest: float = None
seed: int = 0
show: str = None
output: str = 'runs/tiny'
"""

SETTINGS = """
from rhmdiff import runs
PRESETS = {"smoke": dict(parts=3, rest=0.2), "quick": dict(parts=4, rest=0.1)}
p = runs.settings(globals(), PRESETS, seed=0, output="runs/tiny")
"""

MEASURE = """
import os, time
def numbers(k, seed, rest):
    "Some numbers that depend on k and seed, after a rest; a line in the log says that they were made."
    if log := os.environ.get("TINY_LOG"):
        with open(log, "a", encoding="utf-8") as file: file.write(f"{seed} {k}\\n")
    time.sleep(rest)
    return {"numbers": [dict(part=k, j=j, x=(7919 * seed + 104729 * k + j) % 1009 / 7) for j in range(3)],
            "sums": [dict(part=k, total=seed + k)]}

results = runs.measure(p, [runs.part(numbers, k=k, seed=p.seed, rest=p.rest) for k in range(p.parts)])
"""

SHOW = "results['sums']"


def write_notebook(path: Path, *sources: str) -> Path:
    "A notebook whose first cell is that of the parameters."
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    nb.cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    nb.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nb, path)
    return path


def tiny(folder: Path, more: str = "") -> Path:
    "The tiny experiment, in a folder."
    return write_notebook(folder/"tiny.ipynb", PARAMETERS, SETTINGS, *([more] if more else []), MEASURE, SHOW)


def wait_for(condition, seconds: float = 120):
    "Wait until a condition holds; its value."
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return value


def kernels(folder: Path) -> list[int]:
    "Processes whose environment has the folder as TINY_HOME, kernels among them; this process not counted."
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid(): continue
        try: environment = (process/"environ").read_bytes()
        except OSError: continue
        if f"TINY_HOME={folder}\0".encode() in environment: found.append(int(process.name))
    return found
