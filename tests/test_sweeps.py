"""Sweeps: killed and gone on with, walked by several processes, handed out by Dask, Slurm and submitit."""
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

pytest.importorskip("papermill")
psutil = pytest.importorskip("psutil")  # comes with distributed

from tiny import RHM, kernels, tiny, wait_for, write_notebook

from rhmdiff import runs
from rhmdiff.engine import notebooks

ROOT = Path(__file__).resolve().parent.parent
GRID = {"seed": list(range(40)), "preset": "smoke"}


def start(folder: Path, *arguments, log: str = "made", **more) -> subprocess.Popen:
    "A command in the folder, whose kernels can be told and which log the parts that they make."
    env = os.environ | {"TINY_HOME": str(folder), "TINY_LOG": str(folder/log)} | more
    errors = open(folder/"stderr", "a", encoding="utf-8")
    def default(): signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen([str(x) for x in arguments], cwd=folder, env=env, stdout=errors, stderr=errors,
                            preexec_fn=default, start_new_session=True)


def told(folder: Path) -> str:
    "What the commands have said."
    return (folder/"stderr").read_text(encoding="utf-8")


def tables(sweep: Path) -> dict[str, bytes]:
    "The joined tables of a sweep."
    return {file.name: file.read_bytes() for file in sorted((sweep/"tables").glob("*.csv"))}


def complete(sweep: Path) -> dict[str, tuple]:
    "The complete runs of a sweep, each checked, with what would show that it was made again."
    found = {}
    for folder in sweep.iterdir():
        if folder.name.startswith(".") or folder.name in ("tables", "jobs") or not folder.is_dir(): continue
        runs.read_results(folder)
        files = sorted(folder.iterdir())
        assert [p.name for p in files] == ["notebook.ipynb", "numbers.csv", "run.json", "sums.csv"]
        found[folder.name] = tuple((p.name, p.stat().st_ino, p.stat().st_mtime_ns) for p in files)
    return found


def leftovers(sweep: Path) -> list[str]:
    "Names of what a sweep should not leave."
    return sorted(str(p.relative_to(sweep)) for p in sweep.rglob(".*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    "The tables of 40 runs that nothing disturbs, made one after the other in this process."
    folder = tmp_path_factory.mktemp("undisturbed")
    table = runs.sweep(tiny(folder), GRID, folder/"sweep", workers=1, parameters={"rest": 0})
    assert len(complete(folder/"sweep")) == 40 and not leftovers(folder/"sweep")
    assert len(table) == 40 * (9 + 3) and set(table.state) == {"complete"}
    made = tables(folder/"sweep")
    assert list(made) == ["numbers.csv", "sums.csv"]
    return made


def test_a_failure_does_not_end_the_others_and_can_be_tried_again(tmp_path):
    flag = tmp_path/"flag"
    notebook = write_notebook(tmp_path/"plain.ipynb", "k: int = 0\noutput: str = ''", f"""
import os, pathlib
if k == 3 and not os.path.exists({str(flag)!r}): raise ValueError("the fourth")
pathlib.Path(output, "squares.csv").write_text(f"square\\n{{k * k}}\\n")""")
    out = tmp_path/"sweep"
    table = runs.sweep(notebook, {"k": range(6)}, out, workers=1)
    assert list(table.state) == ["complete"] * 3 + ["failed"] + ["complete"] * 2
    assert list(table.square.dropna()) == [0, 1, 4, 16, 25] and "ValueError: the fourth" in table.error[3]
    failed = runs.states(out).iloc[3]
    assert failed.state == "failed" and Path(failed.notebook).name == "notebook.failed.ipynb"
    assert not any(x.made for x in runs.walk(out))
    flag.touch()
    assert [x.index for x in runs.walk(out, retry=True) if x.made] == [3]
    assert list(runs.collect(out, "squares").square) == [0, 1, 4, 9, 16, 25] and not leftovers(out)


def squares(folder: Path) -> Path:
    "A plain notebook that writes a table of one number."
    return write_notebook(folder/"plain.ipynb", "k: int = 0\noutput: str = ''", """
import pathlib
pathlib.Path(output, "squares.csv").write_text(f"square\\n{k * k}\\n")""")


def test_runs_are_handed_out_to_workers(tmp_path, capsys):
    out = tmp_path/"sweep"
    table = runs.sweep(squares(tmp_path), {"k": [2, 3]}, out, workers=2, progress=True)
    assert list(table.square) == [4, 9] and set(table.state) == {"complete"} and not leftovers(out)
    said = capsys.readouterr().err
    assert "2 runs in" in said and "[1/2] run" in said and "[2/2] run" in said


def test_runs_that_are_left_are_submitted_in_chunks(tmp_path, monkeypatch):
    "A job is a call of `walk` with some of the runs; without an executor submitit chooses one."
    class Executor:
        "Of submitit: it makes its jobs at once."
        def __init__(self, folder): self.folder = folder
        def batch(self): return contextlib.nullcontext()
        def submit(self, job, manifest, some, **options): return some, job(manifest, some, **options)
    submitit = types.ModuleType("submitit")
    submitit.AutoExecutor = Executor
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    made = runs.plan(squares(tmp_path), {"k": range(4)}, tmp_path/"sweep")
    runs.walk(made, [1])
    jobs = runs.submit(made, chunk=2, timeout=300.)
    assert [some for some, _ in jobs] == [[0, 2], [3]] and runs.submit(made) == []
    assert all(x.state == "complete" for _, outcomes in jobs for x in outcomes)
    for wrong in (dict(chunk=0), dict(executor=3), dict(retry=1)):
        with pytest.raises(ValueError, match=next(iter(wrong))): runs.submit(made, **wrong)


def test_a_changed_notebook_must_be_planned_again(tmp_path):
    grid, same = {"seed": [0, 1]}, {"preset": "smoke", "rest": 0}
    made = runs.plan(tiny(tmp_path), grid, tmp_path/"sweep", same)
    tiny(tmp_path, "# a word of prose in a cell of its own")
    assert runs.walk(made, [0])[0].made
    text = (tmp_path/"tiny.ipynb").read_text(encoding="utf-8")
    (tmp_path/"tiny.ipynb").write_text(text.replace("% 1009", "% 1013"), encoding="utf-8")
    with pytest.raises(ValueError, match="has changed since the sweep was planned"): runs.walk(made)
    again = runs.plan(tmp_path/"tiny.ipynb", grid, tmp_path/"sweep", same)
    assert not {x.key for x in made.entries} & {x.key for x in again.entries}


@pytest.mark.slow
def test_a_library_that_changes_is_imported_anew(tmp_path, monkeypatch):
    "A warm kernel has imported modules; when the file of one changes, the next kernel has the new one."
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    notebook = write_notebook(tmp_path/"n.ipynb", "k: int = 0", "import lore", "lore.answer")
    server = notebooks.server_for(notebook, {"A": "1"})
    def answer():
        done = notebooks.execute(notebook, {}, tmp_path/"out.ipynb",
                                 server=notebooks.server_for(notebook, {"A": "1"}))
        return done.cells[-1].outputs[0]["data"]["text/plain"]
    (tmp_path/"lore.py").write_text("answer = 41\n", encoding="utf-8")
    server.close()
    assert answer() == "41" == answer()
    (tmp_path/"lore.py").write_text("answer = 42\n", encoding="utf-8")
    assert answer() == "42" == answer()
    for x in notebooks._SERVERS.values(): x.close()


@pytest.mark.slow
def test_figures_of_a_warm_kernel_are_those_of_a_cold_one(tmp_path):
    notebook = write_notebook(tmp_path/"n.ipynb", "k: int = 0", "from matplotlib import pyplot as plt",
                              "plt.plot([1, 2]);", "print(plt.get_backend())")
    def kinds(server):
        done = notebooks.execute(notebook, {}, tmp_path/"out.ipynb", server=server)
        return [[sorted(o.get("data", o.get("text"))) for o in c.outputs] for c in done.cells]
    server = notebooks.server_for(notebook, {})
    assert kinds(server) == kinds(None) and server.process.poll() is None
    server.close()


@pytest.mark.slow
def test_a_run_has_a_gpu_for_itself(tmp_path, monkeypatch):
    "A stand-in for nvidia-smi tells of two GPUs: two blocks have one each, a third waits."
    stand_in = tmp_path/"nvidia-smi"
    stand_in.write_text("#!/bin/sh\necho '0, GPU-a'; echo '1, GPU-b'\n", encoding="utf-8")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with notebooks.gpu() as a, notebooks.gpu() as b:
        assert [a, b] == [{"CUDA_VISIBLE_DEVICES": "GPU-a"}, {"CUDA_VISIBLE_DEVICES": "GPU-b"}]
        with monkeypatch.context() as patch, pytest.raises(pytest.fail.Exception, match="waits"):
            patch.setattr(notebooks, "gpus", lambda: ["GPU-a", "GPU-b"])  # a subprocess may sleep, too
            patch.setattr(time, "sleep", lambda s: pytest.fail("waits"))
            with notebooks.gpu(): pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert notebooks.gpus() == ["GPU-b"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert notebooks.gpus() == []


def test_the_kernel_ends_with_a_killed_driver(tmp_path):
    """kill -9 of a run, by a kernel of its own and by a warm one: no kernel is left after some seconds, and
    what the kill left is gone after the next run."""
    tiny(tmp_path)
    runs.plan(tmp_path/"tiny.ipynb", {"seed": [0]}, tmp_path/"sweep", {"preset": "smoke", "rest": 3.0})
    commands = [[RHM, "run", "tiny.ipynb", "--preset", "smoke", "-p", "rest=3", "--out", "out.ipynb"],
                [RHM, "sweep", "run", "sweep", "--index", "0"]]
    killed = [start(tmp_path, *command, log=f"log{k}") for k, command in enumerate(commands)]
    wait_for(lambda: all((tmp_path/f"log{k}").exists() for k in range(2)))
    for process in killed: process.kill()
    for process in killed: process.wait()
    wait_for(lambda: not kernels(tmp_path), 15)
    assert len(leftovers(tmp_path)) >= 2
    again = [start(tmp_path, *command) for command in commands]
    assert [process.wait(120) for process in again] == [0, 0], told(tmp_path)
    assert not leftovers(tmp_path)


SCRIPT = """
from rhmdiff import runs
table = runs.sweep("tiny.ipynb", {"seed": [0, 1, 2]}, "sweep", workers=2, parameters={"preset": "smoke"})
print(len(table), "rows")
"""


@pytest.mark.slow
def test_a_script_sweeps_at_its_top_level(tmp_path):
    "Two workers; nothing stands behind `if __name__ == '__main__'`."
    pytest.importorskip("distributed")
    tiny(tmp_path)
    (tmp_path/"script.py").write_text(SCRIPT, encoding="utf-8")
    assert start(tmp_path, sys.executable, "script.py").wait(300) == 0, told(tmp_path)
    assert told(tmp_path).count("3 runs in") == 1 and "36 rows" in told(tmp_path)
    wait_for(lambda: not kernels(tmp_path), 30)  # a warm process that is still importing ends after it
    assert not leftovers(tmp_path/"sweep")


# Second tier

def processes(driver: psutil.Process) -> tuple[list, list]:
    "The workers and the kernels of a sweep."
    workers, found = [], []
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(process.cmdline())
            if "spawn_main" in line: workers.append(process)
            if "engine.notebooks import serve" in line and "serve" in " ".join(process.parent().cmdline()):
                found.append(process)
    return workers, found


@pytest.mark.slow
def test_a_sweep_under_kills(tmp_path, undisturbed):
    """Two workers; five times a worker is killed, twice a kernel, once the sweep itself, at random moments.

    Started again, it ends with 40 complete runs, made once each, and with the undisturbed tables."""
    pytest.importorskip("distributed")
    rng = random.Random(0)
    sweep = tmp_path/"sweep"
    runs.plan(tiny(tmp_path), GRID, sweep, {"rest": 0.6})
    command = [RHM, "sweep", "run", sweep, "--workers", 2]
    driver = start(tmp_path, *command)
    wait_for(lambda: (tmp_path/"made").exists())
    for kind in rng.sample([0] * 5 + [1] * 2, 7):
        time.sleep(rng.uniform(0.5, 4))
        victims = wait_for(lambda k=kind: processes(psutil.Process(driver.pid))[k])
        with contextlib.suppress(psutil.NoSuchProcess): rng.choice(victims).kill()
    time.sleep(rng.uniform(0.5, 4))
    assert driver.poll() is None, told(tmp_path)
    driver.kill()
    driver.wait()
    wait_for(lambda: not kernels(tmp_path), 30)
    before = complete(sweep)
    assert 0 < len(before) < 40
    made = (tmp_path/"made").read_text(encoding="utf-8").split("\n")
    again = start(tmp_path, *command, log="made again")
    assert again.wait(600) == 0, told(tmp_path)
    after = complete(sweep)
    assert len(after) == 40 and {k: after[k] for k in before} == before, "what was complete is as it was"
    log = made + (tmp_path/"made again").read_text(encoding="utf-8").split("\n")
    twice = len([x for x in log if x]) - 40 * 3
    assert 0 <= twice <= 5 * 2 + 2 + 2, f"{twice} parts were made again; a kill costs those in hand"
    wait_for(lambda: not kernels(tmp_path), 15)
    assert not leftovers(sweep)
    assert _without_rest(tables(sweep)) == undisturbed


def _without_rest(made: dict[str, bytes]) -> dict[str, bytes]:
    "Tables do not hold the rest, which is the same in all runs of a sweep."
    assert not any(b"rest" in x for x in made.values())
    return made


@pytest.mark.slow
def test_two_shells_walk_one_manifest_by_index(tmp_path, undisturbed):
    runs.plan(tiny(tmp_path), GRID, tmp_path/"sweep", {"rest": 0})
    walk = "for k in $(seq 0 4); do $RHM sweep run sweep --index $k --chunk 8 || exit 1; done"
    shells = [start(tmp_path, "bash", "-c", walk, log=f"log{k}", RHM=RHM) for k in range(2)]
    assert [shell.wait(600) for shell in shells] == [0, 0], told(tmp_path)
    logs = [line for k in range(2) for line in (tmp_path/f"log{k}").read_text(encoding="utf-8").splitlines()]
    assert sorted(logs) == sorted(f"{seed} {k}" for seed in range(40) for k in range(3)), "each part once"
    assert all((tmp_path/f"log{k}").stat().st_size for k in range(2)), "both have worked"
    assert subprocess.run([RHM, "sweep", "table", tmp_path/"sweep"], capture_output=True).returncode == 0
    assert tables(tmp_path/"sweep") == undisturbed and not leftovers(tmp_path/"sweep")


@pytest.mark.slow
def test_the_batch_file_of_slurm(tmp_path, undisturbed):
    "A stand-in for the array: the variable that Slurm sets, from 0 to 4, two at a time."
    runs.plan(tiny(tmp_path), GRID, tmp_path/"sweep", {"rest": 0})
    batch = ROOT/"slurm"/"sweep.sbatch"
    for pair in ((0, 1), (2, 3), (4,)):
        jobs = [start(tmp_path, "bash", batch, "sweep/manifest.json", 8, SLURM_ARRAY_TASK_ID=str(k), RHM=RHM)
                for k in pair]
        assert not any(job.wait(300) for job in jobs), told(tmp_path)
    assert start(tmp_path, "bash", batch, "sweep/manifest.json", 8, SLURM_ARRAY_TASK_ID="5").wait(60) != 0
    runs.save_tables(tmp_path/"sweep")
    assert tables(tmp_path/"sweep") == undisturbed and not leftovers(tmp_path/"sweep")


@pytest.mark.slow
def test_submitit(tmp_path, undisturbed):
    submitit = pytest.importorskip("submitit")
    made = runs.plan(tiny(tmp_path), GRID, tmp_path/"sweep", {"rest": 0})
    jobs = runs.submit(made, chunk=20, executor=submitit.LocalExecutor(folder=tmp_path/"jobs"))
    assert [len(job.result()) for job in jobs] == [20, 20]
    assert not runs.submit(made, executor=submitit.LocalExecutor(folder=tmp_path/"jobs"))
    runs.save_tables(made)
    assert tables(tmp_path/"sweep") == undisturbed


@pytest.mark.slow
def test_a_scheduler_of_another_process(tmp_path, undisturbed):
    "A scheduler and two workers, started by hand; one worker is killed."
    pytest.importorskip("distributed")
    dask = Path(sys.executable).with_name("dask")
    address = tmp_path/"scheduler.json"
    hand = [start(tmp_path, dask, "scheduler", "--port", 0, "--no-dashboard", "--scheduler-file", address)]
    wait_for(address.exists)
    worker = (dask, "worker", "--scheduler-file", address, "--nthreads", 1, "--no-dashboard")
    hand += [start(tmp_path, *worker) for _ in range(2)]
    try:
        where = json.loads(address.read_text(encoding="utf-8"))["address"]
        runs.plan(tiny(tmp_path), GRID, tmp_path/"sweep", {"rest": 0.1})
        driver = start(tmp_path, RHM, "sweep", "run", "sweep", "--scheduler", where)
        wait_for(lambda: len(complete(tmp_path/"sweep")) > 5)
        victim, = [p for p in psutil.Process(hand[1].pid).children() if "spawn_main" in " ".join(p.cmdline())]
        victim.kill()
        assert driver.wait(600) == 0, told(tmp_path)
    finally:
        for process in hand: process.terminate()
        for process in hand: process.wait(60)
    assert tables(tmp_path/"sweep") == undisturbed


@pytest.fixture
def two_hosts():
    "Two network namespaces and a cable: what starts a command in each, and the address of the first."
    if not shutil.which("ip"): pytest.skip("the command ip makes network namespaces")
    names = [f"rhm{os.getpid()}{end}" for end in "ab"]
    def ip(*words): return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
    try:
        try:
            for name in names: ip("netns", "add", name)
            ends = [("netns", names[0]), ("peer", "name", names[1], "netns", names[1])]
            ip("link", "add", names[0], *ends[0], "type", "veth", *ends[1])
            for k, name in enumerate(names, 1):
                ip("-n", name, "addr", "add", f"10.77.0.{k}/24", "dev", name)
                for device in ("lo", name): ip("-n", name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr}")
        yield [("ip", "netns", "exec", name) for name in names], "10.77.0.1"
    finally:
        for name in names: subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.slow
def test_a_cluster_of_two_hosts(tmp_path, undisturbed, two_hosts):
    "Scheduler and sweep on one host, a worker on each; they share files, and all else goes by network."
    pytest.importorskip("distributed")
    dask = Path(sys.executable).with_name("dask")
    (first, second), address = two_hosts
    address = f"tcp://{address}:8786"
    hand = [start(tmp_path, *first, dask, "scheduler", "--port", 8786, "--no-dashboard")]
    worker = (dask, "worker", address, "--nthreads", 1, "--no-dashboard")
    hand += [start(tmp_path, *host, *worker) for host in (first, second)]
    try:
        runs.plan(tiny(tmp_path), GRID, tmp_path/"sweep", {"rest": 0.1})
        driver = start(tmp_path, *first, RHM, "sweep", "run", "sweep", "--scheduler", address)
        assert driver.wait(600) == 0, told(tmp_path)
        for host in ("10.77.0.1", "10.77.0.2"): assert f"tcp://{host}:" in told(tmp_path)
    finally:
        for process in hand: process.terminate()
        for process in hand: process.wait(60)
    assert tables(tmp_path/"sweep") == undisturbed


@pytest.mark.slow
def test_an_interrupted_sweep_cleans_up(tmp_path):
    "Ctrl-C reaches the whole group of a terminal, SIGTERM the command alone."
    sweep = tmp_path/"sweep"
    runs.plan(tiny(tmp_path), {"seed": range(8)}, sweep, {"preset": "smoke", "rest": 2.0})
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        for workers in (1, 2):
            (tmp_path/"made").unlink(missing_ok=True)
            driver = start(tmp_path, RHM, "sweep", "run", sweep, "--workers", workers)
            wait_for(lambda: (tmp_path/"made").exists())
            time.sleep(1)
            if number == signal.SIGINT: os.killpg(driver.pid, number)
            else: driver.send_signal(number)
            assert driver.wait(60) == code, told(tmp_path)
            wait_for(lambda: not kernels(tmp_path), 10)
            assert not [x for x in leftovers(sweep) if "-tmp" in x or x.endswith(".lock")]


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_as_one_that_was_not(tmp_path):
    rng = random.Random(1)
    tiny(tmp_path)
    command = [RHM, "run", "tiny.ipynb", "-p", "parts=30", "-p", "rest=0.3", "--out", "out.ipynb"]
    kills = 0
    while kills < 10:
        size = (tmp_path/"made").stat().st_size if (tmp_path/"made").exists() else 0
        run = start(tmp_path, *command)
        wait_for(lambda s=size: run.poll() is not None or (tmp_path/"made").exists() and
                 (tmp_path/"made").stat().st_size > s)
        time.sleep(rng.uniform(0, 0.6))
        assert run.poll() is None
        run.kill()
        run.wait()
        kills += 1
    assert start(tmp_path, *command).wait(120) == 0, told(tmp_path)
    made = len((tmp_path/"made").read_text(encoding="utf-8").splitlines())
    assert made <= 30 + 10 * 4, "a kernel lives on for a second after its driver"
    p = runs.read_experiment(tmp_path/"tiny.ipynb")[0].settings({"parts": 30, "rest": 0})
    p.output = str(tmp_path/"whole")
    runs.measure(p, runs.parts_of(tmp_path/"tiny.ipynb", {"parts": 30, "rest": 0}))
    for name in ("numbers.csv", "sums.csv"):
        assert (tmp_path/"out"/name).read_bytes() == (tmp_path/"whole"/name).read_bytes()
    assert not leftovers(tmp_path/"out")


@pytest.mark.slow
def test_two_runs_on_one_folder_share_the_parts(tmp_path):
    tiny(tmp_path)
    command = [RHM, "run", "tiny.ipynb", "-p", "parts=20", "-p", "rest=0.3", "-p", "output=shared", "--out"]
    both = [start(tmp_path, *command, f"out{k}.ipynb") for k in range(2)]
    assert [run.wait(120) for run in both] == [0, 0], told(tmp_path)
    made = (tmp_path/"made").read_text(encoding="utf-8").splitlines()
    assert sorted(made) == sorted(f"0 {k}" for k in range(20)), "each part once"
    assert len(runs.read_results(tmp_path/"shared")["sums"]) == 20 and not leftovers(tmp_path/"shared")


@pytest.mark.slow
def test_kernels_started_together_do_not_collide(tmp_path):
    notebook = write_notebook(tmp_path/"n.ipynb", "k: int = 0", "k")
    code = ("import sys; from rhmdiff.engine.notebooks import execute\n"
            "execute(sys.argv[1], {'k': int(sys.argv[2])}, f'out{sys.argv[2]}.ipynb')")
    many = [start(tmp_path, sys.executable, "-c", code, notebook, k) for k in range(8)]
    assert not any(process.wait(300) for process in many), told(tmp_path)
