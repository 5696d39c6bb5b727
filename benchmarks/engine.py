"""How fast exact inference is: ratios to one copy of the evidence, and to the reference path.

    python benchmarks/engine.py             # about three minutes
    python benchmarks/engine.py --threads 1 --rounds 5

The grammar is the Random Hierarchy Model with v=16, m=4, s=2, L=8, in float32. The yardstick is `copy_` of
the evidence into memory that is already there. Both sides of a ratio are timed in turn; medians of the
ratios are printed with their quartiles. Time grows by an exponent fitted to sizes, 1 where it is
proportional. On a machine with CUDA the same is printed for it.
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
from rhmdiff.diffusion import MaskingProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.inference import leaf_posterior, posterior
from rhmdiff.models import EmpiricalDenoiser


def seconds(call):
    "The wall time of one call, the device's work included."
    start = time.perf_counter()
    call()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio(name, call, unit, rounds, target=None):
    "Print quartiles of time(call) / time(unit), each pair run in turn; the median time of the call."
    call(), unit()
    pairs = np.array([(seconds(call), seconds(unit)) for _ in range(rounds)])
    middle, low, high = np.quantile(pairs[:, 0] / pairs[:, 1], [0.5, 0.25, 0.75])
    wanted = "" if target is None else f"target {target}"
    spent = f"{np.median(pairs[:, 0]) * 1e3:9.1f} ms"
    print(f"{name:52s}{middle:8.2f}  ({low:.2f} to {high:.2f})  {wanted:14s}{spent}")
    return np.median(pairs[:, 0])


def evidence(grammar, batch, device="cpu"):
    "Mild random evidence."
    return torch.randn(
        batch, grammar.n_leaves, grammar.vocab[-1], generator=torch.Generator().manual_seed(0)
    ).to(device)


def one_at_a_time(grammar, e):
    """Posteriors of the leaves of one sequence (n, v), node after node, with dense tensors v x v x v.

    Published code for arity 2 does it so."""
    dense = []
    for rules, p in zip(grammar.rules, grammar.weights):
        table = torch.zeros(len(p), grammar.vocab[-1], grammar.vocab[-1]).index_put_(
            (torch.arange(len(p))[:, None].expand_as(p), rules[..., 0], rules[..., 1]), p.float()
        )
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
            for x in (
                torch.einsum("abc,a,c->b", table, d, right),
                torch.einsum("abc,a,b->c", table, d, left),
            ):
                row.append(x / x.sum())
        down = row
    out = torch.stack([d * u for d, u in zip(down, up[-1])])
    return out / out.sum(-1, keepdim=True)


def exponent(name, sizes, grammars, rounds=5):
    "Print the exponent of the time a sequence against size, which ought to be 1; batches are of 64 MiB."
    times = []
    for grammar in grammars:
        e = evidence(grammar, 2**24 // (grammar.n_leaves * grammar.vocab[-1]))
        leaf_posterior(grammar, e)
        times.append(np.median([seconds(lambda: leaf_posterior(grammar, e)) for _ in range(rounds)]) / len(e))
    slope = np.polyfit(np.log(sizes), np.log(times), 1)[0]
    print(
        f"{name:52s}{slope:8.2f}  " + ", ".join(f"{s}: {t * 1e6:.3g}" for s, t in zip(sizes, times)) + " µs"
    )


def memorizer(rounds):
    "Print what the posterior under 10^5 training sequences takes, against the rate of matrix products."
    grammar, a = HierarchicalGrammar.random(16, 4, 2, 6), torch.randn(2048, 2048)
    process = MaskingProcess(16)
    denoiser = EmpiricalDenoiser(grammar.sample_unique(100_000, seed=0)[-1], process)
    x_t = process.sample(denoiser.leaves[:256], 0.5, seed=0)
    denoiser(x_t[:16], 0.5)
    spent = np.median([seconds(lambda: denoiser(x_t, 0.5)) for _ in range(rounds)])
    rate = 2 * 2048**3 / np.median([seconds(lambda: a @ a) for _ in range(2 * rounds)])
    flops = 3 * 2 * 256 * 64 * 16 * 100_000  # the scores, the hard zeros, the leaves
    print(f"\nEmpiricalDenoiser, 10^5 sequences of 64 tokens, batch 256, masking: {spent:.2f} s, "
          f"{flops / spent / rate:.0%} of the rate of a 2048 x 2048 product")


def first_call():
    "Seconds of the first call in a process of its own: with the compiled code on disk, and without any."
    code = ("import time, torch; from rhmdiff.grammar import HierarchicalGrammar as G\n"
            "from rhmdiff.inference import posterior\n"
            "g = G.random(16, 4, 2, 3); e = torch.zeros(1, 8, 16); a = time.perf_counter()\n"
            "posterior(g, e); print(time.perf_counter() - a)")
    import tempfile
    with tempfile.TemporaryDirectory() as cache:
        environment = dict(os.environ, NUMBA_CACHE_DIR=cache)
        return [
            float(
                subprocess.run(
                    [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
                ).stdout
            )
            for _ in range(2)
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    set_threads(args.threads)
    load = os.getloadavg()[0]
    print(
        f"{args.threads} threads, load {load:.2f} before the start"
        + (": the machine is busy, do not trust the figures" if load > 0.5 else "")
    )
    grammar = HierarchicalGrammar.random(16, 4, 2, 8)
    e = evidence(grammar, 4096)
    target = torch.empty_like(e)
    def copy(): target.copy_(e)
    print("\nbatch 4096, time over that of one copy of the evidence: median (quartiles)")
    ratio("leaf posteriors", lambda: leaf_posterior(grammar, e), copy, args.rounds, 8)
    ratio("all levels", lambda: posterior(grammar, e), copy, args.rounds, 12)
    few = e[:512].clone()
    ratio(
        "reference path, all levels (batch 512)",
        lambda: posterior(grammar, few, path="reference"),
        lambda: target[:512].copy_(few),
        5,
    )
    print("\ntime of the reference path over that of the fast path, all levels")
    for batch, wanted in ((256, 8), (1, 1)):
        x = e[:batch].clone()
        ratio(
            f"batch {batch}",
            lambda: posterior(grammar, x, path="reference"),
            lambda: posterior(grammar, x, path="fast"),
            args.rounds,
            wanted,
        )
    single = seconds(lambda: one_at_a_time(grammar, e[0]))
    assert (one_at_a_time(grammar, e[0]) - leaf_posterior(grammar, e[:1])[0][0]).abs().max() < 1e-4
    each = seconds(lambda: leaf_posterior(grammar, e)) / 4.096
    print(f"\none sequence at a time, dense message passing: {single * 1e3:.0f} ms a sequence; "
          f"the fast path at batch 4096: {each:.4f} ms")
    print("\nexponent of time")
    deep = [HierarchicalGrammar.random(8, 3, 2, L) for L in range(4, 13)]
    exponent("against leaves, L = 4 to 12 (v=8, m=3)", [g.n_leaves for g in deep], deep)
    wide = [HierarchicalGrammar.random(v, 4, 2, 5) for v in (4, 8, 16, 32, 64)]
    exponent("against v·m, v = 4 to 64 (m=4, L=5)", [4 * g.vocab[0] for g in wide], wide)
    memorizer(rounds=3)
    print(
        "\nfirst call: {:.1f} s to compile, {:.1f} s once the compiled code is on disk".format(*first_call())
    )
    if torch.cuda.is_available():
        print("\nCUDA, reference path, time over that of one copy on the device")
        for batch in (512, 4096):
            x = evidence(grammar, batch, "cuda")
            there = torch.empty_like(x)
            ratio(
                f"all levels, batch {batch}",
                lambda: posterior(grammar, x),
                lambda: there.copy_(x),
                args.rounds,
                10,
            )


if __name__ == "__main__": main()
