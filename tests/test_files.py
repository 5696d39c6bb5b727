"""Files under killed writers, full disks, folders that cannot be written, SIGTERM, and other locales."""
import ast
import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rhmdiff.core import atomic_path, check_writable
from rhmdiff.diffusion import MaskingProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.models import BayesDenoiser, TransformerDenoiser
from rhmdiff.sampling import forward_backward_sweep
from rhmdiff.training import fit

pytest.importorskip("fcntl", reason="without fcntl nothing is locked and nothing is swept")

GRAMMAR = HierarchicalGrammar.random(4, 2, 2, 2, seed=1)
NOISE = MaskingProcess(4)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def mounted(folder: Path, options: str):
    "A small file system of its own on `folder`; the test is skipped where none can be mounted."
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try: done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError: pytest.skip("there is no mount")
    if done.returncode: pytest.skip(f"tmpfs cannot be mounted: {done.stderr.strip()}")
    try: yield folder
    finally: subprocess.run(["umount", "-l", str(folder)], check=True)  # a traceback may hold a file open


WRITER = """
import os, sys, time
from rhmdiff.core import atomic_path
with atomic_path(sys.argv[1]) as tmp:
    tmp.write_text("half of", encoding="utf-8")  # opened by name and closed again
    open(sys.argv[2], "w", encoding="utf-8").close()
    while not os.path.exists(sys.argv[3]): time.sleep(0.01)
"""


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    "The file of a killed writer goes; that of a living one stays, and arrives."
    path = tmp_path/"out"/"run.pt"
    def start(name):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path, tmp_path/name, tmp_path/"go"])
        wait_for(tmp_path/name, writer)
        return writer
    dead, alive = start("dead"), start("alive")
    assert len(list(path.parent.iterdir())) == 2
    dead.kill()
    dead.wait()
    with atomic_path(path) as tmp: torch.save(1, tmp)
    left = {p.name for p in path.parent.iterdir()}
    assert len(left) == 2 and "run.pt" in left, "the living writer's file is there, the dead one's is not"
    (tmp_path/"go").touch()
    assert alive.wait(60) == 0 and [p.name for p in path.parent.iterdir()] == ["run.pt"]
    assert path.read_text(encoding="utf-8") == "half of"


RACER = """
import sys
from pathlib import Path
from rhmdiff.core import atomic_path
for k in range(400):
    with atomic_path(sys.argv[1]) as tmp: tmp.write_text(str(k), encoding="utf-8")
"""


def test_writers_side_by_side_never_lose_their_files(tmp_path):
    "Each sweeps before each write: a file taken from a living writer would end it with an error."
    path = tmp_path/"clock.txt"
    racers = [subprocess.Popen([sys.executable, "-c", RACER, path]) for _ in range(3)]
    assert [r.wait(120) for r in racers] == [0, 0, 0]
    assert path.read_text(encoding="utf-8") == "399" and list(tmp_path.iterdir()) == [path]


WRITES = {
    "torch.save": lambda tmp: torch.save(torch.zeros(10**6), tmp),
    "numpy.save": lambda tmp: np.save(tmp, np.zeros(10**6)),
    "text": lambda tmp: tmp.write_text("a" * 10**7, encoding="utf-8"),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_is_called_by_its_name(tmp_path, write):
    with mounted(tmp_path/"small", "size=3m") as disk:
        path = disk/"run.npy"
        path.write_text("old", encoding="utf-8")
        with pytest.raises(RuntimeError, match="another"), atomic_path(path): raise RuntimeError("another")
        with pytest.raises(OSError, match="[Nn]o space left on device") as full:
            with atomic_path(path) as tmp: WRITES[write](tmp)
        assert full.value.errno == errno.ENOSPC
        assert list(disk.iterdir()) == [path] and path.read_text(encoding="utf-8") == "old"


def unwritable(tmp_path):
    "Paths where no file can be written, and why."
    (tmp_path/"file").touch()
    yield "", "it is empty"
    yield tmp_path, "it is a folder"
    yield tmp_path/"file"/"run.pt", "file' is not a folder"
    yield tmp_path/"file"/"a"/"run.pt", "file' is not a folder"
    yield "/proc/run.pt", "cannot be written: "


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc")
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path):
    def never(*args, **options): raise AssertionError("work was begun")
    model = TransformerDenoiser(NOISE, 4, dim=8, heads=2, layers=1, ff=8)
    before = [w.clone() for w in model.parameters()]
    for path, why in unwritable(tmp_path):
        with pytest.raises(ValueError, match=why): check_writable("path", path)
        with pytest.raises(ValueError, match=f"checkpoint=.*{why}"):
            fit(model, NOISE, never, steps=2, device="cpu", checkpoint=path)
        with pytest.raises(ValueError, match=f"file=.*{why}"):
            forward_backward_sweep(NOISE, never, GRAMMAR, [0.5], never, file=path, device="cpu")
    assert all(x.equal(y) for x, y in zip(before, model.parameters()))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_read_only_file_system_is_refused(tmp_path):
    with mounted(tmp_path/"fixed", "ro") as disk:
        for path in (disk/"run.pt", disk/"new"/"run.pt"):
            with pytest.raises(ValueError, match="Read-only file system"): check_writable("path", path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match="Permission denied"): check_writable("path", tmp_path/"run.pt")
    finally: tmp_path.chmod(0o700)


TRAINING = """
import os, signal, sys, torch
from rhmdiff.diffusion import MaskingProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.models import TransformerDenoiser
from rhmdiff.training import fit, grammar_stream
path, stop, out = sys.argv[1:]
grammar = HierarchicalGrammar.random(4, 2, 2, 2, seed=1)
stream = grammar_stream(grammar)
draws = 0
def stopping(n, seed=None):
    global draws
    draws += 1
    if draws == int(stop): os.kill(os.getpid(), signal.SIGTERM)
    return stream(n, seed=seed)
stopping.settings = stream.settings
noise = MaskingProcess(4)
model = TransformerDenoiser(noise, 4, dim=8, heads=2, layers=1, ff=8, dropout=0.1)
fit(model, noise, stopping, steps=60, batch_size=8, ema=0.9, log_every=20, device="cpu", checkpoint=path)
torch.save(model.state_dict(), out)
"""


def test_sigterm_saves_the_step_that_was_reached(tmp_path):
    "The checkpoint is due at step 500; SIGTERM comes in the 24th draw, after 23 steps."
    def train(name, stop):
        command = [sys.executable, "-c", TRAINING, tmp_path/f"{name}.pt", str(stop), tmp_path/f"{name}.out"]
        return subprocess.run(command, capture_output=True, text=True)
    assert train("whole", 0).returncode == 0
    stopped = train("stopped", 24)
    assert stopped.returncode != 0 and "KeyboardInterrupt" in stopped.stderr
    assert torch.load(tmp_path/"stopped.pt", weights_only=True)["step"] == 23
    assert not (tmp_path/"stopped.out").exists()
    again = train("stopped", 0)
    assert again.returncode == 0, again.stderr
    whole, stopped = (torch.load(tmp_path/f"{k}.out", weights_only=True) for k in ("whole", "stopped"))
    assert all(whole[k].equal(stopped[k]) for k in whole)


SWEEP = """
import sys, time
from rhmdiff.diffusion import MaskingProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.models import BayesDenoiser
from rhmdiff.sampling import forward_backward_sweep
path, out, rest = sys.argv[1:]
grammar = HierarchicalGrammar.random(4, 2, 2, 2, seed=1)
noise = MaskingProcess(4)
def measure(x0, back):
    open(path + ".begun", "a", encoding="utf-8").close()
    print("chunk", flush=True)
    time.sleep(RESTS.pop())
    return {"same": (x0 == back).double()}
RESTS = [float(rest)] * 200
sweep = forward_backward_sweep(noise, BayesDenoiser(grammar, noise), grammar, [0.3, 0.7], measure, n=200,
                               steps=4, chunk_size=10, covariance=["same"], device="cpu", file=path)
sweep.table.to_csv(out, index=False)
"""


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM], ids=lambda kill: kill.name)
def test_a_killed_sweep_goes_on_to_the_same_table(tmp_path, kill):
    "Killed after 3 s of chunks of 0.1 s: SIGKILL loses at most 15, SIGTERM the one it interrupts."
    def command(rest): return [sys.executable, "-c", SWEEP, file, tmp_path/"killed.csv", str(rest)]
    file = tmp_path/"killed.npz"
    killed = subprocess.Popen(command(0.1), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    wait_for(tmp_path/"killed.npz.begun", killed)
    time.sleep(3)
    killed.send_signal(kill)
    begun = killed.communicate(timeout=60)[0].count("chunk")
    assert killed.returncode != 0 and not (tmp_path/"killed.csv").exists()
    with np.load(file) as kept: done = int(kept["done"])
    assert begun - done <= (1 if kill == signal.SIGTERM else 15) and done > 0
    again = subprocess.run(command(0), capture_output=True, text=True, check=True).stdout
    assert again.count("chunk") == 40 - done
    whole = forward_backward_sweep(
        NOISE, BayesDenoiser(GRAMMAR, NOISE), GRAMMAR, [0.3, 0.7], lambda x, y: {"same": (x == y).double()},
        n=200, steps=4, chunk_size=10, covariance=["same"], device="cpu")
    whole.table.to_csv(tmp_path/"whole.csv", index=False)
    assert (tmp_path/"whole.csv").read_bytes() == (tmp_path/"killed.csv").read_bytes()


def test_every_text_file_names_its_encoding(root):
    "In the modules: `read_text`, `write_text`, and `open` in text mode. Ruff knows only some of them."
    left = []
    for file in sorted((root/"rhmdiff").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call): continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
            if name not in ("read_text", "write_text", "open") or any("b" in mode for mode in modes): continue
            if name == "open" and isinstance(node.func, ast.Attribute): continue  # os.open, a method
            if "encoding" not in {k.arg for k in node.keywords}: left.append(f"{file.name}:{node.lineno}")
    assert not left
