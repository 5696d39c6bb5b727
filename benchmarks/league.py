"""The league: exact posteriors, samples and training by this library and by its peers, in one run.

    pip install --no-deps --target ~/peers libcirkit einops opt_einsum graphviz sparc-pc torch-struct
    PYTHONPATH=~/peers python benchmarks/league.py        # about five minutes
    python benchmarks/league.py --only sampling training  # needs no package

The packages lie in a folder of their own and change nothing in the environment of this library; one that is
missing is told and left out. libcirkit 0.3.1, sparc-pc 0.8.2 and torch-struct 0.5 were tried. PyJuice 2.6
(its packages are pyjuice and triton) needs a GPU and was not. Each is used as its documentation says. All
begin with the same noisy tokens, so that this library's time has that of its evidence in it. A contender
first agrees with this library in float64; one that does not is told and not timed.

Calls are made in turn with the compiled path of this library, on `--threads` threads; printed are the
median time, and the median of the ratios with its quartiles. `--cpu` takes the processor's time, which
neighbours disturb less. Building a circuit and a first call on one sequence are timed apart; loops that
numba compiles are on disk after the first run. A contender that takes one sequence at a time is timed on
few of them and is charged for the batch. torch-struct parses without being told the tree: a sequence of 256
tokens would take it hundreds of GiB, and it is timed on 8.
"""
import argparse
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads

import numpy as np
import torch
from peers import libcirkit, messages, networks, pyjuice_circuit, samplers, sparc_pc, torch_struct_cfg
from training import Thesis, plain_loop

from rhmdiff.core import set_threads
from rhmdiff.diffusion import MaskingProcess, UniformProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.inference import leaf_posterior, log_likelihood
from rhmdiff.models import TransformerDenoiser
from rhmdiff.training import fit

AGREE = 1e-5  # in probability
FEW = 8       # sequences that are compared, and those timed of a contender that takes one at a time
TARGET = 5
T = 0.5       # of the uniform noise


class Contender(NamedTuple):
    "A way to the posteriors of the leaves."
    name: str
    build: Callable       # (grammar, emission) -> call, noisy tokens (batch, n) -> posteriors (batch, n, v)
    package: str = ""     # where it needs one
    batched: bool = True  # False: one sequence at a time
    chunk: int = 4096     # sequences of a call
    gpu: bool = False     # it needs one


def own(path, grammar, emission, device="cpu"):
    "This library, from noisy tokens."
    log_emission = emission.log().T.contiguous().to(device)
    return lambda x_t: leaf_posterior(grammar, log_emission[x_t.to(device)], path=path)[0].cpu()


LIBCIRKIT = "libcirkit einops opt_einsum graphviz"
OWN = Contender("rhmdiff, compiled path", partial(own, "fast"))
PEERS = [
    Contender("rhmdiff, torch path", partial(own, "reference")),
    Contender("tree-language's way (dense rules, in numba)", messages.build, batched=False),
    Contender("libcirkit, dense rules", libcirkit.build_tucker, LIBCIRKIT, chunk=128),
    Contender("libcirkit, productions", libcirkit.build_productions, LIBCIRKIT, chunk=128),
    Contender("sparc-pc, productions", sparc_pc.build, "sparc-pc", batched=False),
    Contender("rhmdiff, torch path, GPU", partial(own, "reference", device="cuda"), gpu=True),
    Contender("PyJuice, productions", pyjuice_circuit.build, "pyjuice triton", gpu=True),
]
PARSER = Contender("torch-struct, all trees", torch_struct_cfg.build, "torch-struct")


def seconds(call, clock=time.perf_counter):
    "The time of one call."
    start = clock()
    call()
    return clock() - start


def problem(L, batch):
    "A grammar with v=16, m=4, s=2, the emission (v, v) of its noise, and noisy tokens (batch, n)."
    grammar, process = HierarchicalGrammar.random(16, 4, 2, L), UniformProcess(16)
    emission = process.log_evidence(torch.arange(16)[None], T)[0].T.exp()
    return grammar, emission, process.sample(grammar.sample(batch, seed=0)[-1], T, seed=1)


def difference(grammar, emission, call, x_t):
    "The largest difference of a contender from this library in float64, in probability."
    exact = leaf_posterior(grammar, emission.double().log().T[x_t])[0]
    return (call(x_t) - exact).abs().max().item()


def prepare(contender, grammar, emission, x_t):
    "The contender's call, after a line of what it takes to build; None after a line of why it cannot play."
    if contender.gpu and not torch.cuda.is_available():
        print(f"{contender.name:46s}needs a GPU")
        return None
    start = time.perf_counter()
    try:
        call = contender.build(grammar, emission)
        call(x_t[:1])
    except ModuleNotFoundError as missing:
        print(f"{contender.name:46s}not installed ({missing.name}): pip install {contender.package}")
        return None
    spent = time.perf_counter() - start
    off = difference(grammar, emission, call, x_t[:FEW])
    print(f"{contender.name:46s}{spent:9.1f} s{off:14.0e}{'' if off <= AGREE else '  DISAGREES, not timed'}",
          flush=True)
    return call if off <= AGREE else None


def in_turn(call, base, measure, scale=1., steps=1):
    """Print the median time of `call`, ms a step, and the quartiles of its ratio to that of `base`.

    The time of the call is taken `scale` times. Returned is the median ratio."""
    call(), base()
    rounds, clock = measure
    pairs = np.array([(scale * seconds(call, clock), seconds(base, clock)) for _ in range(rounds)])
    low, middle, high = np.quantile(pairs[:, 0] / pairs[:, 1], [0.25, 0.5, 0.75])
    spent = np.median(pairs[:, 0]) / steps * 1e3
    print(f"{spent:12.1f} ms{middle:10.2f}  ({low:.2f} to {high:.2f})", flush=True)
    return middle


def in_chunks(call, parts):
    "The batch, in parts of the size that suits the contender."
    return [call(part) for part in parts]


def race(calls, x, measure):
    "Print the times of all calls for the posteriors of noisy tokens, the first being the yardstick."
    ratios = []
    for contender, call in calls:
        part = x if contender.batched else x[:FEW]
        run = partial(in_chunks, call, part.split(contender.chunk))
        print(f"{contender.name:46s}", end="")
        ratios.append((in_turn(run, partial(calls[0][1], x), measure, len(x) / len(part)), contender.name))
    outside = [(ratio, name) for ratio, name in ratios if not name.startswith("rhmdiff")]
    for ratio, name in sorted(outside)[:1]:
        print(f"the best of the others: {ratio:.1f} times, {name} (target {TARGET})")


def compare(contenders, L, batches, measure):
    "Print who agrees, then the times of all who do, at each batch."
    grammar, emission, x_t = problem(L, max(batches))
    print(f"\nposteriors of the {grammar.n_leaves} leaves, v=16, m=4, s=2, L={L}, float32, from noisy tokens")
    print(f"{'':46s}{'to build':>11s}{'difference':>14s}")
    calls = [(c, prepare(c, grammar, emission, x_t)) for c in (OWN, *contenders)]
    calls = [(c, call) for c, call in calls if call is not None]
    for batch in batches:
        print(f"\nbatch {batch:<40d}{'time':>15s}{'over the compiled path':>28s}")
        race(calls, x_t[:batch], measure)


def sampling(measure):
    "Print what it takes to draw strings, in the ways of others, at the sizes that they take."
    ways = [("random-hierarchy-model's way, by levels", samplers.level_by_level, 20_000),
            ("hierarchy-learning's way, by whole indices", samplers.whole_index, 20_000),
            ("the thesis' way, symbol by symbol", samplers.symbol_by_symbol, 200)]
    for v, m, L in ((8, 2, 5), (16, 4, 8)):
        grammar, count = HierarchicalGrammar.random(v, m, 2, L), 20_000
        def base(): return grammar.sample(count, seed=0, dtype=torch.uint8)
        print(f"\n{count} strings of {grammar.n_leaves} tokens, v={v}, m={m}, s=2, L={L}"
              f"{'time':>12s}{'over `sample`, uint8':>28s}")
        print(f"{'rhmdiff, int64':46s}", end="")
        in_turn(lambda: grammar.sample(count, seed=0), base, measure)
        for name, way, few in ways:
            try: draw = way(grammar)
            except ValueError as refused:
                print(f"{name:46s}refused: {refused}")
                continue
            evidence = torch.nn.functional.one_hot(draw(100), v).float().log()
            assert log_likelihood(grammar, evidence).isfinite().all(), f"{name}: strings outside the language"
            print(f"{name:46s}", end="")
            in_turn(lambda: draw(few), base, measure, count / few)


def training(measure, n=32, v=4, batch=256, steps=4):
    "Print what a step takes of networks of 1.4 million parameters that learn to denoise the same tokens."
    process = MaskingProcess(v)
    leaves = torch.randint(v, (8 * batch, n), generator=torch.Generator().manual_seed(0))
    noisy = process.sample(leaves, torch.rand(len(leaves)), seed=0)
    model = TransformerDenoiser(process, n, layers=7)
    def base(): fit(model, process, leaves, steps=steps, batch_size=batch, device="cpu")
    thesis = Thesis(dropout=0.)
    calls = [("rhmdiff, fit of a TransformerDenoiser", model, base),
             ("the thesis' architecture and loop", thesis,
              lambda: plain_loop(thesis, process, leaves, steps, "cpu"))]
    for name, make in (("hierarchy-learning's way", networks.hierarchy_learning),
                       ("random-hierarchy-model's way", networks.random_hierarchy_model)):
        network = make(v + 1, n, v)
        batches = networks.loader(network, noisy, leaves, batch)
        calls.append((name, network, partial(networks.train, network, batches, steps)))
    print(f"\na step of training, batch {batch}, {n} tokens{'time':>29s}{'over `fit`':>18s}")
    for name, network, call in calls:
        size = sum(p.numel() for p in network.parameters()) / 1e6
        print(f"{f'{name}, {size:.2f} M parameters':58s}", end="")
        in_turn(call, base, measure, steps=steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="time of the processor instead of the clock's")
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 4096])
    parser.add_argument("--only", nargs="+", default=["inference", "sampling", "training"],
                        choices=["inference", "sampling", "training"])
    args = parser.parse_args()
    set_threads(args.threads)
    warnings.filterwarnings("ignore", message=".*arg_constraints.*")
    load = os.getloadavg()[0]
    print(f"{args.threads} threads, load {load:.2f} before the start"
          + (": other work is running, trust ratios only" if load > 0.5 else ""))
    measure = args.rounds, time.process_time if args.cpu else time.perf_counter
    if "inference" in args.only:
        compare(PEERS, 8, args.batches, measure)
        compare([PARSER], 3, [4], measure)
    if "sampling" in args.only: sampling(measure)
    if "training" in args.only: training(measure)


if __name__ == "__main__": main()
