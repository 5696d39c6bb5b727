"""Posteriors of strings whose trees are not given: this engine beside the CKY of torch-struct, in one run.

    pip install torch-struct              # the peer, in an environment of its own if you like
    python benchmarks/charts.py           # about two minutes
    python benchmarks/charts.py --rounds 5

Both are given the same grammar and the same evidence, and answer with the posterior of every token and log Z.
The peer takes a grammar in Chomsky normal form: the symbols of all levels are its nonterminals, and a
production of three children is two of two. It knows nothing of levels and sums over all pairs of symbols, in
float32; this engine sums over the productions of a level, in float64. They agree before they are timed.
"""
import argparse
import math
import os
import time
import warnings

import numpy as np
import torch

from rhmdiff.core import set_threads
from rhmdiff.engine.charts import productions_by_length, symbols_of
from rhmdiff.families import varying_tree
from rhmdiff.inference import inside_outside

# v, productions by length, depth, strings, tokens
CASES = [(4, {2: 1, 3: 2}, 2, 16, 7), (4, {2: 1, 3: 2}, 3, 16, 18), (8, {2: 2, 3: 2}, 3, 8, 18)]
IMPOSSIBLE = -1e9  # the peer's semiring has no zero
TARGET = 10


def binary_rules(grammar):
    "The rules of two children in log weights, (n, n + v, n + v), and log weights of the roots, (n,)."
    t = grammar.tables
    names = [(l, a) for l in range(grammar.depth) for a in range(symbols_of(t, l))]
    number = {name: k for k, name in enumerate(names)}
    rules = []
    for l in range(grammar.depth):
        for group in productions_by_length(t, l):
            for a, children, p in zip(group.parent.tolist(), group.children.tolist(), group.weight.tolist()):
                first, *rest = [(l + 1, c) for c in children]
                right = rest[0] if len(rest) == 1 else (l, *rest)
                if right not in number and right[0] != grammar.depth:
                    number[right] = len(number)
                    rules.append((right, *rest, 1.))
                rules.append(((l, a), first, right, p))
    n = len(number)
    number |= {(grammar.depth, a): n + a for a in range(symbols_of(t, grammar.depth))}
    size = n + symbols_of(t, grammar.depth)
    table = torch.full((n, size, size), IMPOSSIBLE)
    for parent, left, right, p in rules: table[number[parent], number[left], number[right]] = math.log(p)
    roots = torch.full((n,), IMPOSSIBLE)
    roots[:len(t.prior)] = t.prior.log()
    return table, roots


def peer(table, roots, evidence):
    "The posterior of every token, and log Z, by torch-struct."
    from torch_struct import SentCFG
    batch, n = evidence.shape[:2]
    potentials = (evidence.clone(), table.expand(batch, *table.shape), roots.expand(batch, -1))
    found = SentCFG(potentials, lengths=torch.full((batch,), n))
    return found.marginals[0], found.partition


def seconds(call):
    "The wall time of one call, and what it returns."
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def compare(v, m, L, batch, n, rounds):
    "Print the ratio of times, medians with quartiles, for one grammar."
    grammar = varying_tree(v, m, L, seed=0)
    table, roots = binary_rules(grammar)
    evidence = torch.randn(batch, n, v, generator=torch.Generator().manual_seed(0))
    inside_outside(grammar, evidence)
    ratios = []
    for _ in range(rounds):
        own, told = seconds(lambda: inside_outside(grammar, evidence))
        theirs, (tokens, log_z) = seconds(lambda: peer(table, roots, evidence))
        assert (told.tokens - tokens).abs().max() < 1e-4 and (told.log_z - log_z).abs().max() < 1e-3
        ratios.append(theirs / own)
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    name = f"v={v}, m={m}, L={L}: {batch} strings of {n}"
    spent = f"{own * 1e3:9.1f} ms"
    print(f"{name:50s}{middle:9.0f}  ({low:.0f} to {high:.0f})  target {TARGET}{spent}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*arg_constraints.*")
    set_threads()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.2f} before the start, one thread")
    print("\ntime of torch-struct's CKY over that of this engine: median (quartiles)", flush=True)
    for case in CASES: compare(*case, args.rounds)


if __name__ == "__main__": main()
