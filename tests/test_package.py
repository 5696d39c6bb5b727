"""What `import rhmdiff as rhm` offers: names of the modules, loaded when they are first used."""
import ast
import importlib
import subprocess
import sys
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
