"""Experiments end to end, through papermill."""
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

pytest.importorskip("papermill")

import nbformat
from papermill.cli import _resolve_type

from rhmdiff import runs
from rhmdiff.core import spawn
from rhmdiff.engine import notebooks
from rhmdiff.grammar import HierarchicalGrammar

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT/"nbs"/"experiments"/"phase_transition.ipynb"


def typed(folder, *arguments):
    "The finished process of papermill as a user types it in `folder`; results go to `folder`/results."
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), "out.ipynb", "-p", "output", "results",
               *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@functools.cache
def kernels() -> notebooks.KernelServer | None:
    "A process that has imported what experiments do and forks their kernels, which saves seconds a run."
    if not hasattr(os, "pidfd_open"): return None
    own = ROOT/"rhmdiff"
    modules = [path.relative_to(ROOT).with_suffix("") for path in sorted(own.glob("[a-z]*.py"))]
    return notebooks.KernelServer([*(".".join(x.parts) for x in modules), "matplotlib.pyplot"], {})


class Finished(NamedTuple):
    "How a run ended: 0, or 1 and what it said."
    returncode: int
    stderr: str


def papermill(folder, *arguments, notebook=NOTEBOOK) -> Finished:
    "An experiment run in `folder` under the arguments of the command line; results go to `folder`/results."
    given = {"output": "results"}
    words = iter(arguments)
    for option in words:
        given |= yaml.safe_load(next(words)) if option == "-y" else {next(words): _resolve_type(next(words))}
    with contextlib.chdir(folder):
        try: notebooks.execute(notebook, given, "out.ipynb", timeout=300, server=kernels())
        except notebooks.RunError as why: return Finished(1, str(why))
    return Finished(0, "")


def names_in(folder: Path) -> list[str]:
    "The names of what a folder holds, sorted."
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    done = typed(folder, "-p", "preset", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_smoke_leaves_everything(smoke):
    results = smoke/"results"
    tables = ["curves", "fates", "gaps", "gaps_by_time", "halves"]
    assert names_in(results) == [*(f"{name}.csv" for name in tables), "parts", "run.json"]
    record = json.loads((results/"run.json").read_text(encoding="utf-8"))
    assert record["parameters"]["preset"] == "smoke" and record["parameters"]["seed"] == 0
    told = {"versions", "commit", "device", "seconds", "wall_seconds", "threads", "peak_memory_bytes", "code"}
    assert told <= set(record)
    assert len(record["parts"]) == 3 * 2 + 2 * 2 * 2  # noises × depths, and noises × depths × networks
    assert record["seconds"] == pytest.approx(sum(part["seconds"] for part in record["parts"]), abs=0.1)
    table = pd.read_csv(results/"curves.csv")
    assert list(table.columns) == ["source", "noise", "depth", "number", "level", "t", "mean", "se", "units"]
    exact = table[table.source == "exact"]
    assert len(exact) == 3 * 3 * (3 + 4)  # noises × times × (levels of L = 2 and 3)
    assert table["mean"].between(0, 1 + 1e-9).all() and (exact.se >= 0).all()
    fates = pd.read_csv(results/"fates.csv")
    assert (fates[["same", "other", "none"]].sum(axis=1) - 1).abs().max() < 1e-9
    executed = nbformat.read(smoke/"out.ipynb", 4).cells
    cells = [c for c in executed if c.cell_type == "code" and c.source.strip()]
    assert all(c.execution_count for c in cells)


def test_same_seed_same_tables(smoke, tmp_path):
    done = papermill(tmp_path, "-p", "preset", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    for table in sorted((smoke/"results").glob("*.csv")):
        assert table.read_bytes() == (tmp_path/"results"/table.name).read_bytes(), table.name


def test_a_longer_run_reuses_a_shorter_one(smoke, tmp_path):
    """With one depth more, the parts of the others are read: they keep the time at which they were made."""
    shutil.copytree(smoke/"results", tmp_path/"results")
    done = papermill(tmp_path, "-p", "preset", "smoke", "-p", "depths", "2,3,4")
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (json.loads((folder/"results"/"run.json").read_text(encoding="utf-8"))["parts"]
                     for folder in (smoke, tmp_path))
    made = {part["key"]: part["when"] for part in after}
    assert all(made[part["key"]] == part["when"] for part in before) and len(after) == len(before) + 3


def test_show_measures_nothing(smoke, tmp_path):
    """The notebook shows a folder of results, under the parameters of that folder, and writes nothing."""
    done = papermill(tmp_path, "-p", "show", str(smoke/"results"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert names_in(tmp_path) == ["out.ipynb"]
    cells = nbformat.read(tmp_path/"out.ipynb", 4).cells
    text = " ".join(str(o.get("data", {})) for c in cells for o in c.get("outputs", []))
    assert "Results of the preset `smoke`" in text and text.count("image/png") == 4


@pytest.mark.parametrize("lists", [("-p", "depths", "[2, 3]", "-p", "noises", "belief"),
                                   ("-y", "{depths: [2, 3], noises: [belief]}")])
def test_lists_in_both_spellings(tmp_path, lists):
    done = typed(tmp_path, "-p", "preset", "smoke", "-p", "v", "8", "-p", "m", "2", *lists)
    assert done.returncode == 0, done.stderr[-3000:]
    table = pd.read_csv(tmp_path/"results"/"curves.csv")
    assert sorted(table.depth.unique()) == [2, 3] and set(table.noise) == {"belief"}


@pytest.mark.parametrize("arguments, message", [
    (("-p", "detphs", "[2]"), "parameter='detphs' is not one of"),
    (("-p", "grammar", "TERNARY"), "grammar='TERNARY' is not one of rhm, BINARY_3_LEVEL_GRAMMAR"),
    (("-p", "noises", "[pink]"), "noises='pink' is not one of"),
    (("-p", "device", "tpu"), "device='tpu' is not one of"),
    (("-p", "v", "4", "-p", "m", "5"),
     "m=5: 5 productions for each of v=4 symbols need 20 distinct tuples; v**s=16"),
    (("-p", "times", "[0.5, 1.5]"), "times=1.5 must be a number between 0.0 and 1.0"),
    (("-p", "preset", "slow"), "preset='slow' is not one of smoke, quick, reference"),
])
def test_refused_before_any_work(tmp_path, arguments, message):
    done = papermill(tmp_path, "-p", "preset", "smoke", *arguments)
    assert done.returncode != 0 and f"ValueError: {message}" in done.stderr
    assert not (tmp_path/"results").exists()


@pytest.mark.slow
def test_thesis_grammar_quick(tmp_path):
    "The quick preset's transformer is within 0.05 nats a masked token of the optimum on the 3-level grammar."
    done = papermill(tmp_path, "-p", "preset", "quick", "-p", "grammar", "BINARY_3_LEVEL_GRAMMAR",
                     "-p", "noises", "masking")
    assert done.returncode == 0, done.stderr[-3000:]
    gap, = pd.read_csv(tmp_path/"results"/"gaps.csv").gap
    assert 0 <= gap <= 0.05


DENOISERS = ROOT/"nbs"/"experiments"/"denoisers.ipynb"


def test_denoisers_smoke_and_resumption(tmp_path):
    """Everything is left; a second run finds its networks and gives the same tables, the seconds included."""
    tables = []
    kept = ("by_step", "by_time", "each", "seconds")
    for _ in range(2):
        done = papermill(tmp_path, "-p", "preset", "smoke", notebook=DENOISERS)
        assert done.returncode == 0, done.stderr[-3000:]
        results = tmp_path/"results"
        assert names_in(results) == sorted(["parts", "run.json", *(f"{name}.csv" for name in kept)])
        tables.append([(results/f"{name}.csv").read_bytes() for name in kept])
    assert tables[0] == tables[1]
    table = pd.read_csv(results/"each.csv")
    pairs = [(name, noise, 2, k) for noise, k in (("masking", 0), ("masking", 1), ("gaussian", 0))
             for name in ("transformer", "unet")]
    others = [("shuffled", "masking", 2, 0), ("transformer", "masking", 3, 0), ("unet", "masking", 3, 0)]
    assert list(zip(table.network, table.noise, table.L, table.number)) == pairs + others
    assert (table.gap > 0).all()
    record = json.loads((results/"run.json").read_text(encoding="utf-8"))
    assert len(record["parts"]) == len(table)  # a part is one network


MEMORIZATION = ROOT/"nbs"/"experiments"/"memorization.ipynb"


def test_memorization_smoke(tmp_path):
    "A row for each network and look; the page is shown from the tables."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=MEMORIZATION)
    assert done.returncode == 0, done.stderr[-3000:]
    course = pd.read_csv(tmp_path/"results"/"course.csv")
    assert list(zip(course.P, course.number, course.step)) == [
        (P, k, step) for k in (0, 1) for P in (4, 8) for step in (10, 24)]
    assert (course.gap > 0).all() and (course.copying > 0).all()
    assert (course.copied + course.novel <= 1 + 1e-9).all() and (course.near >= course.copied).all()
    text = shown(tmp_path, MEMORIZATION)
    assert text.count("image/png") == 6 and "network" in text


@pytest.mark.parametrize("arguments, message", [
    (("-p", "noise", "belief"), "noise='belief' is not one of masking, uniform, gaussian"),
    (("-p", "sizes", "[4, 40]"), "and twice as many as the largest set are needed"),
    (("-p", "steps", "[20, 30, 40]"),
     "steps=[20, 30, 40] must be one number, or one for each of sizes=[4, 8]"),
])
def test_memorization_refused_before_any_work(tmp_path, arguments, message):
    done = papermill(tmp_path, "-p", "preset", "smoke", *arguments, notebook=MEMORIZATION)
    assert done.returncode != 0 and message in done.stderr
    assert not (tmp_path/"results").exists()


SAMPLE_COMPLEXITY = ROOT/"nbs"/"experiments"/"sample_complexity.ipynb"


def test_sample_complexity_smoke(tmp_path):
    "A row for each network; a network is as far from the last rungs as the ladder allows."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=SAMPLE_COMPLEXITY)
    assert done.returncode == 0, done.stderr[-3000:]
    each = pd.read_csv(tmp_path/"results"/"each.csv")
    assert set(each.kind) == {"unet", "shifted", "transformer"}
    unets = each[each.kind == "unet"]
    sizes = [(4, 2, [8, 16]), (4, 3, [12, 36]), (6, 2, [12, 24])]  # v m and v m^2
    assert list(zip(unets.v, unets.m, unets.P)) == [(v, m, P) for v, m, both in sizes for P in both]
    assert (each.gap > 0).all() and (each.stopped <= 8).all()
    ladder = pd.read_csv(tmp_path/"results"/"ladder.csv")
    assert len(ladder) == 3 * 2 * 2  # shapes, grammars, rungs below the exact denoiser
    text = shown(tmp_path, SAMPLE_COMPLEXITY)
    assert text.count("image/png") == 3 and "sequences" in text


SCALING_LAW = ROOT/"nbs"/"experiments"/"scaling_law.ipynb"


def test_scaling_law_smoke(tmp_path):
    """The statistics equal those of all strings: correlations to 1e-12, entropies within five standard errors
    (a false alarm in 10^5 runs)."""
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=SCALING_LAW)
    assert done.returncode == 0, done.stderr[-3000:]
    tables = (pd.read_csv(tmp_path/"results"/f"{x}.csv") for x in ("each", "entropies", "correlations"))
    each, found, told = (x.set_index(["v", "m", "s", "L"]).sort_index() for x in tables)
    assert len(each) == 2 * (2 * 2 + 1) and (each.gap > 0).all()
    for shape in ((4, 2, 2, 2), (5, 2, 2, 2)):
        grammar = HierarchicalGrammar.random(*shape, seed=spawn(0, "grammar", *shape, 1))
        *levels, leaves = (torch.cat(x) for x in zip(*grammar.enumerate()))
        p = grammar.log_joint([*levels, leaves]).exp()
        joint = torch.zeros(4, shape[0], shape[0], dtype=p.dtype)  # of the last token and each other
        for i in range(3): joint[i].index_put_((leaves[:, i], leaves[:, 3]), p, accumulate=True)
        apart = joint[:3] - joint[:3].sum(2, keepdim=True) * joint[:3].sum(1, keepdim=True)
        rms = [apart[2].pow(2).mean().sqrt(), apart[:2].pow(2).mean().sqrt()]
        pair = torch.zeros(shape[0], shape[0], dtype=p.dtype)  # of the last token and the symbol beside
        pair.index_put_((levels[1][:, 0], leaves[:, 3]), p, accumulate=True)
        known = [rms[0], (pair - pair.sum(1, keepdim=True) * pair.sum(0)).pow(2).mean().sqrt()]
        own = told.loc[shape].query("number == 1").sort_values("level")
        assert np.allclose(own[["tokens", "symbols"]].T, [rms, known], rtol=0, atol=1e-12)
        exact = [conditional_entropy(leaves[:, 4 - 2**h:], p) for h in range(3)]
        own = found.loc[shape].query("number == 1").sort_values("h")
        excess = np.array(exact) - exact[-1]
        assert (abs(own.excess.to_numpy() - excess) <= 5 * own.se.to_numpy() + 1e-12).all()
    text = shown(tmp_path, SCALING_LAW)
    assert text.count("image/png") == 3 and "second level" in text


def conditional_entropy(strings, p):
    "The entropy of the last token given those before it, of (strings, tokens) with probabilities."
    def entropy(rows):
        if not rows.shape[1]: return 0.
        _, of = torch.unique(rows, dim=0, return_inverse=True)
        q = torch.zeros(int(of.max()) + 1, dtype=p.dtype).index_add_(0, of, p)
        return -torch.special.xlogy(q, q).sum().item()
    return entropy(strings) - entropy(strings[:, :-1])


LEARNED_TRANSITION = ROOT/"nbs"/"experiments"/"learned_transition.ipynb"


def test_learned_transition_smoke(tmp_path):
    "The last rung is the exact denoiser; the page is shown from the tables."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=LEARNED_TRANSITION)
    assert done.returncode == 0, done.stderr[-3000:]
    gaps = pd.read_csv(tmp_path/"results"/"gaps.csv")
    assert (gaps[(gaps.who == "rung") & (gaps["at"] == gaps.L)].gap < 1e-12).all()
    assert (gaps[gaps.who == "network"].gap > 0).all()
    classes = pd.read_csv(tmp_path/"results"/"classes.csv")
    exact = classes[(classes.who == "rung") & (classes["at"] == classes.L)]
    assert (exact.grammatical == 1).all()
    text = shown(tmp_path, LEARNED_TRANSITION)
    assert text.count("image/png") == 3 and "exact denoiser" in text


LEARNING_CURVES = ROOT/"nbs"/"experiments"/"learning_curves.ipynb"


def test_learning_curves_smoke(tmp_path):
    "No denoiser has a lower loss than the exact one on fresh sequences, but by chance; the page is shown."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=LEARNING_CURVES)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = pd.read_csv(tmp_path/"results"/"losses.csv")
    by = losses.set_index(["experiment", "smoothing", "leaves", "who"]).loss.unstack()
    assert (by.exact < by.network).all() and (by.exact < by.smoothed + 1e-9).all()
    assert (by.memory < by.exact)[:, :, "training"].all()
    ends = pd.read_csv(tmp_path/"results"/"ends.csv")
    assert (ends[ends.smoothing == 0].smoothed.abs() < 1e-6).all() and (ends.gap > 0).all()
    text = shown(tmp_path, LEARNING_CURVES)
    assert text.count("image/png") == 2 and "held-out" in text


DEPTH = ROOT/"nbs"/"experiments"/"depth.ipynb"


def test_depth_smoke(tmp_path):
    "A row for each network and look; the page is shown from the tables."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=DEPTH)
    assert done.returncode == 0, done.stderr[-3000:]
    course = pd.read_csv(tmp_path/"results"/"course.csv")
    networks = [(2, 8), (3, 8), (2, 16)]  # of depth and width
    assert list(zip(course.L, course.dim, course.step)) == [(*x, step) for x in networks for step in (10, 20)]
    assert (course.gap > 0).all()
    assert len(pd.read_csv(tmp_path/"results"/"rungs.csv")) == 2 + 3
    text = shown(tmp_path, DEPTH)
    assert text.count("image/png") == 3 and "budget" in text


UNIVERSALITY = ROOT/"nbs"/"experiments"/"universality.ipynb"


def test_universality_smoke(tmp_path):
    "Without noise the class is certain but for ambiguous grammars; doubts and hints are small."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=UNIVERSALITY)
    assert done.returncode == 0, done.stderr[-3000:]
    curves = pd.read_csv(tmp_path/"results"/"curves.csv")
    clean = curves[curves.t == 0]
    sure = ~clean.kind.str.startswith("ambiguous")
    assert (clean["mean"][sure] > 1 - 1e-12).all() and (clean["mean"][~sure] < 1).all()
    ends = pd.read_csv(tmp_path/"results"/"ends.csv")
    assert ends.doubt.between(0, 0.01).all() and ends.hint.between(0, 0.01).all()
    text = shown(tmp_path, UNIVERSALITY)
    assert text.count("image/png") == 2 and "kinds of grammar" in text


RULES = ROOT/"nbs"/"experiments"/"rules.ipynb"


def test_rules_smoke(tmp_path):
    "What is written under a head is grammatical as far as the head knows; the page is shown from the tables."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=RULES)
    assert done.returncode == 0, done.stderr[-3000:]
    mass = pd.read_csv(tmp_path/"results"/"mass.csv")
    assert set(zip(mass.kind, mass.v, mass.step)) == {
        (kind, v, step) for kind in ("unet", "transformer") for v in (4, 5) for step in (2, 6)}
    assert mass.mass.between(0, 1).all()
    heads = pd.read_csv(tmp_path/"results"/"heads.csv")
    assert (heads[heads.put_on == "grammar"].valid == 1).all()
    sibling = heads[(heads.put_on == "sibling") | (heads.trained == "sibling")]
    assert (sibling[sibling.level == 1].valid == 1).all()
    text = shown(tmp_path, RULES)
    assert text.count("image/png") == 4 and "grammatical" in text


@pytest.mark.parametrize("notebook, arguments, message", [
    (SAMPLE_COMPLEXITY, ("-p", "compared", "[5, 2, 2]"),
     "compared=[5, 2, 2] must be one of shapes=[[4, 2, 2], [4, 3, 2]]"),
    (SAMPLE_COMPLEXITY, ("-p", "shapes", "[[4, 2]]"),
     "shapes: [4, 2] must be a list of three numbers, [v, m, L]"),
    (SAMPLE_COMPLEXITY, ("-p", "powers", "[5]"),
     "powers=[5]: no set fits [v, m, L] = [4, 2, 2], which has 32 strings"),
    (LEARNED_TRANSITION, ("-p", "noises", "[belief]"),
     "noises='belief' is not one of masking, uniform, gaussian"),
    (LEARNED_TRANSITION, ("-p", "times", "[0.5, 0.1, 0.9]"), "must be three levels at least, increasing"),
    (LEARNED_TRANSITION, ("-p", "at", "[20, 2]"), "at=[20, 2] must increase"),
    (LEARNING_CURVES, ("-p", "steps", "[20]"),
     "steps=[20] must have an entry for each of experiments=['small', 'memorization']"),
    (LEARNING_CURVES, ("-p", "experiments", "[small, tiny]"),
     "experiments='tiny' is not one of small, memorization, generalization"),
    (LEARNING_CURVES, ("-p", "smoothings", "[[1.5], [0.1]]"), "smoothings=1.5 must be"),
    (DEPTH, ("-p", "varied", "[2, 4]"), "varied=[2, 4] must be [m, L], of productions=[2] and depths=[2, 3]"),
    (DEPTH, ("-p", "steps", "10"), "steps=10 must be an integer"),
    (DEPTH, ("-p", "networks", "3"), "grammars=2 must be networks=3 at least"),
    (UNIVERSALITY, ("-p", "kinds", "[random, zipf]"), "kinds: 'zipf' must be zipf and a number"),
    (UNIVERSALITY, ("-p", "kinds", "[ragged]"), "must hold random"),
    (RULES, ("-p", "heads", "[sibling]"), "heads=['sibling'] must hold 'free'"),
    (RULES, ("-p", "kinds", "[cnn]"), "kinds='cnn' is not one of unet, transformer"),
    (RULES, ("-p", "dim", "10"), "dim=10 must be a multiple of 4"),
])
def test_networks_refused_before_any_work(tmp_path, notebook, arguments, message):
    done = papermill(tmp_path, "-p", "preset", "smoke", *arguments, notebook=notebook)
    assert done.returncode != 0 and message in done.stderr
    assert not (tmp_path/"results").exists()


@pytest.mark.parametrize("arguments, message", [
    (("-p", "networks", "[transformer, cnn]"),
     "networks='cnn' is not one of transformer, encoder_decoder, unet"),
    (("-p", "noises", "[belief]"), "noises='belief' is not one of masking, uniform, gaussian"),
    (("-p", "dims", "[18]"), "dims=18 must be a multiple of 4"),
    (("-p", "long_L", "2"), "long_L=2 must be greater than L=2"),
    (("-p", "networks", "[transformer]"),
     "shuffled=1 needs 'unet' among networks=['transformer'], or must be 0"),
    (("-p", "seeds", "[1, 2, 3]"),
     "seeds=[1, 2, 3] must be one number, or one for each of noises=['masking', 'gaussian']"),
    (("-p", "sees", "2"), "parameter='sees' is not one of"),
])
def test_denoisers_refused_before_any_work(tmp_path, arguments, message):
    done = papermill(tmp_path, "-p", "preset", "smoke", *arguments, notebook=DENOISERS)
    assert done.returncode != 0 and f"ValueError: {message}" in done.stderr
    assert not (tmp_path/"results").exists()


def test_the_reference_run_meets_its_target():
    "The committed reference: 0.01 nats a masked token for the transformer, from five seeds; none missing."
    kept = ROOT/"book"/"reference"/"denoisers"
    table = pd.read_csv(kept/"each.csv").query("L == 3 and network != 'shuffled'")
    gaps = table.groupby(["network", "noise"]).gap.mean()
    record = json.loads((kept/"run.json").read_text())
    assert record["parameters"]["seeds"] == [5, 3, 3] and record["parameters"]["noises"][0] == "masking"
    assert [record["parameters"][k] for k in ("v", "m", "s", "L")] == [8, 2, 2, 3]
    assert gaps["transformer", "masking"] <= 0.01 and len(gaps) == 9


SAMPLERS = ROOT/"nbs"/"experiments"/"samplers.ipynb"


def test_samplers_smoke_and_resumption(tmp_path):
    """Everything is left; a second run finds its parts and gives the same tables."""
    tables, names = [], ("agreements", "last", "learned", "masses", "validity", "ways")
    for _ in range(2):
        done = papermill(tmp_path, "-p", "preset", "smoke", notebook=SAMPLERS)
        assert done.returncode == 0, done.stderr[-3000:]
        results = tmp_path/"results"
        assert names_in(results) == sorted(["parts", "run.json", *(f"{name}.csv" for name in names)])
        tables.append([(results/f"{name}.csv").read_bytes() for name in names])
    assert tables[0] == tables[1]
    valid = pd.read_csv(results/"validity.csv").set_index(["noise", "sampler", "steps", "level"]).valid
    assert valid["masking", "unmask", 8].eq(1).all() and valid["masking", "unmask", 2, 0] < 1
    assert valid.xs(3, level="level").eq(1).all()
    record = json.loads((results/"run.json").read_text(encoding="utf-8"))
    assert len(record["parts"]) == 2 * 2 * 4 + 2 * 2  # validity and agreements, noises × samplers; noises


@pytest.mark.parametrize("arguments, message", [
    (("-p", "noises", "[belief]"), "noises='belief' is not one of masking, uniform, gaussian"),
    (("-p", "steps", "[4, 2]"), "steps=[4, 2] must increase"),
    (("-p", "learned", "[2]"), "learned=[2] must be two numbers, m and L"),
    (("-p", "level", "1.5"), "level=1.5 must be a number between 0.0 and 1.0"),
])
def test_samplers_refused_before_any_work(tmp_path, arguments, message):
    done = papermill(tmp_path, "-p", "preset", "smoke", *arguments, notebook=SAMPLERS)
    assert done.returncode != 0 and f"ValueError: {message}" in done.stderr
    assert not (tmp_path/"results").exists()


def test_the_reference_run_of_the_samplers_is_grammatical():
    "The committed reference: some sampler of the exact denoiser is 99 % grammatical, for each noise."
    table = pd.read_csv(ROOT/"book"/"reference"/"samplers"/"validity.csv")
    at_most = table.query("level == 0 and steps == steps.max()").groupby("noise").valid.max()
    assert set(at_most.index) == {"masking", "uniform", "gaussian"} and (at_most >= 0.99).all()


PREDICTIONS = ROOT/"nbs"/"experiments"/"predictions.ipynb"


def shown(folder, notebook) -> str:
    "All outputs of a notebook that shows `folder`/results and measures nothing."
    before = names_in(folder/"results"/"parts")
    done = papermill(folder, "-p", "show", "results", "-p", "output", "elsewhere", notebook=notebook)
    assert done.returncode == 0, done.stderr[-3000:]
    assert names_in(folder/"results"/"parts") == before and not (folder/"elsewhere").exists()
    cells = nbformat.read(folder/"out.ipynb", 4).cells
    return " ".join(str(o.get("data", {})) for c in cells for o in c.get("outputs", []))


def test_predictions_smoke(tmp_path):
    "Shapes × noises are the parts; with families there are more, and those of the shapes are read."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=PREDICTIONS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert names_in(tmp_path/"results") == ["half_levels.csv", "parts", "points.csv", "run.json"]
    table = pd.read_csv(tmp_path/"results"/"half_levels.csv")
    assert len(table) == 4 and table.predicted.between(0, 1).all()
    text = shown(tmp_path, PREDICTIONS)
    assert "half-levels of random ensembles" in text and text.count("image/png") == 1
    first = json.loads((tmp_path/"results"/"run.json").read_text(encoding="utf-8"))["parts"]
    done = papermill(tmp_path, "-p", "preset", "smoke", "-p", "noises", "belief", "-p", "family_trees", "20",
                     notebook=PREDICTIONS)
    assert done.returncode == 0, done.stderr[-3000:]
    parts = json.loads((tmp_path/"results"/"run.json").read_text(encoding="utf-8"))["parts"]
    assert [(x["key"], x["when"]) for x in parts[:2]] == [(x["key"], x["when"]) for x in first[::2]]
    families = pd.read_csv(tmp_path/"results"/"families.csv")
    assert len(parts) == 2 + len(families) and len(families) == 3 * 2  # families × grammars
    again = pd.read_csv(tmp_path/"results"/"half_levels.csv")
    pd.testing.assert_frame_equal(again, table[table.noise == "belief"].reset_index(drop=True))


@pytest.mark.parametrize("arguments, message", [
    (("-y", "shapes: [[4, 2, 2]]"), "shapes[0]=[4, 2, 2] must be four numbers, v, m, s and L"),
    (("-y", "shapes: [[2, 3, 2, 2]]"), "m=3 productions for each of v=2 symbols"),
    (("-p", "noises", "[pink]"), "noises='pink' is not one of belief, masking, uniform, gaussian"),
    (("-y", "sizes: [256]"), "sizes has 1 numbers for 2 shapes"),
])
def test_predictions_refused_before_any_work(tmp_path, arguments, message):
    done = papermill(tmp_path, "-p", "preset", "smoke", *arguments, notebook=PREDICTIONS)
    assert done.returncode != 0 and f"ValueError: {message}" in done.stderr
    assert not (tmp_path/"results").exists()


SUSCEPTIBILITY = ROOT/"nbs"/"experiments"/"susceptibility.ipynb"


def test_susceptibility_smoke(tmp_path):
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=SUSCEPTIBILITY)
    assert done.returncode == 0, done.stderr[-3000:]
    names = ["changes.csv", "classes.csv", "decays.csv", "parts", "run.json", "thresholds.csv", "widths.csv"]
    assert names_in(tmp_path/"results") == names
    table = pd.read_csv(tmp_path/"results"/"changes.csv")
    assert len(table) == 22 * 3 and (table.alone >= 0).all()  # a part is a noise level, of three groups
    record = json.loads((tmp_path/"results"/"run.json").read_text(encoding="utf-8"))
    rows = [part["rows"]["changes"] for part in record["parts"] if "changes" in part["rows"]]
    assert rows == [[3 * k, 3 * k + 3] for k in range(22)]
    text = shown(tmp_path, SUSCEPTIBILITY)
    assert "At the critical noise tokens change in blocks" in text and text.count("image/png") == 3


@pytest.mark.parametrize("arguments, message", [
    (("-y", "shapes: [[8, 6, 2]]"),
     "shapes[0]=[8, 6, 2] is fragile; a shape of the critical phase is needed"),
    (("-p", "trajectories", "1"), "trajectories=1 must be an integer at least 2"),
    (("-y", "deeper: [5]"), "deeper=5 must be an integer between 1 and 4"),
    (("-y", "published: [8, 2]"), "published=[8, 2] must be four numbers, v, m, s and L"),
])
def test_susceptibility_refused_before_any_work(tmp_path, arguments, message):
    done = papermill(tmp_path, "-p", "preset", "smoke", *arguments, notebook=SUSCEPTIBILITY)
    assert done.returncode != 0 and f"ValueError: {message}" in done.stderr
    assert not (tmp_path/"results").exists()


def test_the_reference_run_of_the_predictions_meets_its_target():
    """The committed reference: shapes of all phases under four noises, errors of 0.005 at most.

    95 % of the differences are within 0.01."""
    table = pd.read_csv(ROOT/"book"/"reference"/"predictions"/"half_levels.csv")
    assert len(table) == 68 and set(table.phase) == {"critical", "fragile", "robust"}
    assert table[["measured_se", "predicted_se"]].max().max() <= 0.005
    assert (table.difference.abs() <= 0.01).mean() >= 0.95
    few = table.law.str.startswith("(3, 2, 3)")  # rules that nodes share show there
    rest = table[~few]
    assert (rest.difference.abs() < 4 * rest.difference_se + 1e-3).all()
    assert (table[few].difference < -3 * table[few].difference_se).all() and few.sum() == 4


def test_exponents_smoke(tmp_path):
    "A part is a noise and a depth. Fits and crossings are made of the curves when they are shown."
    notebook = ROOT/"nbs"/"experiments"/"exponents.ipynb"
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=notebook)
    assert done.returncode == 0, done.stderr[-3000:]
    assert names_in(tmp_path/"results") == ["curves.csv", "parts", "run.json"]
    table = pd.read_csv(tmp_path/"results"/"curves.csv")
    assert (table.groupby(["depth", "side"]).size() == 7).all() and set(table.depth) == {2, 3, 4, 5}
    record = json.loads((tmp_path/"results"/"run.json").read_text(encoding="utf-8"))
    assert [part["rows"]["curves"] for part in record["parts"]] == [[0, 14], [14, 28], [28, 42], [42, 56]]
    text = shown(tmp_path, notebook)
    assert "Each further level divides the width" in text and text.count("image/png") == 3


def test_the_reference_run_of_the_noise_classes_meets_its_target():
    "The committed reference: critical noises to 0.0015 at most, from both sides; likelihoods share one mass."
    folder = ROOT/"book"/"reference"/"noise_classes"
    brackets = pd.read_csv(folder/"brackets.csv")
    middle = (brackets.rises + brackets.falls) / 2
    assert (brackets.falls - brackets.rises).max() < 0.0016
    assert set(brackets.noise) == {"belief", "masking", "uniform", "gaussian"}
    assert middle.groupby(brackets.noise).sem().max() < 0.0015
    held = pd.read_csv(folder/"held.csv").query("v == 16 and level > 30")
    mass = held.groupby(["noise", "number"]).mass.mean().groupby("noise").mean()
    assert mass[["masking", "uniform", "gaussian", "mixed 0.5"]].sub(0.4005).abs().max() < 0.001
    assert abs(mass["belief"] - 0.288) < 0.001


def test_the_reference_run_of_the_exponents_meets_its_target():
    "The committed reference: eight depths of four noises, both sides; those of the data have small errors."
    table = pd.read_csv(ROOT/"book"/"reference"/"exponents"/"curves.csv")
    assert len(table) == 4 * 8 * 11 * 2 and table.se[table.side == "data"].max() <= 0.01


@pytest.mark.parametrize("name, tables, rows, parts, finding", [
    ("phases", ["depths", "diagram", "points", "single_grammars"], 6, 3 + 3 + 2 + 1,
     "points of the phase diagram"),
    ("speciation", ["collapses", "critical", "curvature", "levels", "long", "times"], 4, 4 + 2 + 2 + 2 * 2,
     "collapses onto one sequence"),
])
def test_phases_and_speciation_smoke(tmp_path, name, tables, rows, parts, finding):
    notebook = ROOT/"nbs"/"experiments"/f"{name}.ipynb"
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=notebook)
    assert done.returncode == 0, done.stderr[-3000:]
    assert names_in(tmp_path/"results") == sorted([*(f"{x}.csv" for x in tables), "parts", "run.json"])
    assert len(pd.read_csv(tmp_path/"results"/f"{tables[0]}.csv")) == rows
    record = json.loads((tmp_path/"results"/"run.json").read_text(encoding="utf-8"))
    assert len(record["parts"]) == parts
    text = shown(tmp_path, notebook)
    assert finding in text and text.count("image/png") == (5 if name == "speciation" else 2)


@pytest.mark.parametrize("name, arguments, message", [
    ("phases", ("-y", "depths: [[2, 3]]"), "depths has 1 lists for 2 shapes"),
    ("exponents", ("-y", "shape: [8, 6, 2]"),
     "shape=[8, 6, 2] is fragile; a shape of the critical phase is needed"),
    ("speciation", ("-y", "sizes: [10, 1000000]"),
     "sizes: log 1000000 is not below the entropy of (4, 2, 2), L = 3"),
    ("speciation", ("-y", "alphas: [0.3, 2.0]"), "alphas[1]=2.0 must be a number between"),
    ("speciation", ("-y", "families: [[4, 2, 2, 3, 2]]"),
     "families[0]=[4, 2, 2, 3, 2]: depths must not fall"),
])
def test_phases_exponents_and_speciation_refused_before_any_work(tmp_path, name, arguments, message):
    notebook = ROOT/"nbs"/"experiments"/f"{name}.ipynb"
    done = papermill(tmp_path, "-p", "preset", "smoke", *arguments, notebook=notebook)
    assert done.returncode != 0 and f"ValueError: {message}" in done.stderr
    assert not (tmp_path/"results").exists()


TEMPLATE = ROOT/"rhmdiff"/"templates"/"experiment.ipynb"  # what `rhm new` begins with
TESTED_ABOVE = {
    "phase_transition", "denoisers", "memorization", "sample_complexity", "learned_transition",
    "learning_curves", "depth", "universality", "rules", "samplers", "predictions", "susceptibility",
    "exponents", "phases", "speciation"}
OTHERS = [x for x in runs.experiments().values() if x.name not in TESTED_ABOVE and not x.parameters]


def test_what_is_tested_above_is_there(): assert TESTED_ABOVE <= set(runs.experiments())


@pytest.mark.parametrize("x", [*runs.read_experiment(TEMPLATE), *OTHERS], ids=lambda x: x.name)
def test_smoke_of_an_experiment_that_has_no_test_of_its_own(tmp_path, x):
    "It leaves tables, some parts made again are the same, and the page is shown from the tables."
    done = papermill(tmp_path, "-p", "preset", "smoke", notebook=x.notebook)
    assert done.returncode == 0, done.stderr[-3000:]
    results = runs.read_results(tmp_path/"results")
    assert results.tables and all(len(table.columns) for table in results.tables.values())
    assert results.record["code"] == x.code()
    assert runs.recompute(x, results.folder, seconds=3.).agrees.all()
    text = shown(tmp_path, x.notebook)
    assert "Results of the preset `smoke`" in text and "older than their code" not in text
    assert "image/png" in text
