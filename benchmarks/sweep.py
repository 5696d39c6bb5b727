"""What a run costs beside its work, by a kernel of its own and by a warm one; what two workers gain over one.

    python benchmarks/sweep.py               # some minutes
    python benchmarks/sweep.py --rounds 5 --runs 24

The notebook is an experiment that imports what experiments do and measures nothing to speak of: its whole
time is overhead. A *cold* kernel is a new Python, which imports the library, hashes the code that the
notebook reaches, and draws. A *warm* one is forked from a process that has done the first two. Both are timed
in turn, so that they share whatever else the machine does; the medians of each step are printed, and the
median of the ratios with its quartiles.

The second table is a sweep of runs of `--work` seconds of one core each, by one worker and by two. The start
of the workers is left out: the clock runs from the first run that is complete to the last.
"""
import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent/"tests"))

import numpy as np
from tiny import PARAMETERS, write_notebook

from rhmdiff import runs
from rhmdiff.engine import notebooks

SETTINGS = """
from rhmdiff import runs
PRESETS = {"smoke": dict(parts=1, rest=0.0)}
p = runs.settings(globals(), PRESETS, seed=0, output="runs/work")
"""
IMPORTS = """
import time
import numpy as np
import pandas as pd
import torch
from rhmdiff import plots
from rhmdiff.core import set_threads
from rhmdiff.diffusion import make_process
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.observables import level_agreement
set_threads();
"""
MEASURE = """
def work(k, seed, rest):
    "Some seconds of one core, and a draw from a grammar."
    end = time.process_time() + rest
    while time.process_time() < end: pass
    leaves = HierarchicalGrammar.random(4, 2, 2, 2, seed=seed).sample(8, seed=k)[-1]
    return {"draws": [dict(k=k, j=j, x=x) for j, x in enumerate(leaves[0].tolist())]}

results = runs.measure(p, [runs.part(work, k=k, seed=p.seed, rest=p.rest) for k in range(p.parts)])
"""
SHOW = "fig, ax = plots.plt.subplots(); ax.plot(results['draws'].x);"
STEPS = ["checks and kernel", "imports", "hash and measure", "figure", "rest"]


def steps(notebook: Path, out: Path, server) -> list[float]:
    "Seconds of the steps of a run."
    start = time.perf_counter()
    runs.run(notebook, {"preset": "smoke"}, out, server=server, env={"OMP_NUM_THREADS": "1"})
    whole = time.perf_counter() - start
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    took = [c["metadata"]["papermill"]["duration"] for c in cells]  # parameters twice, settings, imports, ...
    shown = [took[2] + took[3], took[4], took[5]]
    return [whole - sum(took), *shown, whole - sum(shown) - (whole - sum(took))]


def overhead(folder: Path, rounds: int) -> None:
    "Print the steps of a cold and of a warm run, and the ratio."
    notebook = write_notebook(folder/"work.ipynb", PARAMETERS, SETTINGS, IMPORTS, MEASURE, SHOW)
    server = notebooks.server_for(notebook, {"OMP_NUM_THREADS": "1"}, "rhmdiff.runs:_code")
    steps(notebook, folder/"first.ipynb", server)
    cold, warm = [], []
    for _ in range(rounds):
        for kept, by in ((cold, None), (warm, server)):
            kept.append(steps(notebook, folder/"out.ipynb", by))
            for part in (folder/"out"/"parts").iterdir(): part.unlink()
    server.close()
    print(f"{'seconds a run':20}{'cold':>8}{'warm':>8}")
    for k, name in enumerate(STEPS):
        print(f"{name:20}{np.median([x[k] for x in cold]):8.2f}{np.median([x[k] for x in warm]):8.2f}")
    whole = [[sum(x) for x in some] for some in (cold, warm)]
    print(f"{'all':20}{np.median(whole[0]):8.2f}{np.median(whole[1]):8.2f}")
    low, middle, high = np.quantile(np.divide(*whole), [0.25, 0.5, 0.75])
    print(f"cold / warm: {middle:.1f} ({low:.1f} to {high:.1f})\n")


def per_minute(notebook: Path, out: Path, count: int, work: float, workers: int) -> float:
    "Runs a minute, from the first that is complete to the last."
    grid = {"seed": range(count), "preset": "smoke", "rest": work}
    runs.sweep(notebook, grid, out, workers=workers, progress=False)
    ends = sorted(record.stat().st_mtime for record in out.glob("[!.]*/run.json"))
    first = ends[workers - 1]  # that of each worker
    return 60 * (count - workers) / (ends[-1] - first)


def scaling(folder: Path, count: int, work: float) -> None:
    "Print runs a minute by one worker and by two."
    notebook = write_notebook(folder/"work.ipynb", PARAMETERS, SETTINGS, IMPORTS, MEASURE, SHOW)
    found = {n: per_minute(notebook, folder/f"by{n}", count, work, n) for n in (1, 2)}
    for n, rate in found.items(): print(f"{n} worker{'s' * (n > 1)}: {rate:.1f} runs a minute")
    note = f"target 1.8; runs of {work:g} s of one core, load of the machine {os.getloadavg()[0]:.1f}"
    print(f"2 / 1: {found[2] / found[1]:.2f} ({note})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--work", type=float, default=2.)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as d:
        overhead(Path(d), asked.rounds)
        scaling(Path(d), asked.runs, asked.work)
