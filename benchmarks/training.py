"""How fast networks train: the fraction of the machine's own rate of matrix products that `fit` reaches.

    python benchmarks/training.py             # about two minutes
    python benchmarks/training.py --threads 1 --rounds 5

Batches of 256 sequences of 32 symbols out of 4, masking noise, about 1.4 million parameters, float32.
Useful work is counted as 6 operations a parameter and token; the yardstick is the product of two 1024 x
1024 matrices in the same type. Each round times the yardstick, a few steps of every network, and the
yardstick again; medians over rounds are printed with their quartiles.

The thesis' architecture is written out below as it was: normalisation after each branch, and
`nn.MultiheadAttention` that returns its weights, in a plain loop; it was trained with dropout 0.1. Threads
wait passively; `OMP_WAIT_POLICY=ACTIVE` shows the other way, in which the plain loop is about a tenth
faster and `fit`, whose threads of torch then spin beside its own, much slower. On a machine with CUDA,
bfloat16 and `torch.compile` are timed as well, there against the yardstick in bfloat16.
"""
import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rhmdiff.core import set_threads
from rhmdiff.diffusion import MaskingProcess
from rhmdiff.models import EncoderDecoder, TransformerDenoiser
from rhmdiff.training import fit

N, V, BATCH = 32, 4, 256


class ThesisLayer(nn.Module):
    "Attention, with `cross` attention to a memory, and a perceptron, each normalised after it is added."

    def __init__(self, dim, heads, ff, dropout, cross):
        super().__init__()
        self.attend = nn.ModuleList(
            nn.MultiheadAttention(dim, heads, dropout, batch_first=True) for _ in range(1 + cross)
        )
        self.ff = nn.Sequential(nn.Linear(dim, ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ff, dim))
        self.norms, self.dropout = (
            nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 + cross)),
            nn.Dropout(dropout),
        )

    def forward(self, h, memory=None):
        for attention, norm, other in zip(self.attend, self.norms, (h, memory)):
            other = h if other is None or other is memory and attention is self.attend[0] else other
            h = norm(h + self.dropout(attention(h, other, other)[0]))
        return self.norms[-1](h + self.dropout(self.ff(h)))


class Thesis(nn.Module):
    "The thesis' encoder-decoder, 3 + 3 layers (Aiello 2025), reading one-hot symbols and the noise level."

    def __init__(self, dropout, dim=128, heads=8, ff=512):
        super().__init__()
        self.embed, self.time, self.position = (
            nn.Linear(V + 1, dim),
            nn.Linear(1, dim),
            nn.Parameter(torch.randn(N, dim)),
        )
        self.encoder = nn.ModuleList(ThesisLayer(dim, heads, ff, dropout, False) for _ in range(3))
        self.decoder = nn.ModuleList(ThesisLayer(dim, heads, ff, dropout, True) for _ in range(3))
        self.head = nn.Linear(dim, V)

    def forward(self, x_t, t):
        h = memory = (
            self.embed(F.one_hot(x_t, V + 1).float()) + self.time(t[:, None])[:, None] + self.position
        )
        for layer in self.encoder: memory = layer(memory)
        for layer in self.decoder: h = layer(h, memory)
        return self.head(h)


def plain_loop(model, process, leaves, steps, device):
    "Train as the thesis did: a loop of AdamW on noisy batches."
    model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for _ in range(steps):
        x0 = leaves[torch.randint(len(leaves), (BATCH,))].to(device)
        t = torch.rand(BATCH, device=device)
        x_t = process.sample(x0, t)
        loss = F.cross_entropy(model(x_t, t).transpose(1, 2), x0)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()


def seconds(call):
    "The wall time of one call, the device's work included."
    if torch.cuda.is_available(): torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return time.perf_counter() - start


def yardstick(device, dtype):
    "Operations a second of products of 1024 x 1024 matrices, the median of ten."
    a, b = (torch.randn(1024, 1024, device=device, dtype=dtype) for _ in range(2))
    repeats = 100 if device == "cuda" else 1
    def products():
        for _ in range(repeats): a @ b
    products()
    return 2 * 1024**3 * repeats / np.median([seconds(products) for _ in range(10)])


def contenders(device):
    "Name -> (model, call that trains it for some steps)."
    process, leaves = (
        MaskingProcess(V),
        torch.randint(V, (4096, N), generator=torch.Generator().manual_seed(0)),
    )
    out = {}
    for dropout in (0.0, 0.1):
        for name, model in (
            ("TransformerDenoiser, 7 layers", TransformerDenoiser(process, N, layers=7, dropout=dropout)),
            ("EncoderDecoder, 3 + 3", EncoderDecoder(process, N, dropout=dropout)),
        ):
            out[f"{name}, dropout {dropout}"] = (
                model,
                lambda steps, model=model: fit(
                    model, process, leaves, steps=steps, batch_size=BATCH, device=device
                ),
            )
        out[f"the thesis' architecture, dropout {dropout}"] = (
            (thesis := Thesis(dropout)),
            lambda steps, model=thesis: plain_loop(model, process, leaves, steps, device),
        )
    if device == "cuda":
        for options in (dict(precision="bf16"), dict(precision="bf16", compile=True)):
            model = TransformerDenoiser(process, N, layers=7)
            out[f"TransformerDenoiser, 7 layers, {', '.join(map(str, options))}"] = (
                model,
                lambda steps, model=model, options=options: fit(
                    model, process, leaves, steps=steps, batch_size=BATCH, device=device, **options
                ),
            )
    return out


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    set_threads(args.threads)
    load = os.getloadavg()[0]
    print(
        f"{args.threads} threads, load {load:.2f} before the start"
        + ("; other work is running: do not trust the figures" if load > 0.5 else "")
    )
    device, steps = ("cuda", 50) if torch.cuda.is_available() else ("cpu", 2)
    runs, fractions, times = contenders(device), {}, {}
    for _, train in runs.values(): train(1)
    for _ in range(args.rounds):
        for name, (model, train) in runs.items():
            dtype = torch.bfloat16 if "bf16" in name else torch.float32
            before, spent, after = (
                yardstick(device, dtype),
                seconds(lambda: train(steps)),
                yardstick(device, dtype),
            )
            work = 6 * sum(p.numel() for p in model.parameters()) * BATCH * N * steps
            fractions.setdefault(name, []).append(work / spent / ((before + after) / 2))
            times.setdefault(name, []).append(spent / steps)
    head = f"{'fraction of the rate of matrix products':60s}{'median':>8s}"
    print(f"{head}  quartiles      parameters   s a step")
    for name, (model, _) in runs.items():
        low, middle, high = np.quantile(fractions[name], [0.25, 0.5, 0.75])
        size = sum(p.numel() for p in model.parameters())
        spent = np.median(times[name])
        print(f"{name:60s}{middle:8.2f}  {low:.2f} to {high:.2f}   {size:10,d}   {spent:8.3f}")
    print("time of the thesis' architecture over that of each, step by step of the same round (target 3):")
    for dropout in (0.0, 0.1):
        base = np.array(times[f"the thesis' architecture, dropout {dropout}"])
        for name in times:
            if name.endswith(f"dropout {dropout}") and not name.startswith("the thesis"):
                low, middle, high = np.quantile(base / np.array(times[name]), [0.25, 0.5, 0.75])
                print(f"{name:60s}{middle:8.2f}  {low:.2f} to {high:.2f}")


if __name__ == "__main__":
    main()
