"""The notebooks of the library, run so that coverage sees the lines of modules: part of `make coverage`.

A notebook runs its own definitions, not those of the module that is exported from it. Here the code of an
exported cell is compiled under the name of the module and at its lines there, so that the tests beside a
definition count for it.
"""
import linecache
import re
import sys
from pathlib import Path

from IPython.core.compilerop import CachingCompiler
from IPython.core.inputtransformer2 import TransformerManager
from nbdev.test import nbdev_test

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^# %% .*\.ipynb #\w+\n", re.M)  # what nbdev_export writes above the code of a cell


def plain(code: str) -> str:
    "Code without what an export changes: directives, white space around it, how the library is imported."
    code = "\n".join(line for line in code.splitlines() if not line.startswith("#|")).strip()
    return re.sub(r"^from (?:rhmdiff)?\.*(?:engine\b)?\.?", "from .", code, flags=re.M)


def places() -> dict[str, tuple[str, int]]:
    "The file and the number of lines above it, of the code of every exported cell."
    found = {}
    for file in sorted((ROOT/"rhmdiff").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        marks = list(MARK.finditer(text))
        for mark, after in zip(marks, [*marks[1:], None]):
            code = text[mark.end():after.start() if after else None]
            found[plain(code)] = str(file), text[:mark.end()].count("\n")
    return found


PLACES = places()
transform = TransformerManager.transform_cell
name_of = CachingCompiler.get_code_name
keep = CachingCompiler.cache


def transformed(self, cell: str) -> str:
    "The code of a cell, below as many lines as stand above it in its module."
    return "\n" * PLACES.get(plain(cell), ("", 0))[1] + transform(self, cell)


def named(self, raw_code: str, transformed_code: str, number: int) -> str:
    "The file of the module that a cell is exported to, else a name of its own."
    if plain(raw_code) in PLACES: return PLACES[plain(raw_code)][0]
    return name_of(self, raw_code, transformed_code, number)


def cached(self, *arguments, **more) -> str:
    "The name of a cell; of a module the lines are those of its file."
    name = keep(self, *arguments, **more)
    if name.startswith(str(ROOT)): linecache.cache.pop(name, None)
    return name


TransformerManager.transform_cell = transformed
CachingCompiler.get_code_name = named
CachingCompiler.cache = cached

if __name__ == "__main__":
    nbdev_test(path=next(iter(sys.argv[1:]), None), skip_folder_re="^([_.]|experiments)", n_workers=2)
