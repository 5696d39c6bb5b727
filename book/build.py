"""Build the book: execute its notebooks, stage the pages, render them.

    python book/build.py                                   # the whole book, as `make book` does
    python book/build.py --preset smoke --plain --to /tmp  # what is measured is small; library pages plain

Notebooks are committed without outputs. Copies are executed in `book/_stage/executed`, several at a time with
one thread each, and kept there under a hash of what their outputs depend on. Experiments show their reference
results, so that nothing is measured but on the page that says so. An edit of prose executes nothing: outputs
are merged into the notebook as it stands, and Sphinx renders only the pages that have changed.
"""
import argparse
import ast
import base64
import hashlib
import io
import json
import math
import multiprocessing as mp
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
REFERENCE = BOOK/"reference"
sys.path.insert(0, str(BOOK/"_ext"))

TITLES = {
    "phase_transition_thesis": "The same experiment on a grammar of the thesis",
    "samplers_second": "The same samplers on a second grammar",
    "memorization_wide": "The same networks, three times as wide",
    "phase_transition_quick": "The same experiment, run while this book was built",
}

# Library pages that took longest when this was written, longest first: started last, one would end alone.
LONG = ("nbs/08_training", "nbs/tutorials/inside_a_network", "nbs/07_sampling",
        "nbs/tutorials/thesis_walkthrough", "nbs/10_theory", "nbs/11_runs", "nbs/engine/03_kernels")


# The figure that stands beside each answer of the page *Answers*, by the experiment that gives it.
ANSWERS = {"phase_transition": "fig-class", "universality": "fig-factors",
           "learned_transition": "fig-half-levels", "memorization": "fig-crossing", "depth": "fig-depth",
           "sample_complexity": "fig-gap-by-size", "classifiers": "fig-classifier-errors",
           "rules": "fig-excess", "unmasking": "fig-information", "unknown_tree": "fig-unknown-tree",
           "noise_classes": "fig-fixed-laws", "single_grammars": "fig-origin",
           "local_denoisers": "fig-local-denoisers", "scaling_law": "fig-scaling-curves"}


@dataclass(frozen=True)
class Page:
    "A notebook page: `name` is its place in the contents, `notebook` the file it is made of."
    name: str
    notebook: str
    parameters: dict = field(default_factory=dict, hash=False)  # it is executed with
    told: dict = field(default_factory=dict, hash=False)        # and those that a reader would give
    experiment: bool = False
    beside: tuple[Path, ...] = ()  # results of the other experiments of its notebook, which it may show too

    @property
    def title(self) -> str:
        "What replaces the notebook's own heading where one notebook makes several pages."
        return TITLES.get(Path(self.name).name, "")

    @property
    def shown(self) -> Path | None:
        "The folder of the results that the page shows, where it measures none."
        return Path(self.parameters["show"]) if "show" in self.parameters else None


def contents() -> list[str]:
    "Every page of the table of contents, in order."
    import yaml
    toc = yaml.safe_load((BOOK/"_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def experiment_pages(preset: str) -> list[Page]:
    "A page for every experiment that is found, and one more that is run in any case."
    from rhmdiff.runs import experiments
    found = experiments(ROOT/"nbs"/"experiments")
    main = found["phase_transition"]
    run_here = experiment_page("phase_transition_quick", main.notebook, {"preset": preset}, shows=False)
    def others(x): return [y.name for y in found.values() if y.notebook == x.notebook and y.name != x.name]
    shown = [experiment_page(x.name, x.notebook, {"preset": preset} | x.parameters, True, others(x))
             for x in found.values()]
    return [run_here, *shown]


def experiment_page(name: str, notebook: Path, given: dict, shows: bool, others: Iterable[str] = ()) -> Page:
    "The page of an experiment: executed with the parameters given, or showing its reference results."
    results = REFERENCE/name
    shown = shows and (results/"run.json").exists()
    parameters = {"show": str(results.relative_to(ROOT))} if shown else given
    told = given | {"preset": preset_of(results)} if shown else given
    beside = tuple(REFERENCE/other for other in others) if shown else ()
    return Page(f"nbs/experiments/{name}", str(notebook.relative_to(ROOT)), parameters, told, True, beside)


def preset_of(results: Path) -> str:
    "The preset of the results in a folder."
    return read_json(results/"run.json").get("parameters", {}).get("preset", "reference")


def notebook_pages(preset: str) -> list[Page]:
    "The pages made of notebooks, those that take longest first."
    own = experiment_pages(preset)
    named = {page.name for page in own}
    others = [Page(n, f"{n}.ipynb") for n in contents() if n.startswith("nbs/") and n not in named]
    return sorted(own + others, key=_weight, reverse=True)


def _weight(page: Page) -> tuple:
    "What tells of how long a page takes: whether it measures, its place in LONG, its notebook's size."
    measures = page.experiment and not page.shown
    place = LONG.index(page.name) if page.name in LONG else len(LONG)
    return measures, -place, (ROOT/page.notebook).stat().st_size


@cache
def library_hash() -> str:
    "A hash of the library's code without comments and docstrings, of the pins, of how figures are shown."
    from rhmdiff.engine.reach import normal_form
    digest = hashlib.sha256((ROOT/"constraints.txt").read_bytes() + (BOOK/"kernel.py").read_bytes())
    for path in sorted((ROOT/"rhmdiff").rglob("*.py")):
        if path.stem == "_modidx": continue
        digest.update(normal_form(ast.parse(path.read_text(encoding="utf-8"))).encode())
    return digest.hexdigest()


def code_cells(nb: dict) -> list[dict]:
    "The code cells of a notebook, but for the one that papermill adds."
    return [c for c in nb["cells"]
            if c["cell_type"] == "code" and "injected-parameters" not in c["metadata"].get("tags", [])]


def fingerprint(page: Page) -> str:
    "A hash of all that the outputs of a page depend on."
    cells = code_cells(read_json(ROOT/page.notebook))
    digest = hashlib.sha256(repr((sorted(page.parameters.items()), library_hash(), code_of(cells))).encode())
    for folder in [ROOT/page.shown, *page.beside] if page.shown else []:
        for file in results_in(folder): digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def code_of(cells: list[dict]) -> list[str]:
    "The code of cells without directives, which only say how it is shown."
    sources = ["".join(cell["source"]).splitlines() for cell in cells]
    return ["\n".join(line for line in lines if not line.startswith("#|")) for lines in sources]


def results_in(folder: Path) -> list[Path]:
    "The tables and the record in a folder of results."
    return sorted(file for file in folder.glob("*") if file.is_file())


def read_json(path: Path) -> dict:
    "A notebook, or a record of results."
    return json.loads(path.read_text(encoding="utf-8"))


def results_of(page: Page, executed: Path) -> Path:
    "Where the tables of an experiment's page lie."
    return ROOT/page.shown if page.shown else executed.with_suffix("")


def execute(page: Page, out: Path) -> float:
    "Execute `page` into the notebook `out`; what an experiment measures goes beside it. Seconds taken."
    from rhmdiff.runs import run
    say(f"started {page.name}")
    env = {"IPYTHONDIR": str(ROOT/out.parent/"ipython")} | ({} if page.experiment else {"IN_TEST": "1"})
    how = {"server": kernel_server(), "env": env}
    os.chdir(ROOT if page.experiment else (ROOT/page.notebook).parent)  # library pages as under nbdev_test
    try: return run(ROOT/page.notebook, page.parameters, ROOT/out, **how).seconds
    except KeyboardInterrupt: os._exit(1)  # its kernel has ended; no other page is begun


@cache
def kernel_server():
    """A process that has imported what most notebooks do and forks their kernels; None where none can be.

    It has read the code that results depend on, too: each page of an experiment compares it with its own."""
    from rhmdiff.engine.notebooks import KernelServer
    if not hasattr(os, "pidfd_open"): return None
    files = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT/"rhmdiff").rglob("[a-z]*.py"))]
    modules = [*(".".join(file.parts) for file in files), "matplotlib.pyplot", "pytest", "torch._dynamo"]
    return KernelServer(modules, {}, "rhmdiff.runs:status", str(ROOT/"nbs"/"experiments"))


def configure_kernels(folder: Path) -> None:
    "Write the folder that kernels take their configuration from."
    target = folder/"profile_default"/"ipython_kernel_config.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(BOOK/"kernel.py", target)


def errors_to(log: Path) -> None:
    "Send what this process and its kernels write to stderr to a file: kernels start with a warning."
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)


def say(text: str) -> None:
    "Print a line in one piece, though several processes print."
    print(text + "\n", end="", flush=True)


def end(workers: list[BaseProcess]) -> None:
    "Ask workers to end, which ends their kernels; kill those that are still there after 20 s."
    for worker in workers: worker.terminate()
    for worker in workers:
        worker.join(20)
        worker.kill()


def unsuccessful(futures: dict[Future, Page], store: Path, out: dict[Page, Path]) -> Iterator[Page]:
    "Wait for all pages; those that failed."
    for done, future in enumerate(as_completed(futures), 1):
        page = futures[future]
        said = f"[{done}/{len(futures)}] {page.name}"
        try: seconds = future.result()
        except Exception as error:
            say(f"{said} FAILED\n{error}")
            yield page
        else:
            say(f"{said}: {seconds:.0f} s")
            forget(store, page, keep=out[page])


def execute_all(pages: list[Page], store: Path, jobs: int) -> dict[Page, Path]:
    "The executed notebook of each page, new or kept; raises once all have ended if any failed."
    out = {p: store/f"{p.name.replace('/', '-')}.{fingerprint(p)}.ipynb" for p in pages}
    due = [p for p in pages if not out[p].exists()]
    say(f"{len(pages) - len(due)} executed pages kept, {len(due)} to execute, {jobs} at a time")
    if not due: return out
    log = store/"log.txt"
    configure_kernels(store/"ipython")
    with ProcessPoolExecutor(
        jobs, mp.get_context("spawn"), initializer=errors_to, initargs=(log.resolve(),)
    ) as pool:
        futures = {pool.submit(execute, p, out[p]): p for p in due}
        try:
            listed_states(store)  # meanwhile
            failed = [page.name for page in unsuccessful(futures, store, out)]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            end(mp.active_children())
            raise
    if failed: raise SystemExit(f"not executed: {', '.join(failed)} (kernel messages in {log})")
    return out


def forget(store: Path, page: Page, keep: Path) -> None:
    "Remove what earlier versions of `page` left in `store`."
    for old in store.glob(f"{page.name.replace('/', '-')}.*"):
        if old in (keep, keep.with_suffix("")): continue
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def value(x: float, se: float | None = None) -> str:
    "A number with its standard error, or an en dash where it was not measured."
    if x is None or math.isnan(x): return "–"
    if se is None or math.isnan(se): return f"{x:.3f}"
    digits = min(6, max(3, -math.floor(math.log10(se)))) if se > 0 else 3
    return f"{x:.{digits}f} ± {se:.{digits}f}"


def rows(head: list, body: list[list]) -> str:
    "A table in Markdown."
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *body])


def findings(results: Path) -> dict:
    "What the front page says of a run of phase_transition: `{{ phase_transition.critical }}` and so on."
    import pandas as pd

    from rhmdiff.runs import read_results
    from rhmdiff.theory import critical_noise
    found = read_results(results)
    asked = found.record["parameters"]
    halves = found["halves"]
    shallow, deep = halves.depth.min(), halves.depth.max()
    critical = critical_noise(asked["v"], asked["m"], asked["s"])
    half = {(h.noise, h.depth): h for h in halves.itertuples()}
    top = found["curves"].query("source == 'exact' and level == 0 and depth == @deep and noise == 'belief'")
    text = {key: str(asked[key]) for key in ("v", "m", "s", "grammars", "samples", "networks")}
    text |= {"shallow": str(shallow), "deep": str(deep), "classes": str(int(halves.classes.iloc[0])),
             "critical": value(critical), "chance": f"{1 / halves.classes.iloc[0]:.4g}",
             "ignorance": f"{math.log(asked['v']):.2f}"}
    for name, away in (("below", -0.1), ("above", 0.1)):
        row = top.iloc[(top.t - (critical + away)).abs().argmin()]
        text |= {name: value(row["mean"], row.se), f"t_{name}": f"{row.t:.2f}"}
    for name, depth in (("shallow", shallow), ("deep", deep)):
        text[f"width_{name}"] = value(half["belief", depth].width / half["belief", depth].half)
    depths = sorted(set(halves.depth))
    limit = thresholds(asked["v"], asked["m"], asked["s"])
    text["halves"] = rows(
        ["noise", *(f"$L = {L}$" for L in depths), "$t^*$"],
        [[n, *(value(half[n, L].half, half[n, L].half_se) for L in depths), value(*limit.get(n, (math.nan,)))]
         for n in asked["noises"]])
    gaps = found.tables.get("gaps", pd.DataFrame(columns=["noise", "depth", "gap", "se"]))
    lost = lost_by_networks(found.tables.get("fates"), 1 / halves.classes.iloc[0])
    return text | {"gaps": gap_table(gaps), "network_depths": words(sorted(set(gaps.depth))),
                   "lost_by_networks": lost}


def thresholds(*shape: int) -> dict:
    "The critical noise of each noise for a shape (v, m, s), with its error, from noise_classes."
    from rhmdiff.observables import bracket_mean
    from rhmdiff.runs import read_results
    found = read_results(REFERENCE/"noise_classes")["brackets"]
    own = found[(found[["v", "m", "s"]] == list(shape)).all(axis=1)]
    return {noise: bracket_mean(x.rises, x.falls) for noise, x in own.groupby("noise")}


def lost_by_networks(fates, chance: float) -> str:
    "Where the class is half lost by networks at the greatest depth learned, beside the exact denoiser."
    from rhmdiff.observables import transition
    if fates is None: return "nothing is known of it here"
    deepest = fates[fates.depth == fates.depth.max()]
    said = []
    for noise, rows in deepest.groupby("noise", sort=False):
        noise = noise.replace("gaussian", "Gaussian")
        curves = [rows[rows.source == x].groupby("t").same.mean() for x in ("network", "sampler")]
        network, exact = (transition(c.index, c, high=1., low=chance).t for c in curves)
        said.append(f"at $t$ = {network:.2f} instead of {exact:.2f} under {noise} noise")
    return ", ".join(said)


def words(numbers: list) -> str:
    "Numbers as in a sentence: 2, 3 and 4."
    *first, last = map(str, numbers or ["none"])
    return f"{', '.join(first)} and {last}" if first else last


def gap_table(gaps) -> str:
    "Mean Bayes gaps by noise and depth, as a table in Markdown."
    depths = sorted(set(gaps.depth))
    def cell(part):
        se = part.gap.sem() if len(part) > 1 else part.se.mean()
        return value(part.gap.mean(), se)
    body = [[noise, *(cell(part[part.depth == L]) for L in depths)]
            for noise, part in gaps.groupby("noise", sort=False)]
    return rows(["noise", *(f"$L = {L}$" for L in depths)], body)


def merged(page: Page, executed: Path) -> dict:
    "The notebook of a page as it stands, with the outputs of the executed copy and the parameters told."
    nb = read_json(ROOT/page.notebook)
    done = read_json(executed)
    for cell, ran in zip(code_cells(nb), code_cells(done), strict=True):
        outputs = [with_one_image(output) for output in ran["outputs"]]
        cell |= {"outputs": outputs, "execution_count": ran["execution_count"]}
    told = "\n".join(f"{name} = {literal(x)}" for name, x in page.told.items())
    cell = {"cell_type": "code", "id": "told", "metadata": {"tags": ["injected-parameters"]}, "source": told,
            "outputs": [], "execution_count": None}
    return {**nb, "cells": [*nb["cells"], cell] if told else nb["cells"]}


SVG_MOST = 150_000  # characters: a figure with more, of thousands of points, is shown as PNG
PIXELS = 120        # of the page an inch of a figure, so that letters of nine points are as large as its text


def with_one_image(output: dict) -> dict:
    "An output that holds a figure as SVG and as PNG with the better one, at the size that the page gives it."
    data = output.get("data", {})
    if "image/svg+xml" not in data or "image/png" not in data: return output
    svg = compact("".join(data["image/svg+xml"]))
    small = len(svg) <= SVG_MOST
    data = {kind: x for kind, x in data.items() if kind != ("image/png" if small else "image/svg+xml")}
    if small: return {**output, "data": data | {"image/svg+xml": svg}}
    png, width = few_colours(base64.b64decode("".join(data["image/png"])))
    data["image/png"] = base64.b64encode(png).decode()
    return {**output, "data": data, "metadata": {"image/png": {"width": width}}}


def few_colours(png: bytes) -> tuple[bytes, int]:
    "A PNG of 300 dots an inch with a palette, a third as large; and its width in pixels of the page."
    from PIL import Image
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    made = io.BytesIO()
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue(), round(image.width * PIXELS / 300)


def compact(svg: str) -> str:
    "An SVG of matplotlib in pixels of the page: without metadata, comments, and digits that nobody sees."
    unseen = r"<\?xml.*?\?>\s*|<!DOCTYPE.*?>\s*|<metadata>.*?</metadata>\s*|<!--.*?-->\s*"
    svg = re.sub(unseen, "", svg, flags=re.S)
    def scaled(match): return f'{match[1]}="{float(match[2]) * PIXELS / 72:.0f}"'
    svg = re.sub(r'\b(width|height)="([\d.]+)pt"', scaled, svg, count=2)
    svg = re.sub(r"(?<![\w.#])-?[1-9]\d*\.\d{3,}", lambda match: f"{float(match[0]):.2f}", svg)
    svg = re.sub(r"\s+", " ", re.sub(r'<g id="[^"]*"', "<g", svg)).replace("> <", "><")
    return said_once(svg)


def said_once(svg: str) -> str:
    "An SVG with classes for styles, short names, and no blanks around the letters of its paths."
    def tight(match): return ' d="' + re.sub(r"\s*([A-Za-z])\s*", r"\1", match[1]).strip() + '"'
    svg = re.sub(r' d="([^"]*)"', tight, svg)
    short = {name: f"i{i}" for i, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]*)"', svg)))}
    svg = re.sub(r'(\bid="|#)([\w-]+)(?=["\)])', lambda match: match[1] + short.get(match[2], match[2]), svg)
    styles = {style: f"c{i}" for i, style in enumerate(dict.fromkeys(re.findall(r' style="([^"]*)"', svg)))}
    svg = re.sub(r' style="([^"]*)"', lambda match: f' class="{styles[match[1]]}"', svg)
    rules = "".join(f".{name}{{{style}}}" for style, name in styles.items())
    return svg.replace("</style>", rules + "</style>", 1)


def literal(x) -> str:
    "A value as Python writes it, words in double quotes as in the notebooks."
    return json.dumps(x, ensure_ascii=False) if isinstance(x, str) else repr(x)


def titled(page: Page, nb: dict) -> dict:
    "The notebook under the page's own title, with labels of its own."
    from source_read import rename
    if not page.title: return nb
    nb = rename(nb, "-" + page.name.rsplit("_", 1)[-1])
    first = next(c for c in nb["cells"] if c["cell_type"] == "markdown")
    first["source"] = f"# {page.title}\n" + first["source"].partition("\n")[2]
    return nb


def figure(nb: dict, label: str) -> tuple[str, bytes]:
    "The image that the cell with a label shows: how its file's name ends, and what is in it."
    cell = next(c for c in code_cells(nb) if f"label: {label}\n" in "".join(c["source"]))
    images = [output["data"] for output in cell["outputs"] if "data" in output]
    svg, png = ([x[kind] for x in images if kind in x] for kind in ("image/svg+xml", "image/png"))
    return ("svg", "".join(svg[0]).encode()) if svg else ("png", base64.b64decode("".join(png[0])))


def tagged(nb: dict, tag: str) -> str:
    "The Markdown that the cell with a tag shows; nothing where there is no such cell."
    cells = [c for c in code_cells(nb) if tag in c["metadata"].get("tags", [])]
    shown = [o["data"].get("text/markdown", "") for c in cells for o in c["outputs"] if "data" in o]
    return "\n\n".join("".join(text) for text in shown if text)


def answer(nb: dict, sentences: int = 3) -> str:
    "The first sentences of what a page has found, after the note of where it is from."
    said = tagged(nb, "finding").partition("\n\n")[2]
    return " ".join(re.split(r"(?:(?<=[.!?])|(?<=[.!?]\*\*))\s+(?=[A-Z*])", said)[:sentences])


def claims(notebooks: list[dict]) -> str:
    "What the literature claims and these pages find, as one table."
    said = [tagged(nb, "claims").splitlines() for nb in notebooks]
    tables = [[line for line in lines if line.startswith("|")] for lines in said]
    head = next((lines[:2] for lines in tables if lines), [])
    return "\n".join(head + [line for lines in tables for line in lines[2:]])


def states() -> str:
    "The page that lists the state of every experiment."
    from rhmdiff.runs import status
    table = status(ROOT/"nbs"/"experiments", REFERENCE)
    link = "{{doc}}`nbs/experiments/{}`"
    body = [[link.format(x.experiment), *state(x), x.preset_cost] for x in table.itertuples()]
    head = ["experiment", "state", "measured", "commit", "machine", "parts", "time", "cost of the preset"]
    return rows(head, body)


def state(x) -> list[str]:
    "The state of an experiment's results and what is known of their making, as cells of a table."
    from rhmdiff.runs import duration
    if x.state in ("missing", "damaged"): return [f"**{x.state}**", *[""] * 5]
    state = x.state if x.state == "fresh" else f"**{x.state}**: {x.because}"
    if x.state == "confirmed": state = f"confirmed: {x.because}"
    commit = f"`{x.commit[:7]}`" if isinstance(x.commit, str) else ""
    day = x.when[:10].replace("-", "\N{NON-BREAKING HYPHEN}")
    return [state, day, commit, x.machine, str(int(x.parts)), duration(x.seconds)]


def remembered(file: Path, key: str, make: Callable):
    "What `make` returned when `file` was written, if it was under the same key; else what it returns now."
    key += hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    if file.exists() and (kept := read_json(file))["key"] == key: return kept["value"]
    value = make()
    file.write_text(json.dumps({"key": key, "value": value}), encoding="utf-8")
    return value


def listed_states(store: Path) -> str:
    "The page that lists the states, made anew where what it depends on has changed."
    return remembered(store/"states.json", key_of_states(), states)


def key_of_states() -> str:
    "A hash of what the states of the experiments depend on."
    digest = hashlib.sha256(library_hash().encode())
    for file in sorted((ROOT/"nbs"/"experiments").glob("*.ipynb")):
        digest.update(repr(code_of(code_cells(read_json(file)))).encode())
    for folder in sorted(REFERENCE.iterdir()) if REFERENCE.exists() else []:
        digest.update(folder.name.encode())
        for file in results_in(folder): digest.update(file.read_bytes())
    return digest.hexdigest()


def staged(executed: dict[Page, Path], plain: list[Page], store: Path) -> Iterator[tuple[str, bytes]]:
    "The files that Sphinx reads, by their paths: the book's own, the notebooks, the numbers of the runs."
    import yaml
    left_out = {"_stage", "_build", "__pycache__", "reference", "_config.yml", "status.md"}
    for file in sorted(BOOK.rglob("*")):
        path = file.relative_to(BOOK)
        if file.is_file() and not left_out & set(path.parts): yield str(path), file.read_bytes()
    yield "changelog.md", (ROOT/"CHANGELOG.md").read_bytes()
    for name in ("CITATION.cff", "LICENSE"): yield name, (ROOT/name).read_bytes()
    answers = {}
    measured = {}
    for page in [*executed, *plain]:
        nb = merged(page, executed[page]) if page in executed else read_json(ROOT/page.notebook)
        name = Path(page.name).name
        if page.experiment: measured[page.name] = nb
        if page.experiment and name in ANSWERS:
            answers[name] = nb
            kind, image = figure(nb, ANSWERS[name])
            yield f"runs/answers/{name}.{kind}", image
        yield f"{page.name}.ipynb", json.dumps(titled(page, nb)).encode()
    front = next(p for p in executed if p.name == "nbs/experiments/phase_transition")
    results = results_of(front, executed[front])
    brackets = (REFERENCE/"noise_classes"/"brackets.csv").read_bytes()
    key = executed[front].name + hashlib.sha256(brackets).hexdigest()
    numbers = remembered(store/"findings.json", key, lambda: findings(results))
    config = yaml.safe_load((BOOK/"_config.yml").read_text(encoding="utf-8"))
    said = {name: answer(nb) for name, nb in answers.items()}
    said["claims"] = claims([measured[name] for name in contents() if name in measured])
    config["sphinx"]["config"]["myst_substitutions"] = {"phase_transition": numbers, "answers": said}
    yield "_config.yml", yaml.safe_dump(config).encode()
    listed = listed_states(store/"executed")
    yield "status.md", (BOOK/"status.md").read_text(encoding="utf-8").replace("STATES", listed).encode()


def stage(site: Path, files: Iterator[tuple[str, bytes]]) -> None:
    "Bring `site` to hold these files and no others. A file that is right keeps its time."
    kept = set()
    for name, content in files:
        target = site/name
        kept.add(target)
        if target.exists() and target.read_bytes() == content: continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for file in site.rglob("*"):
        if file.is_file() and file not in kept and "__pycache__" not in file.parts: file.unlink()


def parsed(page: Path):
    "The tree of a rendered page; the code in it is plain text, since its colours make most of the tree."
    from bs4 import BeautifulSoup
    def plain(code): return re.sub(r"</?span[^>]*>", "", code[0])
    text = re.sub(r"<pre>.*?</pre>", plain, page.read_text(encoding="utf-8"), flags=re.S)
    return BeautifulSoup(text, "html.parser")


# What is not text of a page, found without parsing it: code and mathematics with all in them, and tags.
CODE_AND_TAGS = re.compile(r'<(script|style|pre|code|svg)\b.*?</\1>|<(span|div) class="math.*?</\2>|<[^>]*>',
                           flags=re.S)


def leftover_tex(html: Path, pages: list[Path]) -> list[str]:
    """Where dollar signs or TeX commands are left in the text of pages, outside of code and mathematics.

    Escapes of characters, as in a quoted symbol, are neither."""
    tex = re.compile(r"\$|\\(?!x[0-9a-f]{2}|u[0-9a-f]{4})[A-Za-z]+")
    found = []
    for page in pages:
        if not tex.search(CODE_AND_TAGS.sub(" ", page.read_text(encoding="utf-8"))): continue
        article = parsed(page).find("article")
        if article is None: continue
        for element in article.select("script, style, pre, code, .math, svg, figure img"): element.decompose()
        for match in tex.finditer(text := article.get_text(" ")):
            around = " ".join(text[max(0, match.start() - 40):match.end() + 40].split())
            found.append(f"{page.relative_to(html)}: {around}")
    return found


def frame(site: Path) -> str:
    """A hash of what every page depends on: configuration, contents, bibliography, extension, style, Sphinx.

    The outline of the pages is part of it: titles stand in every sidebar, figures have numbers."""
    files = [*(site/name for name in ("_config.yml", "_toc.yml", "references.bib")), ROOT/"constraints.txt",
             *sorted((site/"_ext").glob("*.py")), *sorted((site/"assets").glob("*.css"))]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    for page in sorted([*site.rglob("*.md"), *site.rglob("*.ipynb")]):
        digest.update(repr((str(page.relative_to(site)), outline(page))).encode())
    return digest.hexdigest()


def outline(page: Path) -> list[str]:
    "The headings, the labels and what has a number on a page, in order."
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb": text = "\n".join("".join(c["source"]) for c in json.loads(text)["cells"])
    marks = r"^#+ .*|^#\| label:.*|^\(.*\)=|^:(?:name|label):.*|^[`:]{3,}\{\w+\}|\$\$.*\([\w-]+\)"
    return re.findall(marks, text, re.M)


def render(site: Path, to: Path) -> Path:
    """Run Jupyter Book with warnings as errors; the path of the front page.

    Pages that have not changed are kept. All are rendered anew after a change of what all depend on, and
    after a build that failed: Sphinx warns of a page only when it reads it."""
    build = to/"_build"
    html = build/"html"
    mark = build/"frame.txt"
    now = frame(site)
    if not mark.exists() or mark.read_text(encoding="utf-8") != now: shutil.rmtree(build, ignore_errors=True)
    mark.unlink(missing_ok=True)
    before = {page: page.stat().st_mtime_ns for page in html.rglob("*.html")}
    command = [Path(sys.executable).parent/"jupyter-book", "build", str(site), "--path-output", str(to),
               "-W", "-n", "--keep-going", "-q"]
    if subprocess.run(command).returncode: raise SystemExit("the book has warnings or errors, listed above")
    new = [page for page in sorted(html.rglob("*.html")) if before.get(page) != page.stat().st_mtime_ns]
    if left := leftover_tex(html, new):
        raise SystemExit("TeX is left in the text of the book:\n" + "\n".join(left))
    mark.write_text(now, encoding="utf-8")
    say(f"{len(new)} pages rendered")
    return html/"index.html"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="quick", help="preset of what is measured (quick)")
    parser.add_argument(
        "--plain", action="store_true", help="show library pages and walkthroughs without executing them"
    )
    parser.add_argument("--to", type=Path, default=BOOK, help="folder that receives _build and _stage (book)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="notebooks executed at a time (one a core)"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends what was started, as Ctrl-C does
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # inherited by the kernels
    os.chdir(ROOT)
    start, to = time.monotonic(), args.to.resolve()
    if to.is_relative_to(ROOT): to = to.relative_to(ROOT)  # short paths in what the pages show
    pages = notebook_pages(args.preset)
    plain = [p for p in pages if args.plain and not p.experiment]
    executed = execute_all([p for p in pages if p not in plain], to/"_stage"/"executed", args.jobs)
    say("rendering")
    stage(to/"_stage"/"site", staged(executed, plain, to/"_stage"))
    index = render(to/"_stage"/"site", to)
    print(f"{len(contents())} pages in {time.monotonic() - start:.0f} s")
    print(index)


if __name__ == "__main__": main()
