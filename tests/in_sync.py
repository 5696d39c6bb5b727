"""Are the library and README.md what the notebooks make of them? Writes them anew and compares.

It works in a dirty tree too.
"""
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def state() -> dict[str, str]:
    "A hash of every notebook, every module and README.md."
    files = [ROOT/"README.md", *(ROOT/"nbs").rglob("*.ipynb"), *(ROOT/"rhmdiff").rglob("*.py")]
    kept = [f for f in files if ".ipynb_checkpoints" not in f.parts]
    return {str(f.relative_to(ROOT)): hashlib.sha256(f.read_bytes()).hexdigest() for f in kept}


os.environ.pop("IN_TEST", None)  # nbdev_export does nothing under it
tools, before = Path(sys.executable).parent, state()
for command in ([tools/"nbdev_clean"], [tools/"nbdev_export"], [sys.executable, ROOT/"book"/"readme.py"]):
    subprocess.run(command, cwd=ROOT, check=True)
after = state()
changed = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))
if changed:
    names = ", ".join(changed)
    sys.exit(f"were not what nbdev_clean, nbdev_export and make readme write, and are now: {names}")
