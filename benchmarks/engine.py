"""How fast exact inference is: ratios to one copy of the evidence, and to the reference path.

    python benchmarks/engine.py             # about three minutes
    python benchmarks/engine.py --threads 1 --rounds 5

The grammar is the Random Hierarchy Model with v=16, m=4, s=2, L=8, in float32. The yardstick is `copy_` of the evidence into memory that is
already there. Both sides of a ratio are timed in turn; medians of the ratios are printed with their quartiles. Time grows by an
exponent fitted to sizes, 1 where it is proportional. On a machine with CUDA the same is printed for it.
"""
import argparse
import os
import subprocess
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads

import numpy as np
import torch

from rhmdiff.core import set_threads
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.inference import leaf_posterior, posterior


def seconds(call):
    "The wall time of one call, the device's work included."
    start = time.perf_counter()
    call()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio(name, call, unit, rounds, target=None):
    "Print quartiles of time(call) / time(unit), each pair run one after the other; the median time of the call."
    call(), unit()
    pairs = np.array([(seconds(call), seconds(unit)) for _ in range(rounds)])
    middle, low, high = np.quantile(pairs[:, 0] / pairs[:, 1], [0.5, 0.25, 0.75])
    wanted = "" if target is None else f"target {target}"
    print(f"{name:52s}{middle:8.2f}  ({low:.2f} to {high:.2f})  {wanted:14s}{np.median(pairs[:, 0]) * 1e3:9.1f} ms")
    return np.median(pairs[:, 0])


def evidence(grammar, batch, device="cpu"):
    "Mild random evidence."
    return torch.randn(batch, grammar.n_leaves, grammar.vocab[-1], generator=torch.Generator().manual_seed(0)).to(device)


def one_at_a_time(grammar, e):
    "Posteriors of the leaves of one sequence (n, v), node after node with dense tensors v x v x v, as published code for arity 2 does it."
    dense = []
    for rules, p in zip(grammar.rules, grammar.weights):
        table = torch.zeros(len(p), grammar.vocab[-1], grammar.vocab[-1]).index_put_((torch.arange(len(p))[:, None].expand_as(p), rules[..., 0], rules[..., 1]), p.float())
        dense.append(table)
    up = [[x / x.sum() for x in e.exp()]]
    for table in reversed(dense):
        row = [torch.einsum("abc,b,c->a", table, up[0][i], up[0][i + 1]) for i in range(0, len(up[0]), 2)]
        up.insert(0, [x / x.sum() for x in row])
    down = [grammar.prior.float()]
    for l, table in enumerate(dense):
        row = []
        for i, d in enumerate(down):
            left, right = up[l + 1][2 * i], up[l + 1][2 * i + 1]
            for x in (torch.einsum("abc,a,c->b", table, d, right), torch.einsum("abc,a,b->c", table, d, left)): row.append(x / x.sum())
        down = row
    out = torch.stack([d * u for d, u in zip(down, up[-1])])
    return out / out.sum(-1, keepdim=True)


def exponent(name, sizes, work, rounds=5):
    "Print the exponent of the time of `work[size]` against size, which ought to be 1."
    times = []
    for call in work:
        call()
        times.append(min(seconds(call) for _ in range(rounds)))
    slope = np.polyfit(np.log(sizes), np.log(times), 1)[0]
    print(f"{name:52s}{slope:8.2f}  " + ", ".join(f"{s}: {t * 1e3:.3g} ms" for s, t in zip(sizes, times)))


def first_call():
    "Seconds of the first call in a process of its own: with the compiled code on disk, and without any."
    code = ("import time, torch; from rhmdiff.grammar import HierarchicalGrammar as G; from rhmdiff.inference import posterior\n"
            "g = G.random(16, 4, 2, 3); e = torch.zeros(1, 8, 16); a = time.perf_counter(); posterior(g, e); print(time.perf_counter() - a)")
    import tempfile
    with tempfile.TemporaryDirectory() as cache:
        environment = dict(os.environ, NUMBA_CACHE_DIR=cache)
        return [float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout) for _ in range(2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    set_threads(args.threads)
    load = os.getloadavg()[0]
    print(f"{args.threads} threads, load {load:.2f} before the start" + (": the machine is busy, do not trust the figures" if load > 0.5 else ""))
    grammar = HierarchicalGrammar.random(16, 4, 2, 8)
    e = evidence(grammar, 4096)
    target = torch.empty_like(e)
    def copy(): target.copy_(e)
    print("\nbatch 4096, time over that of one copy of the evidence: median (quartiles)")
    ratio("leaf posteriors", lambda: leaf_posterior(grammar, e), copy, args.rounds, 8)
    ratio("all levels", lambda: posterior(grammar, e), copy, args.rounds, 12)
    few = e[:512].clone()
    ratio("reference path, all levels (batch 512)", lambda: posterior(grammar, few, path="reference"), lambda: target[:512].copy_(few), 5)
    print("\ntime of the reference path over that of the fast path, all levels")
    for batch, wanted in ((256, 8), (1, 1)):
        x = e[:batch].clone()
        ratio(f"batch {batch}", lambda: posterior(grammar, x, path="reference"), lambda: posterior(grammar, x, path="fast"), args.rounds, wanted)
    single = seconds(lambda: one_at_a_time(grammar, e[0]))
    assert (one_at_a_time(grammar, e[0]) - leaf_posterior(grammar, e[:1])[0][0]).abs().max() < 1e-4
    print(f"\none sequence at a time, dense message passing: {single * 1e3:.0f} ms a sequence; the fast path at batch 4096: {seconds(lambda: leaf_posterior(grammar, e)) / 4.096:.4f} ms")
    print("\nexponent of time")
    deep = [HierarchicalGrammar.random(8, 3, 2, L) for L in range(4, 13)]
    data = [evidence(g, 64) for g in deep]
    exponent("against leaves, L = 4 to 12 (v=8, m=3, batch 64)", [g.n_leaves for g in deep], [lambda g=g, x=x: leaf_posterior(g, x) for g, x in zip(deep, data)])
    wide = [HierarchicalGrammar.random(v, v // 4, 2, 5) for v in (4, 8, 16, 32, 64)]
    data = [evidence(g, 256) for g in wide]
    exponent("against v·m, v = 4 to 64 (m = v/4, L=5, batch 256)", [g.vocab[0] * g.rules[0].shape[1] for g in wide], [lambda g=g, x=x: leaf_posterior(g, x) for g, x in zip(wide, data)])
    print("\nfirst call: {:.1f} s to compile, {:.1f} s once the compiled code is on disk".format(*first_call()))
    if torch.cuda.is_available():
        print("\nCUDA, reference path, time over that of one copy on the device")
        for batch in (512, 4096):
            x = evidence(grammar, batch, "cuda")
            there = torch.empty_like(x)
            ratio(f"all levels, batch {batch}", lambda: posterior(grammar, x), lambda: there.copy_(x), args.rounds, 10)


if __name__ == "__main__": main()
