"""What busy neighbours cost: times beside two busy processes, over times alone, in the default environment.

    python benchmarks/neighbours.py             # about a minute
    python benchmarks/neighbours.py --rounds 5

On two cores, a fair share beside two busy processes is half of the machine, a ratio of 2. Threads that spin
while they wait for one another cost far more: a thread that waits is on a core, and the one it waits for is
not. The calls run in a process of their own, which imports torch before rhmdiff and inherits no variable of
OpenMP. The neighbours are Python loops, stopped while the times alone are taken. Both times are taken in
turn; medians of the ratios are printed with their quartiles.
"""
import argparse
import os
import signal
import subprocess
import sys
import time

import numpy as np
import torch  # noqa: F401  before rhmdiff, as a user has it

from rhmdiff.diffusion import MaskingProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.inference import posterior
from rhmdiff.models import TransformerDenoiser
from rhmdiff.training import fit

NEIGHBOURS = 2
TARGET = 3
# a loop that ends with the process that started it
BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"


def contenders():
    "Name -> call."
    grammar = HierarchicalGrammar.random(16, 4, 2, 8)
    process = MaskingProcess(16)
    x_t = process.sample(grammar.sample(256, seed=0)[-1], 0.5, seed=0)
    evidence = process.log_evidence(x_t, 0.5)
    small = HierarchicalGrammar.random(16, 4, 2, 4)
    leaves = small.sample(4096, seed=0)[-1]
    network = TransformerDenoiser(process, small.n_leaves, dim=32, heads=4, layers=2, ff=64)
    def train(): fit(network, process, leaves, steps=10, device="cpu")
    return {"sample(20000), v=16, m=4, s=2, L=8": lambda: grammar.sample(20_000, seed=0),
            "posterior, batch 256": lambda: posterior(grammar, evidence),
            "ten steps of fit, small transformer": train}


def seconds(call):
    "The wall time of one call."
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def send(neighbours, what):
    "Send a signal to every neighbour, and wait until it has taken effect."
    for process in neighbours: process.send_signal(what)
    time.sleep(0.05)


def measure(rounds):
    "Print the ratio of each contender."
    command = [sys.executable, "-c", BUSY, str(os.getpid())]
    neighbours = [subprocess.Popen(command) for _ in range(NEIGHBOURS)]
    try:
        send(neighbours, signal.SIGSTOP)
        for name, call in contenders().items():
            for _ in range(3): call()
            alone, beside = [], []
            for _ in range(rounds):
                alone.append(seconds(call))
                send(neighbours, signal.SIGCONT)
                beside.append(seconds(call))
                send(neighbours, signal.SIGSTOP)
            middle, low, high = np.quantile(np.array(beside) / np.array(alone), [0.5, 0.25, 0.75])
            spent = f"{np.median(alone) * 1e3:9.1f} ms alone"
            print(f"{name:40s}{middle:8.2f}  ({low:.2f} to {high:.2f})  target {TARGET}{spent}", flush=True)
    finally:
        for process in neighbours: process.kill()
        for process in neighbours: process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure: return measure(args.rounds)
    load = os.getloadavg()[0]
    warning = ": the machine is busy, do not trust the figures" if load > 0.5 else ""
    print(f"{os.cpu_count()} cores, load {load:.2f} before the start{warning}")
    print(f"\ntime beside {NEIGHBOURS} busy processes over time alone: median (quartiles)", flush=True)
    threads = ("OMP_", "GOMP_", "KMP_", "MKL_")
    default = {k: v for k, v in os.environ.items() if not k.startswith(threads)}
    command = [sys.executable, __file__, "--measure", "--rounds", str(args.rounds)]
    subprocess.run(command, env=default, check=True)


if __name__ == "__main__": main()
