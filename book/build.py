"""Build the book: execute its notebooks, stage the pages, render them.

    python book/build.py                                   # the whole book, as `make book` does
    python book/build.py --preset smoke --plain --to /tmp  # tiny experiments, library pages not executed

Notebooks are committed without outputs. Copies are executed in `book/_stage/executed`, several at a time with
one thread each, and kept there under a hash of what they depend on, so that a second build runs only what has
changed.
"""
import argparse
import hashlib
import json
import math
import multiprocessing as mp
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
sys.path.insert(0, str(BOOK/"_ext"))


@dataclass(frozen=True)
class Page:
    "A notebook page: `name` is its place in the contents, `notebook` the file it is made of."
    name: str
    notebook: str
    parameters: dict = field(default_factory=dict, hash=False)
    title: str = ""        # replaces the notebook's own heading where one notebook makes two pages


# Experiments, in the order they are started. Two pages run one notebook, on different grammars.
EXPERIMENTS = [
    Page("nbs/experiments/phase_transition", "nbs/experiments/phase_transition.ipynb"),
    Page("nbs/experiments/phase_transition_thesis", "nbs/experiments/phase_transition.ipynb",
         {"grammar": "BINARY_3_LEVEL_GRAMMAR"}, "The same experiment on a grammar of the thesis"),
    Page("nbs/experiments/phases", "nbs/experiments/phases.ipynb"),
    Page("nbs/experiments/exponents", "nbs/experiments/exponents.ipynb"),
    Page("nbs/experiments/predictions", "nbs/experiments/predictions.ipynb"),
    Page("nbs/experiments/susceptibility", "nbs/experiments/susceptibility.ipynb"),
    Page("nbs/experiments/speciation", "nbs/experiments/speciation.ipynb"),
    Page("nbs/experiments/denoisers", "nbs/experiments/denoisers.ipynb"),
    Page("nbs/experiments/samplers", "nbs/experiments/samplers.ipynb"),
]


def contents() -> list[str]:
    "Every page of the table of contents, in order."
    import yaml
    toc = yaml.safe_load((BOOK/"_toc.yml").read_text())
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def notebook_pages() -> list[Page]:
    "The pages made of notebooks: experiments first, since they take longest."
    named = {page.name for page in EXPERIMENTS}
    others = [n for n in contents() if n.startswith("nbs/") and n not in named]
    return EXPERIMENTS + [Page(n, f"{n}.ipynb") for n in others]


def fingerprint(page: Page, preset: str) -> str:
    "A hash of all that an executed page depends on: its notebook, the library, the pins and its parameters."
    digest = hashlib.sha256(repr((sorted(page.parameters.items()), preset)).encode())
    for path in [ROOT/page.notebook, ROOT/"constraints.txt", *sorted((ROOT/"rhmdiff").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def record(executed: Path) -> Path:
    "Where an experiment left its parameters, provenance and summary."
    return executed.with_suffix("")/"run.json"


def execute(page: Page, preset: str, out: Path) -> float:
    "Execute `page` into the notebook `out`; an experiment's results go beside it. Seconds taken."
    from rhmdiff.runs import run
    say(f"started {page.name}")
    if page in EXPERIMENTS:
        shutil.rmtree(out.with_suffix(""), ignore_errors=True)
        return run(page.notebook, {"preset": preset, **page.parameters}, out).seconds
    os.chdir((ROOT/page.notebook).parent)  # as under nbdev_test
    return run(ROOT/page.notebook, {}, ROOT/out).seconds


def errors_to(log: Path) -> None:
    "Send what this process and its kernels write to stderr to a file: kernels start with a warning."
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)


def say(text: str) -> None:
    "Print a line in one piece, though several processes print."
    print(text + "\n", end="", flush=True)


def execute_all(pages: list[Page], preset: str, store: Path, jobs: int) -> dict[Page, Path]:
    "The executed notebook of each page, new or kept; raises once all have ended if any failed."
    out = {p: store/f"{p.name.replace('/', '-')}.{fingerprint(p, preset)}.ipynb" for p in pages}
    due = [p for p in pages if not out[p].exists() or (p in EXPERIMENTS and not record(out[p]).exists())]
    say(f"{len(pages) - len(due)} executed pages kept, {len(due)} to execute, {jobs} at a time")
    failed = []
    log = store/"log.txt"
    store.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(
        jobs, mp.get_context("spawn"), initializer=errors_to, initargs=(log.resolve(),)
    ) as pool:
        futures = {pool.submit(execute, p, preset, out[p]): p for p in due}
        for done, future in enumerate(as_completed(futures), 1):
            page = futures[future]
            try:
                say(f"[{done}/{len(due)}] {page.name}: {future.result():.0f} s")
                forget(store, page, keep=out[page])
            except Exception as error:
                failed.append(page.name)
                say(f"[{done}/{len(due)}] {page.name} FAILED\n{error}")
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
    run = json.loads((results/"run.json").read_text())
    asked, found = run["parameters"], run["summary"]
    halves, curves = pd.read_csv(results/"halves.csv"), pd.read_csv(results/"curves.csv")
    shallow, deep, critical = min(found["depths"]), max(found["depths"]), found["critical_noise"]
    half = {(h.noise, h.depth): h for h in halves.itertuples()}
    top = curves.query("source == 'exact' and level == 0 and depth == @deep and noise == 'belief'")
    text = {key: str(asked[key]) for key in ("v", "m", "s", "grammars", "samples", "steps")}
    text |= {
        "shallow": str(shallow),
        "deep": str(deep),
        "classes": str(found["classes"]),
        "critical": value(critical) if critical else "–",
    }
    gap, times = 0.09, top.t.to_numpy()  # the measured noise levels well on either side of the critical noise
    for name, i in (
        ("below", max(0, (times <= (critical or 0.5) - gap).sum() - 1)),
        ("above", min(len(times) - 1, (times < (critical or 0.5) + gap).sum())),
    ):
        text |= {name: value(top["mean"].iloc[i], top.se.iloc[i]), f"t_{name}": f"{times[i]:.2f}"}
    def width(depth): return value(half["belief", depth].width / half["belief", depth].half)
    text |= {"width_shallow": width(shallow), "width_deep": width(deep)}
    text["halves"] = rows(
        ["noise", *(f"$L = {L}$" for L in found["depths"])],
        [
            [n, *(value(half[n, L].half, half[n, L].half_se) for L in found["depths"])]
            for n in asked["noises"]
        ],
    )
    return text


def gap_table(runs: dict[str, Path]) -> str:
    "The Bayes gaps of several runs side by side; `runs` has a heading for each folder of results."
    import pandas as pd
    gaps = [pd.read_csv(folder/"gaps.csv").set_index("noise") for folder in runs.values()]
    noises = list(dict.fromkeys(n for g in gaps for n in g.index))
    return rows(
        ["noise", *runs],
        [[n, *(value(*g.loc[n, ["gap", "se"]]) if n in g.index else "–" for g in gaps)] for n in noises],
    )


def stage(site: Path, executed: dict[Page, Path], plain: list[Page]) -> None:
    "Lay out in `site` what Sphinx reads: the book's own files, the notebooks, and the numbers of the runs."
    import yaml
    from source_read import rename
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(BOOK, site, ignore=shutil.ignore_patterns("_stage", "_build", "__pycache__", "reference"))
    numbers, folders = {}, {}
    for page in [*executed, *plain]:
        nb = json.loads(executed.get(page, ROOT/page.notebook).read_text())
        if page.title:
            nb = rename(nb, "-" + page.name.rsplit("_", 1)[-1])
            first = next(c for c in nb["cells"] if c["cell_type"] == "markdown")
            first["source"] = f"# {page.title}\n" + first["source"].partition("\n")[2]
        target = site/f"{page.name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(nb))
        if page in EXPERIMENTS:
            name, results = Path(page.name).name, executed[page].with_suffix("")
            if "phase_transition" in page.notebook:
                numbers[name] = findings(results)
                folders[page.parameters.get("grammar", "random grammar")] = results
            for figure in results.glob("*.png"):
                (site/"runs"/name).mkdir(parents=True, exist_ok=True)
                shutil.copy(figure, site/"runs"/name)
    numbers["gaps"] = gap_table({f"`{k}`" if "_" in k else k: folder for k, folder in folders.items()})
    config = yaml.safe_load((site/"_config.yml").read_text())
    config["sphinx"]["config"]["myst_substitutions"] = numbers
    (site/"_config.yml").write_text(yaml.safe_dump(config))


def leftover_tex(html: Path) -> list[str]:
    """Where dollar signs or TeX commands are left in the text of a page, outside of code and mathematics.

    Escapes of characters, as in a quoted symbol, are neither."""
    from bs4 import BeautifulSoup
    tex = re.compile(r"\$|\\(?!x[0-9a-f]{2}|u[0-9a-f]{4})[A-Za-z]+")
    found = []
    for page in sorted(html.rglob("*.html")):
        article = BeautifulSoup(page.read_text(), "html.parser").find("article")
        if article is None: continue
        for element in article.select("script, style, pre, code, .math, svg, figure img"): element.decompose()
        for match in tex.finditer(text := article.get_text(" ")):
            around = " ".join(text[max(0, match.start() - 40):match.end() + 40].split())
            found.append(f"{page.relative_to(html)}: {around}")
    return found


def render(site: Path, to: Path) -> Path:
    "Run Jupyter Book with warnings as errors; the path of the front page."
    html = to/"_build"/"html"
    shutil.rmtree(html, ignore_errors=True)
    command = [Path(sys.executable).parent/"jupyter-book", "build", str(site), "--path-output", str(to),
               "-W", "-n", "--keep-going", "--all", "-q"]
    if subprocess.run(command).returncode: raise SystemExit("the book has warnings or errors, listed above")
    if left := leftover_tex(html):
        raise SystemExit("TeX is left in the text of the book:\n" + "\n".join(left))
    return html/"index.html"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="quick", help="preset of the experiments (quick)")
    parser.add_argument(
        "--plain", action="store_true", help="show library pages and walkthroughs without executing them"
    )
    parser.add_argument("--to", type=Path, default=BOOK, help="folder that receives _build and _stage (book)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="notebooks executed at a time (one a core)"
    )
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # inherited by the kernels
    os.chdir(ROOT)
    start, to = time.monotonic(), args.to.resolve()
    if to.is_relative_to(ROOT): to = to.relative_to(ROOT)  # short paths in what the pages show
    pages = notebook_pages()
    plain = [p for p in pages if args.plain and p not in EXPERIMENTS]
    executed = execute_all(
        [p for p in pages if p not in plain], args.preset, to / "_stage" / "executed", args.jobs
    )
    say("rendering")
    stage(to/"_stage"/"site", executed, plain)
    index = render(to/"_stage"/"site", to)
    print(f"{len(contents())} pages in {time.monotonic() - start:.0f} s")
    print(index)


if __name__ == "__main__": main()
