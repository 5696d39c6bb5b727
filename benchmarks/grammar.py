"""How fast grammars are sampled: ratios against the plain vectorised method, cost and memory to 10^8 tokens.

    python benchmarks/grammar.py            # about a minute
    python benchmarks/grammar.py --threads 1

The grammar is the Random Hierarchy Model with v=16, m=4, s=2, L=8, 20,000 samples of 256 tokens. The plain
method draws, level by level, an int64 production index for every node, gathers its tuple, and flattens.
Each ratio is of two runs in turn; medians of the ratios are printed with their quartiles. Memory is the
growth of the process's peak beyond what it returns (read from /proc, so Linux only).
"""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from rhmdiff.core import generator, set_threads
from rhmdiff.grammar import HierarchicalGrammar

BUDGET = 64  # MiB beyond what is returned


def plain(grammar, n, seed):
    "The plain vectorised method."
    g = generator(seed)
    levels = [torch.randint(grammar.vocab[0], (n, 1), generator=g)]
    for rules in grammar.rules:
        production = torch.randint(rules.shape[1], levels[-1].shape, generator=g)
        levels.append(rules[levels[-1], production].flatten(1))
    return levels


def seconds(call):
    "The wall time of one call."
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(slow, fast, rounds):
    "Quartiles of time(slow) / time(fast), each pair run in turn, and the median time of the fast one."
    slow(), fast()
    pairs = np.array([(seconds(slow), seconds(fast)) for _ in range(rounds)])
    return np.quantile(pairs[:, 0] / pairs[:, 1], [0.5, 0.25, 0.75]), np.median(pairs[:, 1])


def report(name, quartiles, fast, tokens, target=None):
    "One line of the table."
    wanted = "" if target is None else f"  target {target:g}"
    middle, low, high = quartiles
    rate = f"{tokens / fast / 1e6:8.0f} M tokens/s"
    print(f"{name:42s} {middle:6.2f}  ({low:.2f} to {high:.2f}){wanted:14s}{rate}")


def resident(peak=False):
    "Memory of this process in MiB, now or at its peak since `forget_peak` (Linux)."
    field = "VmHWM" if peak else "VmRSS"
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def scale(log_tokens):
    "Print nanoseconds a token and MiB beyond the result for one size; run in a process of its own."
    grammar, n = HierarchicalGrammar.random(16, 4, 2, 8), round(10**log_tokens / 256)
    grammar.sample(1, seed=0)
    forget_peak()
    before = resident()
    spent = np.median([seconds(lambda: grammar.sample(n, seed=0, dtype=torch.uint8)) for _ in range(5)])
    print(spent / (n * 256) * 1e9, resident(peak=True) - before - n * sum(grammar.tables.nodes) / 2**20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scale", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_threads(args.threads)
    if args.scale: return scale(args.scale)
    load = os.getloadavg()[0]
    print(
        f"{args.threads} threads, load {load:.2f} before the start"
        + (": the machine is busy, do not trust the figures" if load > 0.5 else "")
    )
    n, grammar = 20_000, HierarchicalGrammar.random(16, 4, 2, 8)
    print(f"\n{n} samples of {grammar.n_leaves} tokens, time of the plain method over time of `sample`: "
          "median (quartiles)")
    def sampler(g, dtype): return lambda: g.sample(n, seed=1, dtype=dtype)
    for name, dtype, target in (("dtype=torch.uint8", torch.uint8, 4), ("default dtype", torch.int64, 1.2)):
        report(
            name, *ratio(lambda: plain(grammar, n, 1), sampler(grammar, dtype), args.rounds), n * 256, target
        )
    for name, g in (
        ("m=3, uint8", HierarchicalGrammar.random(16, 3, 2, 8)),
        ("Zipf weights, uint8", HierarchicalGrammar.random(16, 4, 2, 8, weights=("zipf", 1.0))),
        ("arity 4 (L=4), uint8", HierarchicalGrammar.random(16, 4, 4, 4)),
    ):
        report(name, *ratio(lambda: plain(g, n, 1), sampler(g, torch.uint8), args.rounds), n * g.n_leaves)
    print("(the plain method ignores weights: beside Zipf weights it is a yardstick of uniform draws)")

    print(f"\ncost by size, uint8, median of five calls; memory beyond the result, budget {BUDGET} MiB")
    sizes, costs = [5, 6, 7, 8], []
    for size in sizes:
        out = subprocess.run(
            [sys.executable, __file__, "--scale", str(size), "--threads", str(args.threads)],
            capture_output=True,
            text=True,
            check=True,
        )
        cost, memory = map(float, out.stdout.split())
        costs.append(cost * 10**size)
        print(f"10^{size} tokens: {cost:6.2f} ns a token, {memory:6.1f} MiB")
    slope = np.polyfit(np.log(10.) * np.array(sizes[1:]), np.log(costs[1:]), 1)[0]
    print(f"exponent of time against tokens, 10^{sizes[1]} to 10^{sizes[-1]}: {slope:.3f}")


if __name__ == "__main__": main()
