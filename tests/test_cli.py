"""The command `rhm`: what it says, what it leaves, and the number with which it ends."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("click")
pytest.importorskip("papermill")

import test_house as house
from test_files import mounted
from tiny import RHM, kernels, tiny, wait_for, write_notebook

import rhmdiff
from rhmdiff import cli, runs

BAD = {
    "raises": ("raise ValueError('no such grammar')", cli.FAILED, "ValueError: no such grammar"),
    "exits": ("import sys; sys.exit(0)", cli.FAILED, "ended the notebook with SystemExit"),
    "crashes": ("import os; os._exit(0)", cli.FAILED, "kernel of bad.ipynb died"),
    "hangs": ("import time; time.sleep(600)", cli.TIME, "did not end in 3 s"),
}


@pytest.fixture
def rhm(tmp_path, monkeypatch, capfd):
    "Calls `rhm` in this process, in a folder of its own: its exit code, stdout and stderr."
    monkeypatch.chdir(tmp_path)
    former = signal.getsignal(signal.SIGTERM)
    def call(*arguments):
        with pytest.raises(SystemExit) as end: cli.main([str(x) for x in arguments])
        return end.value.code, *capfd.readouterr()
    yield call
    signal.signal(signal.SIGTERM, former)


def names(folder: Path) -> list[str]:
    "What lies in a folder and below, sorted."
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("case", BAD)
def test_a_notebook_that_does_not_run_is_kept_and_told(rhm, tmp_path, case):
    source, code, message = BAD[case]
    write_notebook(tmp_path/"bad.ipynb", "k: int = 2", source, "k")
    limit = ["--timeout", "3"] if case == "hangs" else []
    ended, _, told = rhm("run", "bad.ipynb", "--out", "done/bad.ipynb", *limit)
    assert ended == code and message in told, told
    assert names(tmp_path) == ["bad.ipynb", "done", "done/bad.failed.ipynb"]
    write_notebook(tmp_path/"bad.ipynb", "k: int = 2", "k")
    assert rhm("run", "bad.ipynb", "--out", "done/bad.ipynb", "-p", "k=[1, 2]")[0] == cli.OK
    assert names(tmp_path) == ["bad.ipynb", "done", "done/bad.ipynb"], "the failure is gone"


def test_what_is_wrong_is_told_before_any_work(rhm, tmp_path):
    tiny(tmp_path)
    (tmp_path/"file").touch()
    plan = ["sweep", "plan", "tiny.ipynb", "--grid"]
    for arguments, code, message in [
        (["run", "tiny.ipynb", "-p", "prats=3"], cli.USAGE, "did you mean 'parts'?"),
        (["run", "tiny.ipynb", "-p", "parts=many"], cli.USAGE, "parts='many' must be an integer\n"),
        (["run", "tiny.ipynb", "-p", "rest=long"], cli.USAGE, "rest='long' must be a number\n"),
        (["run", "tiny.ipynb", "-p", "parts"], cli.USAGE, "NAME=VALUE is needed"),
        (["run", "tiny.ipynb", "--preset", "huge"], cli.USAGE, "preset='huge' is not one of"),
        (["run", "phase_transitoin"], cli.USAGE, "did you mean 'phase_transition'?"),
        (["run", "none.ipynb"], cli.USAGE, "there is no notebook none.ipynb"),
        (["run", "tiny.ipynb", "--out", "file/out.ipynb"], cli.NO_OUTPUT, "file' is not a folder"),
        (["run", "tiny.ipynb", "--out", "/proc/out.ipynb"], cli.NO_OUTPUT, "cannot be written"),
        ([*plan, "seed=1,b", "--out", "s"], cli.USAGE, "run 1: seed='b'"),
        ([*plan, "seed", "--out", "s"], cli.USAGE, "--grid seed: NAME=A,B,... is needed"),
        ([*plan, "seed=1", "--out", "file/s"], cli.NO_OUTPUT, "not a folder"),
        (["sweep", "run", "tiny.ipynb"], cli.USAGE, "is no manifest"),
        (["sweep", "walk"], cli.USAGE, "command='walk' is not one of plan, run, status, table"),
    ]:
        ended, _, told = rhm(*arguments)
        assert ended == code and message in told, (arguments, told)
    assert names(tmp_path) == ["file", "tiny.ipynb"]


def test_a_dry_run_says_what_it_would_cost_and_a_run_what_it_made(rhm, tmp_path):
    tiny(tmp_path)
    told = rhm("run", "tiny.ipynb", "--preset", "smoke", "--dry-run")[1]
    assert "3 parts, 0 there, 3 to make" in told and names(tmp_path) == ["tiny.ipynb"]
    ended, told, log = rhm("run", "tiny.ipynb", "--preset", "smoke")
    assert ended == cli.OK and "results in runs/tiny-smoke: numbers.csv, sums.csv" in told
    lines = [line for line in log.splitlines() if line.startswith("[")]
    assert [line[:5] for line in lines] == ["[1/3]", "[2/3]", "[3/3]"] and "left" in lines[0]
    assert "TCP" not in log and not any(p.name.startswith(".") for p in (tmp_path/"runs").iterdir())
    arguments = ("run", "tiny.ipynb", "--preset", "smoke", "-p", "parts=5", "--out", "runs/tiny-smoke.ipynb")
    told = rhm(*arguments, "--dry-run")[1]
    assert told.strip().endswith("5 parts, 3 there, 2 to make"), "the time of new parts is not known"
    others = "tiny-smoke holds results of other parameters (parts=3): their tables are replaced"
    assert others in rhm(*arguments, "--dry-run")[2] and others in rhm(*arguments)[2]
    shown = rhm("run", "tiny.ipynb", "--dry-run", "-p", "show=runs/tiny-smoke")[1]
    assert "would show the results in runs/tiny-smoke" in shown and "nothing is measured" in shown
    ended, _, told = rhm("run", "tiny.ipynb", "-p", "show=runs/tiny-smoke", "-p", "parts=4")
    assert ended == cli.USAGE and "parts='4' stands beside show='runs/tiny-smoke'" in told


def test_what_a_notebook_refuses_is_wrong_usage(rhm, tmp_path):
    tiny(tmp_path, "if p.parts > 9: raise ValueError(f'parts={p.parts} are too many')")
    ended, _, told = rhm("run", "tiny.ipynb", "--preset", "smoke", "-p", "parts=10")
    assert ended == cli.USAGE and "parts=10 are too many" in told and names(tmp_path) == ["tiny.ipynb"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, cli.INTERRUPTED), (signal.SIGTERM, cli.TERMINATED)])
def test_an_interrupt_ends_the_kernel_and_leaves_the_parts(tmp_path, number, code):
    tiny(tmp_path)
    def default():  # a shell may have started us with SIGINT ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [RHM, "run", "tiny.ipynb", "-p", "parts=2", "-p", "rest=0.1", "--out", "out.ipynb"]
    log = tmp_path/"log"
    env = os.environ | {"TINY_HOME": str(tmp_path), "TINY_LOG": str(log)}
    write_notebook(tmp_path/"tiny.ipynb", *_slow_third(tmp_path))
    run = subprocess.Popen(command, cwd=tmp_path, env=env, preexec_fn=default, stderr=subprocess.PIPE,
                           text=True)
    wait_for(lambda: log.exists() and len(log.read_text(encoding="utf-8").splitlines()) == 2)
    time.sleep(0.5)
    run.send_signal(number)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == code and told.splitlines()[-1] in ("rhm: interrupted", "rhm: terminated"), told
    assert not kernels(tmp_path)
    left = names(tmp_path)
    assert len([x for x in left if x.startswith("out/parts/numbers-") and x.endswith(".json")]) == 1
    assert not [x for x in left if "-tmp" in x or x.startswith("out.")], left


def _slow_third(folder: Path) -> list[str]:
    "The tiny experiment with a rest of a minute before its second part."
    cells = [c["source"] for c in json.loads((folder/"tiny.ipynb").read_text(encoding="utf-8"))["cells"]]
    cells = ["".join(c) for c in cells]
    return [c.replace("time.sleep(rest)", "time.sleep(60 if k == 1 else rest)") for c in cells]


def test_a_full_disk_is_told_and_loses_nothing(rhm, tmp_path):
    tiny(tmp_path)
    with mounted(tmp_path/"small", "size=64k") as disk:
        (disk/"filler").write_bytes(bytes(48 * 1024))
        ended, _, told = rhm("run", "tiny.ipynb", "--preset", "smoke", "--out", disk/"out.ipynb")
        assert ended == cli.NO_OUTPUT and "no space left on device" in told.lower(), told
        assert not [x for x in names(disk) if "-tmp" in x]
        (disk/"filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert rhm("run", "tiny.ipynb", "--preset", "smoke", "--out", disk/"out.ipynb")[0] == cli.OK


def test_a_sweep_in_a_few_commands(rhm, tmp_path):
    "Of four runs one fails: the others run, its notebook is kept, and a second call skips what is done."
    tiny(tmp_path, "if p.seed == 2: raise ValueError('two')")
    text = "notebook: tiny.ipynb\nparameters: {preset: smoke, rest: 0}\ngrid: {seed: [0, 1, 2, 3]}\n"
    (tmp_path/"sweep.yaml").write_text(text, encoding="utf-8")
    assert "4 runs in" in rhm("sweep", "plan", "sweep.yaml", "--out", "s")[1]
    same = rhm("sweep", "plan", "tiny.ipynb", "--preset", "smoke", "-p", "rest=0", "--grid", "seed=0,1,2,3",
               "--out", "same")[1]
    assert same.split()[1] == runs.read_manifest("s").entries[0].key
    assert rhm("sweep", "plan", "sweep.yaml", "--out", "s")[2] == "", "the same plan"
    assert "4 of 4 runs to make" in rhm("sweep", "run", "s", "--dry-run")[1]
    ended, told, _ = rhm("sweep", "run", "s", "--index", 1)
    assert ended == cli.OK and told.splitlines()[-1] == "1 run: 1 complete"
    ended, told, log = rhm("sweep", "run", "s", "--workers", 1)
    assert ended == cli.FAILED and "4 runs: 3 complete, 1 failed" in told
    assert "ValueError: two; kept as" in log
    failed = runs.states("s").notebook[2]
    assert '"evalue": "two"' in Path(failed).read_text(encoding="utf-8")
    before = {x: (tmp_path/"s"/x).stat().st_mtime_ns for x in names(tmp_path/"s") if x.endswith("run.json")}
    assert rhm("sweep", "run", "s", "--workers", 1)[0] == cli.FAILED
    assert before == {x: (tmp_path/"s"/x).stat().st_mtime_ns for x in before} and len(before) == 3
    assert "failed" in rhm("sweep", "status", "s")[1]
    written = rhm("sweep", "table", "s")[1].split()
    assert [Path(x).name for x in written] == ["runs.csv", "numbers.csv", "sums.csv"]
    assert list(runs.read_table(tmp_path/"s"/"tables"/"sums.csv").seed) == [0] * 3 + [1] * 3 + [3] * 3
    assert not [x for x in names(tmp_path/"s") if "-tmp" in x or x.endswith(".lock")]
    (tmp_path/"here").mkdir()
    _, where, told = rhm("sweep", "plan", "tiny.ipynb", "--preset", "smoke", "-p", "rest=0",
                         "--grid", "seed=0", "--out", "here/../s")
    assert where.splitlines()[-1] == f"1 run in {tmp_path.resolve()/'s'/'manifest.json'}"
    assert told.startswith("the plan in here/../s is replaced, which had 4 runs, 3 complete\n")
    assert "complete runs in here/../s that are not of this plan: 2; they stay there" in told


def test_the_reference_results_are_replaced_as_a_whole(tmp_path):
    p = runs.read_experiment(tiny(tmp_path))[0].settings({"preset": "smoke", "rest": 0})
    p.output = str(tmp_path/"work")
    runs.measure(p, runs.parts_of(tmp_path/"tiny.ipynb", {"preset": "smoke", "rest": 0}))
    target = tmp_path/"book"/"tiny"
    target.mkdir(parents=True)
    (target/"old.csv").touch()
    cli.replace_results(tmp_path/"work", target)
    assert names(target) == ["numbers.csv", "run.json", "sums.csv"] and names(target.parent)[0] == "tiny"
    assert len(runs.read_results(target)["sums"]) == 3


@pytest.fixture
def checkout(tmp_path, root, monkeypatch) -> Path:
    "A copy of the notebooks and of the contents, which this library takes for the checkout that it lies in."
    here = tmp_path/"checkout"
    shutil.copytree(root/"nbs", here/"nbs", ignore=shutil.ignore_patterns(".*", "*.yml"))
    (here/"book").mkdir()
    shutil.copyfile(root/"book"/"_toc.yml", here/"book"/"_toc.yml")
    monkeypatch.setattr(rhmdiff, "__file__", str(here/"rhmdiff"/"__init__.py"))
    return here


def test_a_new_experiment_obeys_the_house_and_runs(rhm, root, checkout, monkeypatch):
    toc = (checkout/"book"/"_toc.yml").read_text(encoding="utf-8")
    monkeypatch.chdir(checkout/"nbs")
    told = rhm("new", "trial", "--dry-run")[1]
    assert told == "would make experiments/trial.ipynb and its line in ../book/_toc.yml\n"
    assert not (checkout/"nbs"/"experiments"/"trial.ipynb").exists()
    ended, told, _ = rhm("new", "trial", "--title", 'On "trial"')
    assert ended == cli.OK and told.splitlines()[2:] == [
        "  edit experiments/trial.ipynb", "  rhm run trial --preset smoke",
        "  make reference EXP=trial  # once it is committed"]
    listed = (checkout/"book"/"_toc.yml").read_text(encoding="utf-8").splitlines()
    line = "      - file: nbs/experiments/trial"
    assert [x for x in listed if x != line] == toc.splitlines()
    assert listed[listed.index(line) + 1] == "  - caption: The library"

    new = Path("nbs/experiments/trial.ipynb")
    monkeypatch.setattr(house, "ROOT", checkout)
    monkeypatch.setattr(house, "NOTEBOOKS", sorted([*house.NOTEBOOKS, new]))
    house.test_notebooks_are_committed_clean(new)
    house.test_experiments_have_one_parameters_cell(new)
    house.test_directives_head_their_cells_and_figures_have_captions(new)
    house.test_no_two_pages_label_a_figure_alike()
    house.test_every_notebook_is_in_the_book()
    house.test_the_contents_list_every_experiment_and_no_other()
    rules = ["--config", root/"pyproject.toml", "--config", f"src = ['{root}']"]
    lint = [sys.executable, "-m", "ruff", "check", *rules, checkout/new]
    done = subprocess.run(lint, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    cells = house.cells(new)
    assert cells[0]["source"].startswith('# On "trial"\n\n> ') and "NEW_" not in str(cells)
    assert cells[-1]["source"].startswith("## What would change the answer")

    monkeypatch.chdir(checkout)
    ended, told, log = rhm("run", "trial", "--preset", "smoke")
    assert ended == cli.OK and "results in runs/trial-smoke: curves.csv" in told, log
    table = runs.read_results("runs/trial-smoke")["curves"]
    assert list(table.columns) == ["noise", "number", "t", "mass"] and len(table) == 2 * 5  # grammars × times
    assert table.mass.between(0, 1).all() and table.groupby("t").mass.mean().is_monotonic_decreasing
    shown = Path("runs/trial-smoke.ipynb").read_text(encoding="utf-8")
    assert "image/png" in shown and "Results of the preset `smoke`" in shown


def test_a_new_experiment_is_refused_before_anything_is_written(rhm, tmp_path, checkout, monkeypatch):
    outside = tmp_path/"outside"
    outside.mkdir()
    before = names(tmp_path), (checkout/"book"/"_toc.yml").read_bytes()
    for place, arguments, message in [
        (checkout, ["Trial"], "name='Trial' must be made of a-z, 0-9 and _"),
        (checkout, ["../trial"], "name='../trial' must be made of"),
        (checkout, ["import"], "be no word of Python"),
        (checkout, ["depth"], "name='depth' is that of an experiment"),
        (checkout, ["phase_transition_thesis"], "or of a page of one, that is there"),
        (checkout, ["trial", "--title", "two\nlines"], "title='two\\nlines' must be one line of text"),
        (checkout, ["trial", "--title", " "], "title='' must be one line of text"),
        (checkout, [], "Missing argument 'NAME'"),
        (outside, ["trial"], "lies in no checkout of the repository, which has nbs/experiments and"),
    ]:
        monkeypatch.chdir(place)
        ended, _, told = rhm("new", *arguments)
        assert ended == cli.USAGE and message in told, (arguments, told)
    assert before == (names(tmp_path), (checkout/"book"/"_toc.yml").read_bytes())


STATES = pd.DataFrame([
    dict(experiment="a", state="stale", because="curve", when="2026-11-24T10:00", machine="x86_64",
         seconds=90., preset_cost="1 min"),
    dict(experiment="long", state="missing", because=None, when=None, machine=None, seconds=None,
         preset_cost="an hour")])


def test_states_are_listed_with_what_made_them_stale(rhm, monkeypatch):
    monkeypatch.setattr(runs, "status", lambda: STATES)
    code, said, told = rhm("status")
    head, *lines = said.splitlines()
    assert code == cli.OK and len(lines) == 3
    assert lines[0].split() == ["a", "stale", "2026-11-24", "90", "s", "x86_64", "1", "min"]
    assert lines[1].strip() == "because of curve" and lines[2].startswith("long        missing")
    columns = (("state", "stale"), ("measured on", "2026"), ("machine", "x86"), ("stated cost", "1 min"))
    for column, text in columns:
        assert head.index(column) == lines[0].index(text)
    assert all(f"{state}: " in told for state in ("fresh", "stale", "confirmed", "missing", "damaged"))


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize("by, flags", [("recompute", []), ("confirm", ["--confirm"])])
def test_a_slice_made_again_is_compared(rhm, monkeypatch, agrees, by, flags):
    table = pd.DataFrame([dict(part="p k=1", agrees=agrees, worst=0.5, rtol=1e-6)])
    asked = []
    monkeypatch.setattr(runs, by, lambda *arguments: asked.append(arguments) or table)
    code, said, told = rhm("check", "phases", "--seconds", "5", "--seed", "3", *flags)
    assert asked[0][0].name == "phases" and asked[0][2:] == (5., 3)
    assert code == (cli.OK if agrees else cli.FAILED) and ("is not what is committed" in told) is not agrees
    assert said.split() == [("agrees" if agrees else "DIFFERS"), "p", "k=1:", "0.5", "(tolerance", "1e-06)"]
    assert rhm("check", "phasse")[0] == cli.USAGE


def test_reference_results_are_made_of_a_clean_tree(rhm, monkeypatch):
    code, said, _ = rhm("reference", "phases", "--dry-run")
    assert code == cli.OK and "reference" in said
    monkeypatch.setattr(runs, "provenance", lambda: dict(modified=True, commit="abc"))
    code, _, told = rhm("reference", "phases")
    assert code == cli.USAGE and "no commit holds" in told


def test_help_comes_without_torch():
    "The command says what it is before torch is loaded."
    code = "import sys, rhmdiff.cli; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    for command in ("", "run", "sweep", "sweep plan", "sweep run", "reference", "check", "new"):
        done = subprocess.run([RHM, *command.split(), "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "Exit codes:" in done.stdout
