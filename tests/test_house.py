"""The order of the house: which module may use which, notebooks clean and in place, one module a notebook."""
import ast
import collections
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FOUND = [p for p in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
NOTEBOOKS = sorted(p.relative_to(ROOT) for p in FOUND)
LIBRARY = [p for p in NOTEBOOKS if re.match(r"\d\d_", p.name)]
EXPERIMENTS = [p for p in NOTEBOOKS if p.parent.name == "experiments"]
STORY = [p.stem[3:] for p in LIBRARY if p.parent.name == "nbs"]
ENGINE = [f"engine.{p.stem[3:]}" for p in LIBRARY if p.parent.name == "engine"]
ROWS = [*STORY[:2], *ENGINE, *STORY[2:]]  # ground floor first: core, plots, the engine room, the story
FILES = [p.relative_to(ROOT/"rhmdiff") for p in (ROOT/"rhmdiff").rglob("*.py") if not p.stem.startswith("_")]
MODULES = sorted(".".join(p.with_suffix("").parts) for p in FILES)


def source(module: str) -> Path:
    "The file of a module, named as below `rhmdiff`."
    return ROOT/"rhmdiff"/f"{module.replace('.', '/')}.py"


def used_by(module: str) -> set[str]:
    "The modules of the library that `module` imports from, wherever in its code."
    used = set()
    package = ["rhmdiff", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(source(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            used |= {a.name.removeprefix("rhmdiff.") for a in node.names if a.name.startswith("rhmdiff.")}
        if not isinstance(node, ast.ImportFrom): continue
        assert not any(a.name == "*" for a in node.names), f"{module} imports *"
        base = package[:len(package) - node.level + 1] if node.level else []
        path = ".".join([*base, *([node.module] if node.module else [])])
        if path.split(".")[0] != "rhmdiff": continue
        inside = path.removeprefix("rhmdiff").removeprefix(".")
        used |= {inside} if inside in ROWS else {f"{inside}.{a.name}".removeprefix(".") for a in node.names}
    return used


def cells(path: Path) -> list[dict]:
    "The cells of a notebook, each with its source as one string."
    nb = json.loads((ROOT/path).read_text(encoding="utf-8"))
    return [{**c, "source": "".join(c["source"])} for c in nb["cells"]]


def test_one_module_a_notebook():
    exported = [re.match(r"#\|\s*default_exp ([\w.]+)", c["source"]) for p in NOTEBOOKS for c in cells(p)]
    named = sorted(m[1] for m in exported if m)
    assert named == sorted(ROWS), "each library notebook, and no other, names the module of its own name"
    assert MODULES == sorted(ROWS), "a module without its notebook is left over from a renamed one"


@pytest.mark.parametrize("module", ROWS)
def test_imports_only_from_rows_above(module):
    above = set(ROWS[:ROWS.index(module)])
    if module in ENGINE: above = {"core", *ENGINE[:ENGINE.index(module)]}
    below = (used_by(module) & set(ROWS)) - above
    assert not below, f"{module} uses {sorted(below)}, which stand on rows below it"


def test_modules_use_only_what_they_define_or_import():
    files = [str(source(m)) for m in MODULES]
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--select", "F", *files],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_modules_import_fresh():
    "Each alone, in an interpreter that has loaded no other; torch and the environment stay as they were."
    code = ("import sys, importlib, os, torch\n"
            "before = (torch.get_default_dtype(), torch.get_rng_state(), torch.get_num_threads(),\n"
            "          dict(os.environ))\n"
            "for m in sys.argv[1:]:\n"
            "    for k in [k for k in sys.modules if k.split('.')[0] == 'rhmdiff']: del sys.modules[k]\n"
            "    importlib.import_module('rhmdiff.' + m)\n"
            "assert before[0] == torch.get_default_dtype() and before[1].equal(torch.get_rng_state())\n"
            "assert before[2:] == (torch.get_num_threads(), dict(os.environ))")
    done = subprocess.run([sys.executable, "-c", code, *MODULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_notebooks_are_committed_clean(path):
    nb = json.loads((ROOT/path).read_text(encoding="utf-8"))
    assert (nb["nbformat"], nb["nbformat_minor"]) == (4, 5)
    assert nb["metadata"]["kernelspec"]["name"] == "python3"
    ids = [c.get("id") for c in nb["cells"]]
    assert all(ids) and len(set(ids)) == len(ids), "every cell has an id of its own"
    for c in nb["cells"]:
        assert set(c["metadata"]) <= {"tags", "mystnb"}, c["metadata"]
        if c["cell_type"] == "code": assert c["outputs"] == [] and c["execution_count"] is None, c["id"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=str)
def test_experiments_have_one_parameters_cell(path):
    tagged = [c for c in cells(path) if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1 and tagged[0]["cell_type"] == "code"
    injected = [c for c in cells(path) if "injected-parameters" in c["metadata"].get("tags", [])]
    assert not injected, "an output of papermill"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_directives_head_their_cells_and_figures_have_captions(path):
    for c in cells(path):
        if c["cell_type"] != "code": continue
        head = re.match(r"(#\|.*\n?)*", c["source"])[0]
        assert "\n#| " not in c["source"][len(head):], f"{c['id']}: a directive below other lines is ignored"
        if "label:" in head: assert re.search(r"#\| label: fig-[\w-]+\n#\| fig-cap: .+", head), c["id"]


def test_no_two_pages_label_a_figure_alike():
    texts = [(ROOT/p).read_text(encoding="utf-8") for p in NOTEBOOKS]
    labels = [label for text in texts for label in re.findall(r"#\| label: ([\w-]+)", text)]
    assert len(set(labels)) == len(labels), sorted(x for x in set(labels) if labels.count(x) > 1)


def test_every_notebook_is_in_the_book():
    toc = yaml.safe_load((ROOT/"book"/"_toc.yml").read_text(encoding="utf-8"))
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert len(set(listed)) == len(listed)
    assert {str(p.with_suffix("")) for p in NOTEBOOKS} - {"nbs/index"} <= set(listed)


def test_the_contents_list_every_experiment_and_no_other():
    "An experiment is found by being there; its variants too have pages, and one is run in any case."
    from rhmdiff.runs import experiments
    toc = yaml.safe_load((ROOT/"book"/"_toc.yml").read_text(encoding="utf-8"))
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    found = {*experiments(ROOT/"nbs"/"experiments"), "phase_transition_quick"}
    assert {Path(x).name for x in listed if x.startswith("nbs/experiments/")} == found


FROM_ZERO = [p for p in NOTEBOOKS if p.parent.name == "zero"]

@pytest.mark.parametrize("path", FROM_ZERO, ids=str)
def test_a_chapter_from_zero_says_what_for_what_to_keep_and_asks(path):
    text = "\n".join(c["source"] for c in cells(path) if c["cell_type"] == "markdown")
    assert text.split("\n\n")[1].startswith("After this chapter you can ")
    order = [text.index(f"## {part}\n") for part in ("What to keep", "Exercises")]
    exercises = re.findall(r"```\{exercise\} .+\n:label: (ex-zero-[\w-]+)", text)
    assert order == sorted(order) and len(exercises) == 3
    assert re.findall(r"```\{solution-start\} ([\w-]+)\n:class: dropdown", text) == exercises
    assert text.count("```{solution-end}") == 3


LETTER = re.compile(r"\\(alpha|beta|gamma|[dD]elta|epsilon|eta|theta|kappa|lambda|mu|nu|xi|pi|rho|[sS]igma"
                    r"|tau|[pP]hi|chi|[pP]si|[oO]mega|ell)\b|(?<![\\A-Za-z])([A-Za-z])(?![A-Za-z])")


def letters(text):
    "The letters of the formulas of a page."
    formulas = re.findall(r"```\{math\}\n(?::label:.*\n)?(.*?)```", text, re.DOTALL)
    text = re.sub(r"```.*?```|`[^`]*`", "", text.replace(r"\varepsilon", r"\epsilon"), flags=re.DOTALL)
    formulas += re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    formulas += re.findall(r"\$([^$]+)\$", re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL))
    words = re.compile(r"\\(text|mathrm|mathbb|mathbf|frac|tfrac)\b\s*(\{[A-Za-z ]*\})?")
    return {a or b for x in formulas for a, b in LETTER.findall(words.sub(" ", x))}


def words_of(path):
    "What a notebook says outside its code."
    return "\n\n".join(c["source"] for c in cells(path) if c["cell_type"] == "markdown")


def test_a_symbol_of_two_experiments_is_in_the_notation():
    assert letters(r"$\lambda^{-h}$ `$q$` $$\text{no } F'(x)$$") == {"lambda", "h", "F", "x"}
    pages = collections.Counter(x for path in EXPERIMENTS for x in letters(words_of(path)))
    known = letters((ROOT/"book"/"notation.md").read_text(encoding="utf-8"))
    assert not [x for x, count in pages.items() if count > 1 and x not in known]


def test_readme_is_that_of_the_index():
    sys.path.insert(0, str(ROOT/"book"))
    from readme import FIGURE, readme
    before = FIGURE.read_bytes()
    assert (ROOT/"README.md").read_text(encoding="utf-8") == readme(), "make readme"
    assert FIGURE.read_bytes() == before, "the figure was not that of the results; make readme"


def test_quarto_configuration():
    "Quarto refuses unknown project keys, and render globs that match nothing."
    assert (ROOT/"nbs"/"_quarto.yml").resolve() == ROOT/"_quarto.yml"
    project = yaml.safe_load((ROOT/"_quarto.yml").read_text(encoding="utf-8"))["project"]
    known = {"title", "type", "render", "execute-dir", "output-dir", "lib-dir", "resources", "preview",
             "pre-render", "post-render", "detect"}
    assert set(project) <= known
    for glob in project["render"]: assert list((ROOT/"nbs").glob(glob)), glob


def test_what_others_run_for_us_is_what_we_run():
    "Workflows and hooks call targets of the Makefile, or commands of the environment."
    targets = set(re.findall(r"^([\w-]+):", (ROOT/"Makefile").read_text(encoding="utf-8"), re.M))
    for file in (ROOT/".github"/"workflows").glob("*.yml"):
        jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values()
        runs = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
        assert {run.split()[1] for run in runs if run.startswith("make")} <= targets
        assert all(run.startswith(("make ", "git ", ".ci/run")) for run in runs)
    hooks = yaml.safe_load((ROOT/".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    ours = {"nbdev_clean", "nbdev_export", "ruff", "codespell", "python"}
    assert {hook["entry"].split()[0] for hook in hooks} == ours


def test_every_installed_version_is_pinned():
    "The constraints hold one exact version each, and every dependency the project names is among them."
    tomllib = pytest.importorskip("tomllib")
    text = (ROOT/"constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pins = {re.match(r"([\w.-]+)==[\w.]+$", line)[1].lower().replace("_", "-") for line in lines}
    assert len(pins) == len(lines)
    project = tomllib.loads((ROOT/"pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    named = project["dependencies"] + [d for extra in extras for d in extra]
    assert {re.match(r"[\w.-]+", d)[0].lower().replace("_", "-") for d in named} <= pins


def test_small_faults_of_prose_are_found_and_code_is_left_alone():
    from prose import faults
    for fault in ("so so", "on\non", "a   gap", "a , b", "a apple", "an town", "e.g. this"):
        assert len(list(faults(f"Here is {fault} of it."))) == 1, fault
    right = "Had it had `x   x , a a`, $a a$, an hour, a unit or a one.\n\nOne more; that that is."
    assert not list(faults(right))


# How the book shows a notebook (book/_ext/source_read.py)

@pytest.fixture(scope="module")
def source_read():
    sys.path.insert(0, str(ROOT/"book"/"_ext"))
    import source_read
    return source_read


def code(source, outputs=(), tags=()):
    return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}, "outputs": list(outputs)}
def text(source): return {"cell_type": "markdown", "source": source, "metadata": {}}


def test_plumbing_is_dropped_and_the_title_stands_first(source_read):
    nb = {"cells": [code("#| default_exp x"), code("#| export\nimport os"), text("# title"),
                    code("#| hide\nimport pytest"), code("#| export\ndef f(): return 1"), code("f()"),
                    code("import nbdev; nbdev.nbdev_export()")]}
    shown = source_read.readable(nb)["cells"]
    title = "# title\n\nThe module `rhmdiff.x`."
    entry = "```{index} single: f (in rhmdiff.x)\n```"
    assert [c["source"] for c in shown] == [title, "import os", entry, "def f(): return 1", "f()"]
    assert shown[1]["metadata"]["tags"] == ["definition", "hide-input"]
    assert shown[3]["metadata"]["tags"] == ["definition"]


def test_a_longer_test_is_folded_behind_what_runs_it(source_read):
    shown = source_read.readable({"cells": [code("assert f()", tags=["skip-execution"])]})["cells"][0]
    assert "hide-input" in shown["metadata"]["tags"] and shown["source"] == "assert f()"
    assert "make test" in shown["metadata"]["mystnb"]["code_prompt_show"]


def test_figures_take_their_name_and_caption(source_read):
    png, text_ = {"data": {"image/png": "", "text/plain": ""}}, {"data": {"text/plain": "0.3"}}
    figure = code('#| label: fig-a\n#| fig-cap: "Where $x$: \\"so\\""\nplot()', [text_, png])
    cell = source_read.readable({"cells": [figure]})["cells"][-1]
    assert cell["metadata"]["mystnb"]["figure"] == {"name": "fig-a", "caption": 'Where $x$: "so"'}
    assert cell["source"] == "plot()" and cell["outputs"] == [png]


def drawn(name, said="One panel."):
    "A cell that shows a figure."
    output = {"data": {"image/svg+xml": "<svg/>", "text/plain": said}}
    return code(f"#| label: {name}\n#| fig-cap: So.\nplot()", [output])


def test_a_figure_is_described_by_what_it_draws(source_read):
    for said, alt in (("One panel.", "One panel."), ("<Figure size 7x3>", "A figure.")):
        cell, = source_read.readable({"cells": [drawn("fig-a", said)]})["cells"][-1:]
        assert cell["metadata"]["mystnb"]["image"] == {"alt": alt}


@pytest.mark.parametrize("before, after", [
    ("It is so.", "It is so ({numref}`fig-a`)."), ("It is **so.**", "It is **so ({numref}`fig-a`).**"),
    ("The figure below has it.", "{numref}`fig-a` has it."), ("So:", "So ({numref}`fig-a`):"),
    ("In {numref}`fig-a` and below.", "In {numref}`fig-a` and below.")])
def test_a_figure_is_cited_in_the_text_before_it(before, after, source_read):
    shown = source_read.readable({"cells": [text(before), code("x"), drawn("fig-a")]})["cells"]
    assert [c["source"] for c in shown] == [after, "x", "plot()"]


def test_a_figure_is_cited_in_what_a_page_has_found(source_read):
    found = code("say()", [{"data": {"text/markdown": "A note.\n\n**At 0.5 it is.** And more."}}])
    said, _ = source_read.readable({"cells": [found, drawn("fig-a")]})["cells"]
    assert said["outputs"][0]["data"]["text/markdown"] == (
        "A note.\n\n**At 0.5 it is ({numref}`fig-a`).** And more.")


@pytest.mark.parametrize("before", ["## Section", "```\ncode\n```", "| a |\n| - |", "$$x$$"])
def test_a_figure_below_no_prose_is_cited_by_a_line(before, source_read):
    shown = source_read.readable({"cells": [text(before), drawn("fig-a")]})["cells"]
    assert [c["source"] for c in shown] == [before, "{numref}`fig-a` follows.", "plot()"]


def test_long_tables_are_folded_behind_the_files_they_are_made_of(source_read):
    def table(count):
        rows = "<tr></tr>" * count
        return {"data": {"text/html": f"<table><thead><tr></tr></thead><tbody>{rows}</tbody></table>"}}
    cells = [code("def f(x): return of(results['gaps'], x)"), code("a = results['halves']\nb = 3"),
             code("f(a)", [table(13)]), code("b", [table(13)]), code("f(a)", [table(12)])]
    shown = source_read.readable({"cells": cells})["cells"]
    html = [cell["outputs"][0]["data"]["text/html"] for cell in shown[2:]]
    files = "<code>gaps.csv</code>, <code>halves.csv</code>"
    assert html[0].startswith(f'<details class="rows"><summary>Table of 13 rows, made of {files}</summary>')
    assert html[1].startswith('<details class="rows"><summary>Table of 13 rows</summary>')
    assert html[2].startswith("<table>")


def test_parameters_are_shown_as_they_ran(source_read):
    defaults = 'preset = "quick"  # smoke, quick\nv: int = 8  # symbols\ndepths = [2,\n          4]  # levels'
    injected = code("# Parameters\nv = 16\ndepths = [3]", tags=["injected-parameters"])
    shown = source_read.readable({"cells": [code(defaults, tags=["parameters"]), injected]})["cells"]
    assert [c["source"] for c in shown] == [
        'preset = "quick"  # smoke, quick\nv: int = 16  # symbols\ndepths = [3]  # levels']


def test_folders_of_the_machine_are_not_shown(source_read):
    defaults = 'preset: str = None  # smoke\nshow: str = None\noutput: str = "runs/x"'
    injected = code("show = '/a/b'\noutput = '/c'\npreset = \"quick\"", tags=["injected-parameters"])
    shown, = source_read.readable({"cells": [code(defaults, tags=["parameters"]), injected]})["cells"]
    assert shown["source"] == 'preset: str = "quick"  # smoke\nshow: str = None\noutput: str = "runs/x"'
    assert shown["metadata"]["mystnb"]["code_prompt_show"] == "Parameters"


def test_findings_stand_first_and_code_is_folded(source_read):
    table, png = {"data": {"text/html": "<table>"}}, {"data": {"image/png": ""}}
    said = {"data": {"text/markdown": "A note.\n\nIt is so."}}
    nb = {"cells": [text("# Title\n\n> A line.\n\nAn introduction."), code("import os"), text("## Section"),
                    code("#| label: fig-a\n#| fig-cap: A.\nplot()", [png], ["finding"]),
                    code("#| echo: false\nsay()", [said], ["finding"]), code("shown()", [table])]}
    shown = source_read.readable(nb, experiment=True)["cells"]
    assert [c["source"] for c in shown] == [
        "# Title\n\n> A line.", "say()", "plot()", "An introduction.", "import os", "## Section", "shown()"]
    assert shown[1]["metadata"]["tags"] == ["finding", "remove-input"]
    prompts = [c["metadata"]["mystnb"]["code_prompt_show"] for c in (shown[2], shown[4], shown[6])]
    assert prompts == ["The code of this figure", "Imports", "The code of this table"]


@pytest.mark.parametrize("source, prompt", [
    ("x = 1", "Code"), ("def f(): pass\ndef g(): pass", "The code of f, g"),
    ("def a(): pass\nclass b: pass\ndef c(): pass\ndef d(): pass", "The code of a, b, c and 1 more"),
    ("results = runs.measure(p, [part])", "The measurement")])
def test_a_fold_says_what_is_in_it(source, prompt, source_read):
    shown, = source_read.readable({"cells": [code(source)]}, experiment=True)["cells"]
    assert shown["metadata"]["mystnb"]["code_prompt_show"] == prompt


def test_labels_are_kept_apart_where_a_notebook_makes_two_pages(source_read):
    words = ("(here)=\nSee {numref}`fig-a`, {ref}`text <here>` and {eq}`eq-other`.\n"
             "$$ x $$ (eq-x)\n{eq}`eq-x`")
    a, b = source_read.rename({"cells": [code("#| label: fig-a\nplot()"), text(words)]}, "-2")["cells"]
    assert a["source"].startswith("#| label: fig-a-2\n")
    assert b["source"] == ("(here-2)=\nSee {numref}`fig-a-2`, {ref}`text <here-2>` and {eq}`eq-other`.\n"
                           "$$ x $$ (eq-x-2)\n{eq}`eq-x-2`")
