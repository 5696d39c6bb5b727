"""Shared by all tests: one thread a process (the core rule), and the book they look at."""
import importlib.util
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def root() -> Path:
    "The top of the repository."
    return ROOT


def loaded(name: str):
    "The module book/`name`.py."
    spec = importlib.util.spec_from_file_location(name, ROOT/"book"/f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build():
    "The module that builds the book."
    return loaded("build")


@pytest.fixture(scope="session")
def pdf():
    "The module that prints it."
    return loaded("pdf")


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """The HTML of a book: that of RHMDIFF_BOOK, else one built here.

    It has every page. Experiments show their reference results, or run the smoke preset where there are none;
    library pages are not executed. Warnings are errors."""
    if given := os.environ.get("RHMDIFF_BOOK"): return Path(given).resolve()
    to = tmp_path_factory.mktemp("book")
    command = [sys.executable, ROOT/"book"/"build.py", "--preset", "smoke", "--plain", "--to", to]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return to/"_build"/"html"


@pytest.fixture(scope="module")
def chromium() -> Path:
    "Chromium; where there is none the test skips, or fails if RHMDIFF_REQUIRE_BROWSER is set."
    if CHROMIUM.exists(): return CHROMIUM
    reason = f"no {CHROMIUM}: on Debian, apt-get install chromium fonts-dejavu-core fonts-liberation"
    if os.environ.get("RHMDIFF_REQUIRE_BROWSER"): pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser(chromium):
    "A headless Chromium."
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        yield running
        running.close()
