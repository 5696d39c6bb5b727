"""The environment that `make` works in, .venv, with the versions of constraints.txt.

    python3 install.py [INDEX OF TORCH]

uv installs in ten seconds what takes pip eighty, but does not read pip's settings: a mirror, a folder of
wheels, a certificate. It is told of them here. Where uv cannot be had, has no name for a setting, or fails,
pip installs.
"""
import ast
import os
import subprocess
import sys
import time
from pathlib import Path

if sys.version_info < (3, 11): sys.exit("Python 3.11 or later is needed: make PYTHON=...")  # noqa: UP036

ROOT = Path(__file__).resolve().parent
BIN = ROOT/".venv"/"bin"
EXTRAS = ".[fast,run,book,pdf,dev]"

# What uv calls a setting of pip, and what it puts between several values.
NAMES = {"index-url": ("UV_DEFAULT_INDEX", " "), "extra-index-url": ("UV_INDEX", " "),
         "find-links": ("UV_FIND_LINKS", ","), "constraint": ("UV_CONSTRAINT", " "),
         "trusted-host": ("UV_INSECURE_HOST", " "), "cert": ("SSL_CERT_FILE", " "),
         "proxy": ("ALL_PROXY", " "),
         "timeout": ("UV_HTTP_TIMEOUT", " "), "default-timeout": ("UV_HTTP_TIMEOUT", " ")}
# Settings of pip that say nothing of what is installed.
IDLE = {"break-system-packages", "cache-dir", "config-file", "disable-pip-version-check", "no-cache-dir",
        "no-color", "no-input", "no-python-version-warning", "progress-bar", "quiet", "require-virtualenv",
        "retries", "root-user-action", "verbose"}

# What a book and its tests import: compiled here, because a kernel that starts should find it so. An
# optimiser of torch imports torch._dynamo, which takes longer than torch itself.
IMPORTED = ("rhmdiff.cli", "rhmdiff.runs", "torch._dynamo", "scipy.stats", "distributed",
            "papermill", "nbclient", "ipykernel.kernelapp", "ipykernel.debugger",
            "jupyter_book.cli.main", "sphinx.cmd.build", "sphinx_book_theme", "sphinx_design",
            "sphinxcontrib.bibtex", "sphinx_exercise", "myst_nb.sphinx_ext", "jupyter_cache", "bs4", "pypdf",
            "nbdev.test", "pytest", "hypothesis")


def settings_of_uv(listed: str) -> dict[str, str] | None:
    "Variables that tell uv what `pip config list` lists; None where uv has no name for a setting."
    values = {}
    for section in ("global", "install", ":env:"):  # the later overrides
        for line in listed.splitlines():
            key, value = line.split("=", 1)
            name = key.removeprefix(section + ".")
            if name != key: values[name] = ast.literal_eval(value)
    if values.keys() - NAMES.keys() - IDLE: return None
    named = [(*NAMES[name], value) for name, value in values.items() if name in NAMES]
    # pip takes the best version of all its sources, and trusts what the system trusts.
    rules = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "1"}
    return rules | {name: between.join(value.split()) for name, between, value in named}


def run(*command, **options) -> bool:
    "Whether `command`, run in the root of the repository, succeeds."
    return subprocess.run(command, cwd=ROOT, **options).returncode == 0


def install(*arguments: str) -> None:
    "Packages into .venv, in the versions of constraints.txt: by uv, or else by pip."
    wanted = ("install", "-c", "constraints.txt", *arguments)
    listed = subprocess.check_output([BIN/"pip", "config", "list"], cwd=ROOT, text=True)
    told = settings_of_uv(listed)
    if told is not None and run(BIN/"pip", "install", "--quiet", "-c", "constraints.txt", "uv"):
        if run(BIN/"uv", "pip", *wanted, env=os.environ | told | {"VIRTUAL_ENV": str(ROOT/".venv")}): return
    if run(BIN/"pip", *wanted, "--no-compile"): return
    sys.exit("install: pip could not install: see above" + (NO_INDEX if "--index-url" in arguments else ""))


NO_INDEX = "; perhaps TORCH_INDEX was not reached: plain `make env` uses the default index"


def compile_imports() -> None:
    "Bytecode of what is imported on one core, the kernels of exact inference on another."
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    kernels = "from rhmdiff.engine.kernels import compile_kernels; compile_kernels()"
    with subprocess.Popen([BIN/"python", "-c", kernels], cwd=ROOT, env=kept) as compiling:
        imported = run(BIN/"python", "-Xfrozen_modules=off", "-c", "import " + ", ".join(IMPORTED), env=kept)
    if compiling.returncode or not imported: sys.exit("install: what was installed cannot be imported")


def main() -> None:
    start = time.time()
    if not run(sys.executable, "-m", "venv", ".venv"): sys.exit("install: python has no module venv")
    for index in sys.argv[1:]: install("--index-url", index, "torch")
    install("-e", EXTRAS)
    compile_imports()
    said = f"installed in {time.time() - start:.0f} s"
    (ROOT/".venv"/"installed").write_text(said + "\n", encoding="utf-8")
    print(f"{said}; next: source .venv/bin/activate, then rhm --help")


if __name__ == "__main__": main()
