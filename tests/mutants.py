"""Mutants of the exact modules: a small change in a line, which a test should notice. Run by `make mutants`.

Cosmic Ray makes them in a copy of the library and runs tests on each, up to the first that fails. Here a
seeded sample is drawn: places in a module, and one mutant at each. The mutants that no test noticed are
printed. Cosmic Ray and this file run in an environment of their own, the tests in .venv.
"""
import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT/"runs"/"mutants"
TREE = FOLDER/"tree"  # what is mutated
SECONDS = 120  # that the tests of a mutant may take

TESTS = {"engine/passes": "inference", "inference": "inference", "grammar": "grammar",
         "diffusion": "diffusion"}  # module -> file of tests
SLOW = ("without_numba", "too_long", "class_transition", "deep_and", "unique_follows", "more_derivations",
        "nltk_agrees", "device")  # left out
REFUSALS = "tests/test_refusals_exact.py::test_every_bad_argument_is_refused_by_name"
KINDS = [{"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}, {"BitAnd", "BitOr"}, {"Is", "IsNot"},
         {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"}]


def command(module: str) -> str:
    "The tests of a module, up to the first that fails."
    refusals = "" if module == "engine/passes" else f"{REFUSALS}[{module}]"
    return (f"{ROOT}/.venv/bin/python -m pytest -x -q -p no:cacheprovider -k 'not ({' or '.join(SLOW)})' "
            f"-m 'not slow' tests/cells.py::test_cells[{module}] tests/test_{TESTS[module]}.py {refusals}")


def sensible(operator: str) -> bool:
    "Whether an operator is replaced by one of its kind: another ends in a TypeError."
    kind, *names = operator.removeprefix("core/").split("_")
    if kind not in ("ReplaceBinaryOperator", "ReplaceComparisonOperator"): return True
    return any(set(names) <= of_a_kind for of_a_kind in KINDS)


def said(module: Path) -> list[tuple]:
    "Spans (start, end) of what is said and computes nothing: messages, annotations, guards of memory."
    spans = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        nodes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        guards = called in ("check_memory", "_check_draws")
        if guards or isinstance(node, ast.Raise | ast.JoinedStr): nodes.append(node)
        spans += [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n]
    return spans


def draw(session: Path, module: Path, each: int, seed: int) -> None:
    "Leave at most `each` mutants of a session to be run, no two at one place."
    spans = said(module)
    places = defaultdict(list)
    with use_db(session) as db:
        for item in db.pending_work_items:
            m, = item.mutations
            start = tuple(m.start_pos)
            if not sensible(m.operator_name) or any(a <= start < b for a, b in spans): continue
            kind = m.operator_name.split("_")[0]
            places[start, kind].append((m.operator_name, m.occurrence, item.job_id))
        rng = random.Random(seed)
        drawn = rng.sample(sorted(places), min(each, len(places)))
        kept = {rng.choice(sorted(places[place]))[-1] for place in drawn}
        for item in list(db.pending_work_items):
            if item.job_id in kept: continue
            db.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    print(f"{module.relative_to(TREE)}: {len(kept)} of {len(places)} places", flush=True)


def report(session: Path) -> None:
    "How many mutants were killed, and those that were not."
    seen = Counter()
    with use_db(session) as db:
        for item, result in db.completed_work_items:
            if result.worker_outcome == WorkerOutcome.SKIPPED: continue
            seen[result.test_outcome] += 1
            if result.test_outcome != TestOutcome.SURVIVED: continue
            m, = item.mutations
            print(f"survived: {m.module_path}, line {m.start_pos[0]}")
            changed = [line for line in result.diff.splitlines() if line[:1] in ("+", "-")]
            print("\n".join(changed[2:]))  # without the names of the files
    print(", ".join(f"{n} {outcome.value}" for outcome, n in sorted(seen.items())), flush=True)


def tried(module: str, each: int, seed: int) -> None:
    "Mutants of one module, drawn, run and reported."
    name = module.replace("/", ".")
    config = FOLDER/f"{name}.toml"
    session = FOLDER/f"{name}.sqlite"
    config.write_text(f'[cosmic-ray]\nmodule-path = "rhmdiff/{module}.py"\ntimeout = {SECONDS}\n'
                      f'excluded-modules = []\ntest-command = "{command(module)}"\n'
                      '[cosmic-ray.distributor]\nname = "local"\n', encoding="utf-8")
    settings = {"PYTHONPATH": str(TREE), "MPLBACKEND": "agg", "RHMDIFF_GRAMMARS": "24"}
    def cosmic_ray(step):
        run = [Path(sys.executable).with_name("cosmic-ray"), step, config, session]
        subprocess.run(run, cwd=TREE, env=os.environ | settings, check=True)
    cosmic_ray("init")
    draw(session, TREE/"rhmdiff"/f"{module}.py", each, seed)
    cosmic_ray("exec")
    report(session)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS), help=f"of {', '.join(TESTS)}; none: all")
    parser.add_argument("--each", type=int, default=60, help="mutants of a module")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shutil.rmtree(TREE, ignore_errors=True)
    for part in ("rhmdiff", "tests", "nbs"): shutil.copytree(ROOT/part, TREE/part)
    shutil.copy(ROOT/"pyproject.toml", TREE)
    for module in given.modules: tried(module, given.each, given.seed)
