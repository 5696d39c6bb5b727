"""How much of the time of sampling is the denoiser's: tokens a second of `reverse` over the denoiser's own.

    python benchmarks/sampling.py                                # about four minutes
    python benchmarks/sampling.py --sequences 10000 --steps 100  # the size that the page quotes: an hour

Grammar v = 16, m = 4, s = 2, L = 6: 64 leaves. For the exact denoiser and for a transformer (dim 64, 2
layers), and for each sampler of each noise, a batch from pure noise is brought back. The denoiser's call is
timed inside the same run, at every step, so that the ratio does not depend on the clock. `reverse` asks the
exact denoiser for probabilities; its call, which returns their logarithms, is made beside, and its time
taken off that of sampling. Once per sampler a plain run of the same seed, without the stopwatch, shows what
the stopwatch costs.
"""
import argparse
import os
import time

import torch

from rhmdiff.core import pick_device, set_threads
from rhmdiff.diffusion import make_process
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.models import BayesDenoiser, TransformerDenoiser
from rhmdiff.sampling import ONLY_FOR, SAMPLERS, reverse


class Stopwatch:
    "The seconds of a denoiser's calls while it samples, and those of calls that sampling does not need."

    def __init__(self, device):
        self.device, self.seconds, self.beside, self.calls = device, 0.0, 0.0, 0

    def call(self, denoiser, x_t, t):
        start = now(self.device)
        out = denoiser(x_t, t)
        self.seconds, self.calls = self.seconds + now(self.device) - start, self.calls + 1
        return out

    def on(self, denoiser):
        if not isinstance(denoiser, BayesDenoiser): return lambda x_t, t: self.call(denoiser, x_t, t)
        watched = BayesDenoiser(denoiser.grammar, denoiser.process)

        def probabilities(x_t, t):
            before = self.seconds
            self.call(denoiser, x_t, t)
            self.beside += self.seconds - before
            return denoiser.probabilities(x_t, t)
        watched.probabilities = probabilities
        return watched


def now(device):
    if device.type == "cuda": torch.cuda.synchronize()
    return time.perf_counter()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=500, help="sequences in a batch")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    set_threads(args.threads)
    device = pick_device(args.device)
    load = os.getloadavg()[0]
    print(
        f"{args.threads} threads, {device}, load {load:.2f} before the start"
        + ("; other work is running: do not trust the figures" if load > 0.5 else "")
    )
    print(f"{args.sequences} sequences in batches of {args.batch}, {args.steps} steps")
    print(f"{'':38s}{'denoiser':>12s}{'sampling':>12s}   fraction   with the stopwatch / without")
    grammar = HierarchicalGrammar.random(16, 4, 2, 6)
    for name in ("masking", "uniform", "gaussian"):
        process = make_process(name, grammar)
        for kind, denoiser in (
            ("exact", BayesDenoiser(grammar, process)),
            (
                "network",
                TransformerDenoiser(process, grammar.n_leaves, dim=64, heads=4, layers=2, ff=256)
                .to(device)
                .eval(),
            ),
        ):
            for sampler in (s for s in args.samplers if ONLY_FOR.get(s, name) == name):

                def batches(asked, sequences):
                    for k in range(0, sequences, args.batch):
                        x0 = torch.zeros(
                            min(args.batch, sequences - k), grammar.n_leaves, dtype=torch.long, device=device
                        )
                        reverse(
                            process, asked, process.sample(x0, 1.0, seed=k), 1.0, args.steps, sampler, seed=k
                        )

                batches(denoiser, min(args.batch, args.sequences))  # compile, touch the memory
                start = now(device)
                batches(denoiser, min(args.batch, args.sequences))
                plain = now(device) - start
                timed, start = Stopwatch(device), now(device)
                batches(timed.on(denoiser), min(args.batch, args.sequences))
                watched = now(device) - start - timed.beside
                timed, start = Stopwatch(device), now(device)
                batches(timed.on(denoiser), args.sequences)
                spent = now(device) - start - timed.beside
                tokens = args.sequences * grammar.n_leaves * timed.calls / -(-args.sequences // args.batch)
                rates = tokens / timed.seconds / 1e6, tokens / spent / 1e6
                shares = timed.seconds / spent, watched / plain
                print(f"{name + ' ' + sampler + ', ' + kind:38s}{rates[0]:9.2f} M/s{rates[1]:9.2f} M/s"
                      f"{shares[0]:11.2f}{shares[1]:12.2f}", flush=True)


if __name__ == "__main__":
    main()
