"""What `import rhmdiff as rhm` offers, what is said where an extra is missing, and the one version."""
import ast
import configparser
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rhmdiff

SOURCE = Path(rhmdiff.__file__).read_text(encoding="utf-8")


def imported_for_readers() -> dict[str, str]:
    "Name and module of the imports that type checkers and editors see."
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    return {name.name: line.module for line in block.body for name in line.names}


@pytest.mark.parametrize("name", rhmdiff.__all__)
def test_a_name_is_that_of_its_module(name):
    module = imported_for_readers()[name]
    assert getattr(rhmdiff, name) is getattr(importlib.import_module(f"rhmdiff.{module}"), name)
    assert name in importlib.import_module(f"rhmdiff.{module}").__all__ and name in dir(rhmdiff)


def test_editors_see_the_same_names(): assert sorted(imported_for_readers()) == rhmdiff.__all__


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="'rhmdiff' has no attribute 'posteriors'"): rhmdiff.posteriors
    with pytest.raises(ImportError): exec("from rhmdiff import posteriors")


def test_nothing_is_loaded_before_it_is_used():
    code = "import sys, rhmdiff; before = 'torch' in sys.modules; rhmdiff.posterior; print(before)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "False"


# Extras. What they bring is made to be missing, and every module is imported

BROUGHT = ["numba", "papermill", "nbclient", "nbformat", "jupyter_client", "ipykernel", "IPython", "click",
           "yaml", "dask", "distributed", "submitit", "jupyter_book", "nbdev", "execnb", "fastcore", "nltk"]

MISSING = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in missing: raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def without(missing: list[str], code: str, *arguments) -> subprocess.CompletedProcess:
    "A run of `code` by a Python in which some modules cannot be found."
    made = f"missing = {missing!r}{MISSING}{code}"
    return subprocess.run([sys.executable, "-c", made, *map(str, arguments)], capture_output=True, text=True)


LIBRARY = """
import importlib, json, pkgutil
import rhmdiff as rhm
for module in pkgutil.walk_packages(rhm.__path__, "rhmdiff."):
    if module.name != "rhmdiff.cli": importlib.import_module(module.name)
for name in rhm.__all__: getattr(rhm, name)
grammar = rhm.HierarchicalGrammar.random(v=4, m=2, s=2, L=2, seed=0)
noise = rhm.MaskingProcess(v=4)
x = grammar.sample(3, seed=0)[-1]
beliefs = rhm.posterior(grammar, noise.log_evidence(noise.sample(x, 0.5, seed=0), 0.5))
assert all((p.sum(-1) - 1).abs().max() < 1e-6 for p in beliefs.levels)

from pathlib import Path
from rhmdiff import families, runs
from rhmdiff.engine import notebooks
experiment, plain, folder = map(Path, sys.argv[1:])
calls = {
    "to_nltk": lambda: families.to_nltk(grammar),
    "from_nltk": lambda: families.from_nltk(None),
    "run": lambda: runs.run(experiment, {"preset": "smoke"}, folder/"out.ipynb"),
    "execute": lambda: notebooks.execute(plain, {}, folder/"out.ipynb"),
    "plan": lambda: runs.plan(plain, {"k": [1, 2]}, folder),
    "read_grid": lambda: runs.read_grid("grid.yaml"),
    "sweep": lambda: runs.sweep(experiment, {"preset": ["smoke"], "seed": [1, 2]}, folder, workers=2),
    "submit": lambda: runs.submit(folder),
    "cli": lambda: importlib.import_module("rhmdiff.cli"),
}
said = {}
for name, call in calls.items():
    try: call()
    except ModuleNotFoundError as e: said[name] = str(e)
print(json.dumps(said))
"""


@pytest.fixture
def plain(tmp_path) -> Path:
    "A notebook that is no experiment."
    cell = {"cell_type": "code", "id": "a", "execution_count": None, "outputs": [],
            "metadata": {"tags": ["parameters"]}, "source": "k: int = 1"}
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    nb = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell]}
    file = tmp_path/"plain.ipynb"
    file.write_text(json.dumps(nb), encoding="utf-8")
    return file


def test_the_library_needs_no_extra_and_what_does_names_it(root, plain, tmp_path):
    experiment = root/"nbs"/"experiments"/"universality.ipynb"
    done = without(BROUGHT, LIBRARY, experiment, plain, tmp_path/"s")
    assert done.returncode == 0, done.stderr
    names = {
        "to_nltk": ("nltk", "nltk"), "from_nltk": ("nltk", "nltk"),
        "run": ("papermill", "rhmdiff[run]"), "execute": ("nbclient", "rhmdiff[run]"),
        "plan": ("papermill", "rhmdiff[run]"), "read_grid": ("yaml", "rhmdiff[run]"),
        "sweep": ("distributed", "rhmdiff[run]"), "submit": ("submitit", "rhmdiff[slurm]"),
        "cli": ("click", "rhmdiff[run]")}
    told = {x: f'No module named {module!r}: pip install "{brings}"' for x, (module, brings) in names.items()}
    assert json.loads(done.stdout) == told


@pytest.mark.parametrize("missing", ["click", "papermill"])
def test_the_command_says_in_one_line_what_to_install(missing, plain, tmp_path):
    pytest.importorskip("click")
    code = "import runpy; runpy.run_module('rhmdiff', run_name='__main__')"
    done = without([missing], code, "run", plain, "--out", tmp_path/"out.ipynb")
    assert done.stderr == f"""rhm: No module named '{missing}': pip install "rhmdiff[run]"\n"""
    assert done.returncode == 1 and not (tmp_path/"out.ipynb").exists()


def test_every_extra_is_blocked_in_these_tests(root):
    "A package that a module imports, and that no dependency of the library names, is one of BROUGHT."
    project = tomllib.loads((root/"pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {re.match(r"[\w.-]+", x)[0] for x in project["dependencies"]}
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (root/"rhmdiff").rglob("*.py")]
    lines = [node for tree in trees for node in ast.walk(tree)]
    imported = {a.name for node in lines if isinstance(node, ast.Import) for a in node.names}
    imported |= {node.module for node in lines if isinstance(node, ast.ImportFrom) and not node.level}
    others = {name.split(".")[0] for name in imported} - core - sys.stdlib_module_names - {"rhmdiff"}
    assert others <= {*BROUGHT, "jupyter_core"}


# The version, and what else stands in several files

@pytest.fixture
def settings(root) -> configparser.SectionProxy:
    "What nbdev reads."
    read = configparser.ConfigParser(interpolation=None)
    read.read(root/"settings.ini", encoding="utf-8")
    return read["DEFAULT"]


def test_there_is_one_version(root, settings):
    "The changelog has a section of it, the newest; what has changed since then stands above it."
    cited = re.search(r"^version: (.+)$", (root/"CITATION.cff").read_text(encoding="utf-8"), re.M)[1]
    sections = re.findall(r"^## (.+)$", (root/"CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    newest = next(x for x in sections if x != "Unreleased").split()[0]
    assert re.fullmatch(r"\d+\.\d+\.\d+", rhmdiff.__version__)
    assert [cited, settings["version"], newest] == [rhmdiff.__version__] * 3
    assert "Unreleased" not in sections[1:]


def test_nbdev_and_pip_are_told_the_same(root, settings):
    project = tomllib.loads((root/"pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert settings["description"] == project["description"]
    assert settings["keywords"].split() == project["keywords"]
    assert f">={settings['min_python']}" == project["requires-python"]
    assert settings["license"].upper() == project["license"]
    assert f"Intended Audience :: {settings['audience']}" in project["classifiers"]
    assert f"Development Status :: {settings['status']} - Alpha" in project["classifiers"]


def test_every_python_of_the_workflow_is_named(root):
    yaml = pytest.importorskip("yaml")
    project = tomllib.loads((root/"pyproject.toml").read_text(encoding="utf-8"))["project"]
    workflow = yaml.safe_load((root/".github"/"workflows"/"test.yml").read_text(encoding="utf-8"))
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = [x.split(" :: ")[-1] for x in project["classifiers"] if re.search(r":: 3\.\d+$", x)]
    assert tested == named and f">={tested[0]}" == project["requires-python"]
