"""Bad arguments to models, sampling, training, observables, plots, protocols and runs are refused."""
import importlib
import json
import math
import zipfile
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from refusals import KINDS, NAN, Call, Thing, failures, outcome
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import tiny, write_notebook
from torch import nn

from rhmdiff import models, observables, plots, protocols, runs, sampling, training
from rhmdiff.core import generator
from rhmdiff.diffusion import BeliefProcess, DiffusionProcess, MaskingProcess, Process, UniformProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.inference import posterior
from rhmdiff.models import BayesDenoiser, TransformerDenoiser

KINDS.update({
    "numbers": ["text", None, {"a": 1}, [0.1, "x"], [1j, 1j], [None, 1.], 3, Thing()],   # (k,)
    "optional numbers": ["text", {"a": 1}, [0.1, "x"], [1j, 1j], 3, Thing()],            # (k,) or None
    "frame": ["text", 3, None, [1], {"a": 1}, pd.DataFrame(), torch.ones(2), Thing()],
    "seed": ["two", [1], {"a": 1}, 1j, NAN, True, 2.5, -1, 2**64, torch.ones(2), Thing()],
    "device": ["moon", 3, None, ["cpu"], torch.ones(2), Thing()],
    "logits": ["text", 3, None, [[0.5]], torch.ones(4, 4), torch.full((4, 4, 4), NAN),
               torch.ones(4, 4, 5), torch.ones(4, 5, 4), torch.ones(1, 1, 1, 1, 1),
               torch.ones(4, 4, 4, dtype=torch.complex64), torch.ones(4, 4, 4, dtype=torch.long), Thing()],
    "like": [None, [], (), {}, 1j, torch.ones(2), Thing()],                              # a parameter's value
    "scheduler": [3, ["a"], {"a": 1}, True, "", Thing()],
    "named": ["text", 3, None, [1], [("a", 1)], torch.ones(2), Thing()],                 # a mapping
})
HUGE = 10**15

def case(function, good, kinds, more=None, fine=None, named=None) -> Call:
    "A call; of values that several calls share, those of its own arguments."
    own = {name: values for name, values in (more or {}).items() if name in kinds}
    return Call(function, good, kinds, own, fine or {}, named or {})

GRAMMAR = HierarchicalGrammar.random(4, 2, 2, 2, seed=1)
NOISE = MaskingProcess(4)
UNIFORM = UniformProcess(4)
GAUSSIAN = DiffusionProcess(4)
LEVELS = GRAMMAR.sample(4, seed=0)
LEAVES = LEVELS[-1]
CLASSES = LEVELS[0][:, 0]
X_T = NOISE.sample(LEAVES, 0.5, seed=1)
LOGITS = torch.linspace(-1, 1, 64).view(4, 4, 4)
BAYES = BayesDenoiser(GRAMMAR, NOISE)
SIZES = {"dim": 8, "heads": 2, "layers": 1, "ff": 8}
NET = TransformerDenoiser(NOISE, 4, **SIZES)
CLASSIFIER = models.TransformerClassifier(NOISE, 4, 4, **SIZES)
H = torch.ones(2, 4, 8)


def states():
    "Values that are no states (batch, n, 8)."
    return ["text", 3, None, torch.ones(4), torch.ones(2, 4, 7), torch.ones(2, 4, 8, dtype=torch.long)]


def network_calls():
    "Constructors of networks and of what they are made of."
    kinds = {"process": "object", "n": "int", "dim": "int", "seed": "int"}
    block = {"heads": "int", "ff": "int", "dropout": "number"}
    more = {"n": [0, HUGE], "dim": [0, HUGE], "ff": [0, HUGE], "heads": [0, 3], "layers": [0, 10**9],
            "dropout": [-0.1, 1.1], "process": [MaskingProcess, BeliefProcess(4)], "seed": [2**64]}
    plain = {"process": NOISE, "n": 4, "dropout": 0.}
    yield case(TransformerDenoiser, plain | SIZES, kinds | block | {"layers": "int",
               "self_conditioning": "flag"}, more)
    yield case(models.TransformerClassifier, plain | SIZES | {"n_classes": 2},
               kinds | block | {"layers": "int", "n_classes": "int"}, more | {"n_classes": [0, HUGE]})
    sizes = {"dim": 8, "heads": 2, "ff": 8, "encoders": 1, "decoders": 1}
    yield case(models.EncoderDecoder, plain | sizes, kinds | block | {"encoders": "int", "decoders": "int"},
               more | {"encoders": [0, 10**9], "decoders": [0, 10**9]})
    arity = [0, 3, HUGE, [2, 3], [2, 2.5], [1] * 10**6, [2] * 10**6]
    yield case(models.UNetDenoiser, plain | {"arity": 2, "dim": 8, "ff": 8},
               kinds | {"arity": "int", "ff": "int", "dropout": "number"}, more | {"arity": arity})
    yield case(models.Attention, {"dim": 8, "heads": 2, "dropout": 0.},
               {"dim": "int", "heads": "int", "dropout": "number", "to_memory": "flag"}, more)
    yield case(models.Perceptron, {"dim": 8, "ff": 8, "dropout": 0.},
               {"dim": "int", "ff": "int", "dropout": "number"}, more)
    yield case(models.Block, {"dim": 8, "heads": 2, "ff": 8, "dropout": 0.},
               {"dim": "int", **block, "to_memory": "flag"}, more)
    yield case(models.Dropout, {"p": 0.1}, {"p": "number"}, {"p": [-0.1, 1.1]})
    for layer in (models.Attention(8, 2, 0.), models.Perceptron(8, 8, 0.), models.Block(8, 2, 8, 0.)):
        yield case(layer.forward, {"h": H}, {"h": "tensor"}, {"h": states()},
                   fine={"h": [torch.full((2, 2), NAN)]})
    for layer in (models.Attention(8, 2, 0., True), models.Block(8, 2, 8, 0., True)):
        yield case(layer.forward, {"h": H, "memory": H}, {"memory": "tensor"},
                   {"memory": [*states(), torch.ones(3, 4, 8)]})
    yield case(models.Dropout(0.1).forward, {"h": H}, {"h": "object"}, fine={"h": [torch.ones(2)]})


def exact_calls():
    "The exact denoisers."
    pair = {"grammar": GRAMMAR, "process": NOISE}
    kinds = {"grammar": "object", "process": "object"}
    more = {"process": [MaskingProcess(5), MaskingProcess], "grammar": [HierarchicalGrammar]}
    batch = {"x_t": "symbols", "t": "times"}
    yield case(BayesDenoiser, pair, kinds, more)
    yield case(models.RungDenoiser, pair | {"k": 1}, kinds | {"k": "int"}, more | {"k": [3, HUGE]})
    yield case(models.LocalDenoiser, pair | {"height": 1}, kinds | {"height": "int"},
               more | {"height": [3, HUGE]})
    given = models.ClassDenoiser(GRAMMAR, NOISE, CLASSES)
    yield case(models.ClassDenoiser, pair | {"classes": CLASSES}, kinds | {"classes": "symbols"}, more)
    memory = models.EmpiricalDenoiser(LEAVES, NOISE)
    yield case(models.EmpiricalDenoiser, {"train_leaves": LEAVES, "process": NOISE},
               {"train_leaves": "symbols", "process": "object", "memory_bytes": "int"},
               {"train_leaves": [LEAVES[:0]], "memory_bytes": [0]})
    for method in (BAYES.posterior, BAYES.probabilities, BAYES.__call__, given.probabilities, given.__call__,
                   memory.posterior, memory.__call__):
        yield case(method, {"x_t": X_T, "t": 0.5}, batch, {"x_t": [X_T[:, :3]]})
    yield case(models.leaf_likelihoods, {"process": NOISE, "x_t": X_T, "t": 0.5},
               batch | {"process": "object"})
    yield case(models.class_grammar, {"grammar": GRAMMAR, "c": 0}, {"grammar": "object", "c": "int"},
               {"c": [4, HUGE]})
    yield case(models.by_class, {"classes": CLASSES, "call": lambda c, rows: rows},
               {"classes": "symbols", "call": "object"})
    yield case(models.check_classes, {"classes": CLASSES, "count": 4}, {"classes": "symbols", "count": "int",
               "batch": "int"}, {"classes": [CLASSES + 4]}, fine={"batch": [None]})


def model_calls(folder):
    "Networks and heads as they are called, files, probes."
    batch = {"x_t": "symbols", "t": "times"}
    wrong = {"x_t": [X_T[:, :3]], "x0_hat": [LOGITS[:2]]}
    aware = TransformerDenoiser(NOISE, 4, **SIZES, self_conditioning=True)
    for method in (NET.forward, NET.last, NET.hidden, CLASSIFIER.forward):
        yield case(method, {"x_t": X_T, "t": 0.5}, batch, wrong)
    yield case(NET.forward, {"x_t": X_T, "t": 0.5}, {"x0_hat": "logits"}, fine={"x0_hat": [None]})
    yield case(aware.forward, {"x_t": X_T, "t": 0.5}, {"x0_hat": "logits"}, fine={"x0_hat": [
        None, torch.full((4, 4, 4), NAN)]})
    for kind in (models.SiblingHead, models.GrammarHead):
        head = kind(NET, GRAMMAR)
        yield case(kind, {"denoiser": NET, "grammar": GRAMMAR}, {"denoiser": "object", "grammar": "object"})
        yield case(head.forward, {"x_t": X_T, "t": 0.5}, batch, wrong)
        yield case(head.constrain, {"log_p": LOGITS.log_softmax(-1)}, {"log_p": "logits"})
    yield case(models.ungrammatical_mass, {"grammar": GRAMMAR, "logits": LOGITS},
               {"grammar": "object", "logits": "logits"})
    file = models.save_model(NET, folder/"net.safetensors")
    own = TransformerDenoiser(OwnNoise(4), 4, **SIZES)
    yield case(models.save_model, {"model": NET, "path": file}, {"model": "object", "path": "path"},
               {"model": [nn.Linear(2, 2), own], "path": [folder, "", None]})
    yield case(models.load_model, {"path": file}, {"path": "path", "device": "device"},
               {"path": [folder, "", None, folder/"nowhere"]})
    yield case(models.probe, {"network": NET, "grammar": GRAMMAR, "times": [0.5], "n": 8},
               {"network": "object", "grammar": "object", "times": "list", "n": "int", "seed": "int",
                "ridge": "number"}, {"times": [[1.5], [], [NAN], 0.5], "n": [1, HUGE], "network": [BAYES]})


class OwnNoise(Process):
    "A noise of one's own."
    name = "mine"
    def sample(self, x0, t, seed=None): return x0
    def log_evidence(self, x_t, t): return torch.zeros(*x_t.shape, self.v)


def transposed(x_t, t): return torch.zeros(len(x_t), 5, x_t.shape[1])
def not_numbers(x_t, t): return torch.full((*x_t.shape[:2], 4), NAN)
def nothing_possible(x_t, t): return torch.full((*x_t.shape[:2], 4), -math.inf)
def words(x_t, t): return "no logits"
def symbols(x_t, t): return torch.zeros(*x_t.shape[:2], 4, dtype=torch.long)

ANSWERS = [transposed, not_numbers, nothing_possible, words, symbols]


def sampling_calls():
    "Samplers and what goes round them."
    blank = torch.full((4, 4), 4)
    half = torch.full((4,), 0.5)
    now = sampling.Step(blank, BAYES.probabilities(blank, 1.), torch.ones(4), half, generator(0))
    soft = now._replace(x=GAUSSIAN.sample(LEAVES, 1., seed=0))
    hard = now._replace(x=LEAVES)
    bad = [now._replace(x="text"), now._replace(x0_probs=torch.ones(2)), now._replace(t=0.5),
           now._replace(g=3), now._replace(t_next=None), now._replace(x0_probs=LOGITS * NAN)]
    kinds = {"process": "object", "now": "object"}
    for sampler, process, step in ((sampling.ancestral, NOISE, now), (sampling.renoise, NOISE, now),
                                   (sampling.ddpm, GAUSSIAN, soft), (sampling.ddim, GAUSSIAN, soft),
                                   (sampling.tau_leaping, UNIFORM, hard)):
        other = [] if sampler in (sampling.ancestral, sampling.renoise) else [NOISE]
        yield case(sampler, {"process": process, "now": step}, kinds, {"process": other, "now": bad})
    for sampler in (sampling.unmask, sampling.unmask_by_confidence):
        yield case(sampler, {"process": NOISE, "now": now, "n_reveal": torch.ones(4, 1, dtype=torch.long)},
                   kinds | {"n_reveal": "tensor"}, {"process": [UNIFORM], "now": bad})
    back = {"process": NOISE, "denoiser": BAYES, "x_t": X_T, "t": 0.5, "steps": 2}
    kinds = {"process": "object", "denoiser": "object", "x_t": "symbols", "t": "times", "steps": "int",
             "sampler": "choice", "seed": "seed", "trajectory": "flag", "candidates": "int"}
    steps = {"steps": [0, 10**12, [2, 1], [2, 0, 2], [1., 0.5], [0., 1.], [1., "x", 0.], [NAN, 0.], "text"]}
    more = steps | {"process": [BeliefProcess(4), UNIFORM], "denoiser": [*ANSWERS, BayesDenoiser],
                    "x_t": [X_T[:, :3]], "sampler": ["ddim", "tau_leaping"], "candidates": [0]}
    yield case(sampling.reverse, back, kinds | {"classes": "symbols", "classifier": "object"}, more,
               fine={"classes": [None], "classifier": [None]})
    yield case(sampling.reverse, back | {"classes": CLASSES, "classifier": CLASSIFIER},
               {"classifier": "object", "candidates": "int"},
               {"classifier": [*ANSWERS[3:], lambda x, t: LOGITS], "candidates": [0, HUGE]},
               fine={"classifier": [None]})
    yield Call(sampling.tokens_seen, {"steps": 2, "n": 8}, {"steps": "int", "n": "int"},
               {"steps": [0, HUGE, [1, 1, 0], [0.5, 0], [3, 3]], "n": [0, HUGE]})
    yield Call(sampling.Curve.of, {"entropy": torch.ones(2, 3), "surprise": torch.ones(2, 3)},
               {"entropy": "tensor", "surprise": "tensor"},
               {"entropy": [torch.ones(3), torch.ones(0, 3), torch.ones(2, 3).long()],
                "surprise": [torch.ones(2, 4), torch.ones(3)]})
    yield Call(sampling.best_schedule, {"curve": [1., 0.5], "steps": 1}, {"steps": "int"},
               {"curve": ["text", None, 1., [], [[1.]], [NAN], ["a"], [True], object()],
                "steps": [0, 3, HUGE]})
    yield Call(sampling.cosine_schedule, {"steps": 2}, {"steps": "int"}, {"steps": [0, HUGE]})
    forth = {"process": NOISE, "denoiser": BAYES, "x0": LEAVES, "t": 0.5, "steps": 2}
    kinds = {k: x for k, x in kinds.items() if k not in ("x_t", "candidates")} | {"x0": "symbols"}
    more = {k: x for k, x in more.items() if k not in ("x_t", "candidates")}
    yield case(sampling.forward_backward, forth, kinds, more | {"x0": [LEAVES + 4, LEAVES[:, :3]]})
    yield case(sampling.forward_backward, forth, {"nothing_like_it": "flag"})
    p = torch.full((4, 4, 4), 0.25, dtype=torch.float64)
    for process, sampler in ((NOISE, "ancestral"), (UNIFORM, "tau_leaping"), (UNIFORM, "renoise")):
        yield case(sampling.step_distribution, {"process": process, "sampler": sampler, "p": p,
                   "x_t": X_T.clamp(max=3), "t": 0.5, "s": 0.2},
                   {"process": "object", "sampler": "choice", "p": "logits", "x_t": "symbols", "t": "number",
                    "s": "number"}, {"t": [0.1, 1.5], "s": [0.5, -1], "p": [-p], "process": [GAUSSIAN]})
    yield case(sampling.output_distribution, {"process": NOISE, "denoiser": BAYES, "n": 4, "steps": 2},
               {"process": "object", "denoiser": "object", "n": "int", "steps": "int", "sampler": "choice"},
               steps | {"process": [GAUSSIAN], "n": [0, 6, HUGE], "denoiser": ANSWERS})
    yield case(sampling.Moments, {}, {"covariance": "flag"})
    yield case(lambda x: sampling.Moments().add(x), {"x": torch.ones(3)}, {"x": "numbers"},
               {"x": [torch.ones(2, 2, 2), [[1.], [1., 2.]]]}, {"x": [[None, 1.]]})
    def same(x0, back): return {"same": (x0 == back).double()}
    yield case(sampling.forward_backward_sweep,
               {"process": NOISE, "denoiser": BAYES, "leaves": GRAMMAR, "t": [0.5], "measure": same, "n": 4,
                "steps": 2, "device": "cpu"},
               {"process": "object", "denoiser": "object", "leaves": "object", "t": "list",
                "measure": "object", "n": "int", "steps": "int", "sampler": "choice", "seed": "int",
                "covariance": "list", "chunk_size": "int", "device": "device", "file": "path"},
               steps | {"leaves": [LEAVES[:2], LEAVES.float(), lambda n, seed: 3],
                        "t": [[], [1.5], [NAN], 0.5], "denoiser": ANSWERS, "n": [1],
                        "measure": [lambda a, b: 3, lambda a, b: {"x": "text"}, lambda a, b: {},
                                    lambda a, b: {1: torch.ones(4)}, lambda a, b: {"x": torch.ones(3)}],
                        "covariance": [["nothing"], [3]], "chunk_size": [0]})


def nothing(n, seed=None): return None
def floats(n, seed=None): return torch.ones(n, 4)
def too_few(n, seed=None): return LEAVES[:1]
def short(n, seed=None): return torch.zeros(n, 3, dtype=torch.long)

STREAMS = [nothing, floats, too_few]


def loss_calls():
    "Losses and batches."
    loss = {"logits": LOGITS, "x0": LEAVES}
    kinds = {"logits": "logits", "x0": "symbols", "smoothing": "number"}
    more = {"x0": [LEAVES[:, :3], LEAVES[:2], LEAVES + 4], "smoothing": [5, -0.1]}
    fine = {"logits": [torch.full((4, 4, 4), NAN), torch.ones(4, 4, 5)]}  # NaN of a run that has failed
    yield case(training.cross_entropy, loss, kinds, more, fine)
    yield case(training.denoising_loss, loss | {"noised": X_T == 4},
               kinds | {"noised": "tensor", "weight": "tensor"},
               more | {"noised": [torch.ones(4, 4), torch.ones(2, 4, dtype=torch.bool)],
                       "weight": [torch.ones(3), -torch.ones(4)]}, fine | {"weight": [None]})
    yield case(training.kl_from_bayes, {"log_p": LOGITS, "logits": LOGITS},
               {"log_p": "logits", "logits": "logits"})
    yield case(training.grammar_stream, {"grammar": GRAMMAR},
               {"grammar": "object", "seed": "int", "labels": "flag"}, {"seed": [2**64]})
    yield case(training.grammar_stream(GRAMMAR), {"n": 4}, {"n": "int", "seed": "int"},
               {"n": [HUGE]}, {"seed": [None], "n": [0]})
    yield case(training.stratified_times, {"batch": 4}, {"batch": "int", "seed": "seed"}, {"batch": [HUGE]})
    yield case(training.noisy_batch, {"process": NOISE, "leaves": LEAVES, "size": 2, "seed": 0, "step": 0},
               {"process": "object", "leaves": "object", "size": "int", "seed": "int", "step": "int",
                "device": "device"},
               {"leaves": [*STREAMS, LEAVES.float(), LEAVES + 4, LEAVES[:0], (LEAVES,)], "size": [0, HUGE],
                "step": [2**63]})


def judging_calls():
    "What measures a model."
    judged = {"model": NET, "process": NOISE, "n": 8}
    kinds = {"model": "object", "process": "object", "n": "int", "seed": "int", "chunk_size": "int"}
    more = {"model": [*ANSWERS, TransformerDenoiser], "process": [UNIFORM, BeliefProcess(4)],
            "n": [0, HUGE], "chunk_size": [0], "bins": [0, 10**9]}
    yield case(training.bayes_gap, judged | {"grammar": GRAMMAR},
               kinds | {"grammar": "object", "bins": "int"}, more)
    data = {"leaves": [*STREAMS, LEAVES.float(), LEAVES + 4, LEAVES[:0]]}
    yield case(training.nelbo, judged | {"leaves": LEAVES}, kinds | {"leaves": "object", "t_min": "number"},
               more | data | {"t_min": [0, 0.6], "n": [1, HUGE], "model": [*ANSWERS, CLASSIFIER]})
    yield case(training.divergence, judged | {"reference": BAYES, "leaves": LEAVES},
               kinds | {"reference": "object", "leaves": "object", "bins": "int"},
               more | data | {"reference": ANSWERS, "n": [1, HUGE]})


PLAN = {"steps": "int", "batch_size": "int", "lr": "number", "weight_decay": "number", "warmup": "number",
        "decay": "choice", "clip": "number", "smoothing": "number", "weight": "choice",
        "illegal_penalty": "number", "ema": "number", "patience": "int", "log_every": "int", "seed": "int",
        "precision": "choice", "compile": "flag"}
WRONG = {"steps": [0, torch.tensor(5)], "batch_size": [0, torch.tensor(5), HUGE], "lr": [-1, 10**12],
         "weight_decay": [-1, 10**12], "clip": [-1, 0], "smoothing": [5], "ema": [1.5], "patience": [0],
         "warmup": [1.5, -1], "log_every": [0], "seed": [2**64], "illegal_penalty": [-1]}
RIGHT = {"clip": [math.inf], "patience": [None]}


def training_calls(folder):
    "Training runs."
    def fitted(**given):
        "A call of `fit` on weights that are as they were."
        return training.fit(given.pop("model", TransformerDenoiser(NOISE, 4, **SIZES)), **given)
    fitted.__qualname__ = "fit"
    yield case(training.Plan, {"steps": 2}, PLAN, WRONG, RIGHT)
    yield case(training.Plan(2).rate, {"step": 0}, {"step": "int"})
    run = {"process": NOISE, "leaves": LEAVES, "steps": 2, "batch_size": 4, "device": "cpu"}
    kinds = {"model": "object", "process": "object", "leaves": "object", "grammar": "object",
             "validation": "object", "empirical": "flag", "device": "device", "checkpoint": "path",
             "checkpoint_every": "int"}
    data = [LEAVES.float(), LEAVES + 4, LEAVES[:0], (LEAVES, CLASSES)]
    wrong = {"model": [BAYES, nn.Linear(2, 2), Answers(transposed), Answers(words)],
             "process": [UNIFORM], "leaves": [*STREAMS, short, *data, GRAMMAR], "validation": data,
             "grammar": [HierarchicalGrammar.random(5, 2, 2, 2, seed=1)],
             "checkpoint": [folder, ""], "checkpoint_every": [0]}
    fine = RIGHT | {"grammar": [None], "validation": [None], "checkpoint": [None]}
    yield case(fitted, run, kinds | PLAN, wrong | WRONG, fine)
    some = {k: x for k, x in run.items() if k != "steps"}
    kinds = {k: x for k, x in PLAN.items() if k not in ("steps", "decay", "ema", "patience")}
    yield case(training.snapshots, {"model": NET, **some, "at": [1, 2]},
               kinds | {"at": "list", "model": "object", "process": "object", "leaves": "object",
                        "device": "device", "steps": "int"},
               {"at": [[], [2, 1], [0], [1.5]], "leaves": [GRAMMAR]} | WRONG, RIGHT)
    spec = GRAMMAR.spec
    small = {"grammar": spec, "samples": 10, "held_out": 0.3, "plan": training.Plan(2)}
    yield case(training.Experiment, small,
               {"grammar": "named", "samples": "int", "held_out": "number", "plan": "object",
                "distinct": "flag", "noise": "named", "network": "named"},
               {"samples": [1, HUGE], "held_out": [0, 1, -1], "noise": [{"foo": 1}], "network": [{"foo": 1}],
                "grammar": [{}]})
    tiny = dict(dim=8, heads=2, ff=8, encoders=1, decoders=1, dropout=0.)
    yield case(training.run_experiment,
               {"experiment": training.Experiment(**small, network=tiny), "folder": folder/"run",
                "device": "cpu"},
               {"experiment": "object", "folder": "path", "device": "device"} | PLAN, WRONG, RIGHT)


class Answers(nn.Module):
    "A network with one weight, and any answer."
    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t):
        found = self.answer(x_t, t)
        return found + self.weight if isinstance(found, torch.Tensor) else found


CURVES = pd.DataFrame([(L, t, 1 / (1 + math.exp(1.4**L * 6 * (t - 0.5))), 0.01)
                       for L in (2, 3, 4) for t in np.linspace(0.2, 0.8, 13)],
                      columns=["depth", "t", "mean", "se"])


def reading_calls(folder):
    "What reads samples from a file."
    file = folder/"samples.txt"
    file.write_text("\n".join(GRAMMAR.decode(LEAVES)), encoding="utf-8")
    yield case(observables.read_samples, {"path": file, "grammar": GRAMMAR},
               {"path": "path", "grammar": "object", "empty": "text", "indices": "flag"},
               {"path": ["", "nowhere.txt", "/", "/dev/zero", __file__, folder], "empty": ["a", "__"],
                "indices": [True]}, {"indices": [None]})


def observable_calls():
    "Level by level."
    beliefs = posterior(GRAMMAR, NOISE.log_evidence(X_T, 0.5))
    pair = {"levels_a": LEVELS, "levels_b": LEVELS}
    some = [LEVELS[:2], [*LEVELS[:2], LEAVES[:2]], [*LEVELS[:2], LEAVES.float()]]
    yield case(observables.reconstruction, {"beliefs": beliefs.levels, "levels": LEVELS},
               {"beliefs": "list", "levels": "list"},
               {"beliefs": [beliefs, LEVELS, [x * NAN for x in beliefs.levels]],
                "levels": [*some, beliefs.levels, [*LEVELS[:2], LEAVES + 4]]})
    for function in (observables.level_agreement, observables.changed_latents):
        yield case(function, pair, {"levels_a": "list", "levels_b": "list"},
                   {"levels_a": [*some, LEAVES], "levels_b": some})
    yield case(observables.mean_se, {"x": torch.ones(4)}, {"x": "object"},
               {"x": [torch.ones(0), torch.tensor(1.), torch.ones(2, dtype=torch.complex64)]},
               fine={"x": [torch.ones(2)]})
    yield case(observables.mean_by, {"table": CURVES, "by": "t", "value": "mean"},
               {"table": "frame", "by": "object", "value": "choice"},
               {"by": ["nothing", ["nothing"], []], "value": ["nothing"]})
    t = np.linspace(0, 1, 5)
    fall = 1 - t
    yield case(observables.transition, {"t": t, "curve": fall, "se": 0 * t + 0.1, "resamples": 4},
               {"t": "numbers", "curve": "numbers", "se": "optional numbers", "high": "number",
                "low": "number", "seed": "int", "resamples": "int"},
               {"t": [t[::-1], t * NAN], "curve": [fall * NAN, fall[:3]], "se": [-t, t * NAN], "high": [-1],
                "low": [2], "resamples": [1, HUGE]}, {"high": [None], "low": [None]})
    yield case(observables.bracket_mean, {"low": t, "high": t + 1}, {"low": "numbers", "high": "numbers"},
               {"low": [t + 2, t * NAN, t[:3], t[:0]], "high": [t - 1, t * NAN]})
    yield case(observables.first_passage, {"x": t + 1, "y": t, "level": 0.5},
               {"x": "numbers", "y": "numbers", "level": "number"},
               {"x": [t, t[::-1] + 1], "y": [t[:2], t * NAN]},
               fine={"x": [3], "y": [3]})
    yield case(observables.regimes, {"t": t, "kept": fall, "se": 0 * t + 0.1, "n_classes": 4},
               {"t": "numbers", "kept": "numbers", "se": "numbers", "n_classes": "int"},
               {"t": [t[::-1]], "kept": [fall * NAN, fall[:3]], "se": [-t], "n_classes": [1]})
    frame = {"curves": [CURVES[["t", "se"]], CURVES.assign(se=0.), CURVES.assign(t="x"),
                        CURVES.assign(mean=NAN), CURVES.assign(depth=0.5), CURVES[:13]]}
    yield case(observables.crossings, {"curves": CURVES}, {"curves": "frame", "seed": "int"}, frame)
    yield case(observables.scaling_collapse, {"curves": CURVES, "s": 2, "window": 30.},
               {"curves": "frame", "s": "int", "window": "number", "start": "object", "degree": "int"},
               frame | {"s": [1], "window": [0, -1], "start": [(0.5,), (0.5, "x"), (2., 1.5), [1, NAN]],
                        "degree": [0, HUGE]}, {"start": [None]})
    yield case(observables.token_changes, {"x0": LEAVES, "back": LEAVES},
               {"x0": "symbols", "back": "symbols"}, {"back": [LEAVES[:, :3]], "x0": [LEAVES.float()]},
               {"x0": [torch.zeros(1, 1, 1, 1, 1, dtype=torch.long)],
                "back": [torch.zeros(1, 1, 1, 1, 1, dtype=torch.long)]})
    sigma = torch.ones(2, 2, 4)
    yield case(observables.change_correlations, {"sigma": sigma, "arity": [2, 2]},
               {"sigma": "tensor", "arity": "list"},
               {"sigma": [sigma[:1], sigma * NAN], "arity": [[2, 3], [0], [2.5, 2], []]})
    yield case(observables.nearest_distance, {"x": LEAVES, "to": LEAVES},
               {"x": "symbols", "to": "symbols", "chunk_size": "int"}, {"to": [LEAVES[:0], LEAVES[:, :3]],
               "chunk_size": [0]})
    yield case(observables.grammaticality, {"grammar": GRAMMAR, "x": LEAVES},
               {"grammar": "object", "x": "symbols"}, {"x": [LEAVES + 4, LEAVES[:, :3], LEAVES[:0]]})
    yield case(observables.class_entropy, {"classes": CLASSES, "count": 4},
               {"classes": "symbols", "count": "int"},
               {"classes": [[9], torch.tensor([9]), LEAVES], "count": [0, HUGE]})
    for judge in (observables.score, observables.score_each):
        yield case(judge, {"grammar": GRAMMAR, "leaves": LEAVES, "train": LEAVES},
                   {"grammar": "object", "leaves": "symbols", "train": "symbols", "held_out": "symbols",
                    "flips": "int"},
                   {"leaves": [LEAVES[:1], LEAVES + 4, LEAVES[:, :3]], "train": [LEAVES[:0], LEAVES[:, :3]],
                    "flips": [99], "held_out": [LEAVES[:, :3]]}, {"train": [None], "held_out": [None]})
    yield case(observables.inverse_participation_ratio, {"process": NOISE, "train": LEAVES, "t": 0.5,
               "samples": 4}, {"process": "object", "train": "symbols", "t": "number", "samples": "int",
               "seed": "seed", "chunk_size": "int"},
               {"train": [LEAVES[:0], LEAVES + 4], "t": [1.5], "samples": [1, HUGE], "chunk_size": [0],
                "process": [BeliefProcess(4)]})
    yield case(observables.binned_accuracy, {"denoiser": NET, "process": NOISE, "leaves": LEAVES, "bins": 2},
               {"denoiser": "object", "process": "object", "leaves": "symbols", "bins": "int", "seed": "seed",
                "batch_size": "int"},
               {"denoiser": ANSWERS, "process": [UNIFORM, BeliefProcess(4)],
                "leaves": [LEAVES[:1], LEAVES + 4], "bins": [0, HUGE], "batch_size": [0]})
    p = torch.full((2, 4, 4), 0.25)
    yield case(observables.ungrammatical_by_level, {"grammar": GRAMMAR, "p": p, "draws": 4},
               {"grammar": "object", "p": "logits", "draws": "int", "seed": "seed"},
               {"p": [-p, p * 2, p[:0]], "draws": [0, HUGE]})


def plot_calls(folder):
    "Figures."
    fig, ax = plots.subplots()
    k = np.linspace(0, 1, 3)
    family = {"label": "text", "index": "int", "of": "int"}
    more = {"index": [1, HUGE], "of": [0, HUGE], "x": [[0, 1]], "se": [[0, 1], -k]}
    fine = {"label": [None], "index": [0]}
    panel = {"ax": "object"}
    yield case(plots.subplots, {}, {"rows": "int", "cols": "int", "nothing_like_it": "flag"},
               {"rows": [0, HUGE], "cols": [0, HUGE]})
    yield case(plots.legend, {"ax": ax}, panel | {"nothing_like_it": "flag"})
    yield case(plots.title, {"ax": ax, "text": "a"}, panel | {"text": "text"})
    yield case(plots.with_error, {"mean": 0.5, "se": 0.1}, {"mean": "number", "se": "number"}, {},
               {"mean": [NAN, math.inf], "se": [NAN, math.inf]})
    yield case(plots.mean_text, {"values": [1., 2.]}, {"values": "numbers"}, {"values": [np.ones((2, 2))]},
               {"values": [[None, 1.]]})
    yield case(plots.colours, {"k": 3}, {"k": "int"}, {"k": [0, HUGE]})
    yield case(plots.noise_look, {"name": "masking"}, {"name": "choice"}, {"name": ["black", ""]})
    yield case(plots.curve, {"ax": ax, "x": k, "mean": k}, panel | {"x": "numbers", "mean": "numbers",
               "se": "optional numbers", **family, "points": "flag", "join": "flag"}, more, fine)
    yield case(plots.prediction, {"ax": ax, "x": k, "y": k},
               panel | {"x": "numbers", "y": "numbers", **family}, more, fine)
    yield case(plots.critical, {"ax": ax, "x": 0.5},
               panel | {"x": "number", "label": "text", "side": "choice"}, fine={"label": [None]})
    two = np.stack([k, k], 1)
    yield case(plots.levels_panel, {"ax": ax, "t": k, "mean": two}, panel | {
        "t": "numbers", "mean": "numbers", "se": "optional numbers", "predicted": "optional numbers",
        "labels": "list"}, {"labels": [["a"]], "se": [k]}, {"labels": [None]})
    yield case(plots.collapsed, {"ax": ax, "depth": [1, 2, 3], "x": k, "mean": k}, panel | {
        "depth": "numbers", "x": "numbers", "mean": "numbers", "se": "optional numbers", "xlabel": "text"},
        {"depth": [[NAN, 1, 2]]})
    yield case(plots.against, {"ax": ax, "predicted": k, "measured": k}, panel | {
        "predicted": "numbers", "measured": "numbers", "predicted_se": "optional numbers",
        "measured_se": "optional numbers", **family, "mark": "int"}, more, fine | {"mark": [None]})
    yield case(plots.agreement, {"ax": ax, "low": 0., "high": 1.}, panel | {
        "low": "number", "high": "number", "band": "number"}, {"low": [2.], "band": [-1.]})
    yield case(plots.differences, {"ax": ax, "names": ["a", "b", "c"], "difference": k}, panel | {
        "names": "list", "difference": "numbers", "se": "optional numbers", "band": "number"},
        {"names": [["a"]], "band": [-1.]}, {"difference": [[None, 1.]]})
    yield case(plots.phase_diagram, {"ax": ax, "x": k, "y": k, "phases": ["critical"] * 3}, panel | {
        "x": "numbers", "y": "numbers", "phases": "list", "boundaries": "named"},
        {"phases": [["critical"], ["solid"] * 3], "boundaries": [{"a": 3}, {"a": ([1, 2], [1])}]},
        {"boundaries": [None]})
    levels = [[0], [1, 0], [1, 1, 0, 1]]
    yield case(plots.tree, {"ax": ax, "levels": levels, "arity": 2}, panel | {
        "levels": "list", "arity": "int", "names": "list", "changed": "list", "alpha": "list"},
        {"levels": [LEVELS, [], [[0, 1]], [[0], [1.5, 0], [1, 1, 0, 1]]],
         "arity": [3, 0, [2, 3], GRAMMAR, [2, HUGE]], "names": [["ab"], ["a", "b", "c"]],
         "changed": [[[True]]], "alpha": [[[0.5]], [[2.], [0.5, 0.5], [0.1] * 4]]},
        {"names": [None], "changed": [None], "alpha": [None]})
    panels = torch.eye(4)
    yield case(plots.noise, {"axes": ax, "panels": panels}, {
        "axes": "object", "panels": "tensor", "times": "numbers", "names": "list", "truth": "numbers",
        "label": "text"},
        {"panels": [X_T, X_T[0], torch.ones(0, 4)], "names": [["a"]], "times": [[0.1, 0.2], [0.1, "x"]],
         "truth": [[0, 1, 2, 9], [0, 1], [0.5] * 4]},
        {"times": [None], "names": [None, "text"], "truth": [None], "panels": [[[0.5]]]})
    yield case(plots.described, {"fig": fig}, {"fig": "object"})
    yield case(plots.save, {"fig": fig, "path": folder/"a.png"}, {"fig": "object", "path": "path"},
               {"path": ["a.jpg", "", folder, None]})
    plt.close(fig)


def protocol_calls():
    "Promises."
    yield case(protocols.check_process, {"process": NOISE, "draws": 1000},
               {"process": "object", "draws": "int", "seed": "int"}, {"process": [MaskingProcess(1)],
               "draws": [10, HUGE]})
    yield case(protocols.check_denoiser, {"model": BAYES, "process": NOISE, "n": 4},
               {"model": "object", "process": "object", "n": "int", "batch": "int", "seed": "int"},
               {"model": ANSWERS, "n": [0, HUGE], "batch": [1, HUGE]})


def runs_calls(folder):
    "Runs and sweeps; none is made."
    notebook = tiny(folder)
    write_notebook(folder/"plain.ipynb", "k = 1")
    table = pd.DataFrame({"a": [1.]})
    results = runs.save_results(folder/"done", {"t": table}, {"parameters": {"preset": "smoke"}})
    sweep = runs.plan(notebook, {"seed": [1, 2]}, folder/"sweep")
    (folder/"broken.yaml").write_text("grid: [", encoding="utf-8")
    nowhere = [folder/"nowhere", "", None]
    yield case(runs.literal, {"text": "3"}, {"text": "text"})
    yield case(runs.read_as, {"name": "k", "value": "3", "like": 3},
               {"name": "text", "value": "int", "like": "like"}, fine={"value": [-1]}, named={"value": "k"})
    presets = {"smoke": {"k": 1}, "quick": {"k": 2}}
    yield case(runs.settings, {"namespace": {}, "presets": presets},
               {"namespace": "named", "presets": "named"}, {"presets": [{}, {"smoke": 3}]})
    yield case(lambda k: runs.settings({"k": k}, presets), {"k": 1}, {"k": "int"},
               fine={"k": [None, -1, 1j, torch.ones(2), Thing()]})  # of what a notebook may hold besides
    yield case(runs.provenance, {}, {"device": "device"})
    yield case(runs.part, {"function": part_of_nothing, "k": 1}, {"function": "object", "rtol": "number"},
               {"function": [len, lambda: 3, dict], "rtol": [-1], "not_compared": ["steps", 3, [3], None]})
    yield case(runs.part, {"function": part_of_nothing, "k": 1}, {"nothing_like_it": "flag"})
    yield case(runs.code_of, {"home": SimpleNamespace()}, {"home": "object"})
    for function in (runs.read_results, runs.read_table):
        yield case(function, {"folder" if function is runs.read_results else "file": results},
                   {"folder" if function is runs.read_results else "file": "path"},
                   {"folder": nowhere, "file": [*nowhere, folder]})
    done = runs.read_results(results)
    yield case(runs.save_results, {"folder": folder/"new", "tables": {"t": table}, "record": {}},
               {"folder": "path", "tables": "named", "record": "named"},
               {"folder": [results/"run.json", ""], "tables": [{"a b": table}, {"t": 3}, {3: table}],
                "record": [{"a": Thing()}]})
    yield case(done.__getitem__, {"name": "t"}, {"name": "choice"}, named={"name": "table"})
    yield case(runs.beside, {"results": done, "own": "a", "other": "b"},
               {"results": "object", "own": "text", "other": "text"})
    parts = [runs.part(part_of_nothing, k=1)]
    yield case(runs.measure, {"p": SimpleNamespace(show=None, output=str(folder/"m")), "parts": parts},
               {"p": "object", "parts": "list"}, {"parts": [[]], "p": [SimpleNamespace()]})
    yield case(runs.parameters_of, {"p": SimpleNamespace(k=1)}, {"p": "object"})
    yield case(runs.duration, {"seconds": 3.}, {"seconds": "number"}, {"seconds": [-1]})
    yield case(runs.source_note, {"results": done}, {"results": "object", "name": "text"})
    yield case(runs.claims_table, {"claims": []}, {"claims": "list"},
               {"claims": [[runs.Claim("a", "b", "c", 0.1, 0.1)], [runs.Claim(1, "b", 1., 0.1, 0.1)]]})
    file = {"notebook": "path"}
    bad = {"notebook": [*nowhere, folder, folder/"plain.ipynb", folder/"broken.yaml"]}
    own = {"notebook": [*nowhere, folder, folder/"broken.yaml"]}
    yield case(runs.read_experiment, {"notebook": notebook}, file, bad)
    yield case(runs.experiment_of, {"notebook": notebook}, file, own)
    yield case(runs.experiments, {"folder": folder/"sweep"}, {"folder": "path"},
               {"folder": [notebook, folder/"nowhere", ""]})
    yield case(runs.parts_of, {"notebook": notebook, "parameters": {}}, file | {"parameters": "named"}, bad)
    yield case(runs.status, {"folder": folder/"sweep", "reference": folder},
               {"folder": "path", "reference": "path"})
    experiment, = runs.read_experiment(notebook)
    yield case(experiment.settings, {"parameters": {}}, {"parameters": "named"},
               {"parameters": [{"nothing": 1}]}, {"parameters": [None]}, named={"parameters": "parameter"})
    yield case(runs.recompute, {"x": experiment, "folder": results, "seconds": 1., "seed": 0},
               {"x": "object", "folder": "path", "seconds": "number", "seed": "int"},
               {"folder": nowhere, "seconds": [-1]})
    yield case(runs.confirm, {"x": experiment, "folder": results, "seconds": 1., "seed": 0},
               {"x": "object", "folder": "path", "seconds": "number", "seed": "int"},
               {"folder": [*nowhere, results], "seconds": [-1]})
    out = {"out": [folder/"out.txt", "", None, notebook]}
    yield case(runs.run, {"notebook": notebook, "parameters": {"seed": 0}, "out": folder/"out.ipynb"},
               {"notebook": "path", "parameters": "named", "out": "path", "progress": "flag",
                "timeout": "number", "nothing_like_it": "flag"},
               own | out | {"parameters": [{"nothing": 1}], "timeout": [-1, 0]},
               {"timeout": [None]}, named={"parameters": "parameter"})
    grid = {"grid": [*nowhere, [], {"nothing": [1]}, [3], {"seed": []}, {"seed": [Thing()]},
                     folder/"broken.yaml"]}
    yield case(runs.plan, {"notebook": notebook, "grid": {"seed": [1]}, "out": folder/"s"},
               {"notebook": "path", "grid": "path", "out": "path", "parameters": "named"},
               own | grid | {"parameters": [{"nothing": 1}], "out": ["", notebook, None]},
               {"parameters": [None]}, named={"grid": "", "parameters": "parameter"})
    yield case(runs.read_grid, {"file": folder/"broken.yaml"}, {"file": "path"}, {"file": nowhere})
    listed = {"manifest": sweep}
    for function in (runs.states, runs.collect, runs.save_tables, runs.walk, runs.sweep_manifest,
                     runs.submit):
        yield case(function, listed, {"manifest": "path"}, {"manifest": [*nowhere, notebook]})
    yield case(runs.collect, listed, {"table": "choice"}, fine={"table": [None]})
    wait = {"timeout": [-1, 0]}
    yield case(runs.walk, listed, {"indices": "list", "retry": "flag", "timeout": "number", "say": "object",
               "warm": "flag"}, wait | {"indices": [[99]]},
               {"timeout": [None], "say": [None], "indices": [None]})
    several = {"workers": "int", "retry": "flag", "timeout": "number", "progress": "flag"}
    fine = {"timeout": [None], "workers": [None]}
    wrong = wait | {"workers": [0, HUGE]}
    yield case(runs.sweep_manifest, listed, several | {"scheduler": "scheduler"}, wrong, fine)
    yield case(runs.sweep, {"notebook": notebook, "grid": {"seed": [1]}, "out": folder/"s2"},
               several | {"scheduler": "scheduler", "notebook": "path", "out": "path", "parameters": "named"},
               wrong | own, fine | {"parameters": [None]})
    yield case(runs.submit, listed, {"chunk": "int", "retry": "flag", "timeout": "number",
               "executor": "object", "nothing_like_it": "flag"}, wait | {"chunk": [0]},
               {"timeout": [None], "executor": [None]})


def part_of_nothing(k): return {}


TABLES = {
    "networks": lambda folder: network_calls(), "exact": lambda folder: exact_calls(), "models": model_calls,
    "sampling": lambda folder: sampling_calls(), "losses": lambda folder: loss_calls(),
    "judging": lambda folder: judging_calls(), "training": training_calls,
    "observables": lambda folder: [*observable_calls(), *reading_calls(folder)], "plots": plot_calls,
    "protocols": lambda folder: protocol_calls(), "runs": runs_calls,
}
TAKEN = {name for name in TABLES if name != "runs"}  # a right call there would make a run
# what a function returns, or what takes whatever there is
RECORDS = {
    "models": {"EmpiricalPosterior", "Network", "ConstrainedHead", "evaluating"},
    "sampling": {"Step", "Sweep"},
    "training": {"Batch", "Gap", "Bound", "History"},
    "observables": {"Transition", "Regimes", "Collapse", "Changes", "ratio_se"},
    "plots": {"style"}, "protocols": {"Promise"},
    "runs": {"machine", "Results", "Claim", "Experiment", "reference_folder", "Run", "NotWritable",
             "Outcome"},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    "Relative paths, which some wrong values are, lie in a folder that is thrown away."
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def imported():
    "The first step of training imports much; it is no part of the time that a refusal may take."
    training.fit(TransformerDenoiser(NOISE, 4, **SIZES), NOISE, LEAVES, steps=1, batch_size=4, device="cpu")


@pytest.mark.parametrize("table", TABLES)
def test_wrong_arguments_are_refused(table, tmp_path):
    assert failures(TABLES[table](tmp_path)) == []


@pytest.mark.parametrize("table", sorted(TAKEN))
def test_right_arguments_are_taken(table, tmp_path):
    for call in TABLES[table](tmp_path):
        result = call.function(**call.good)
        if hasattr(result, "__next__"): next(result)


def test_thousands_of_cases(tmp_path):
    "So many wrong arguments, over so many functions."
    calls = [call for make in TABLES.values() for call in make(tmp_path)]
    assert sum(1 for call in calls for _ in call.cases()) >= 4000 and len(calls) >= 150


@pytest.mark.parametrize("module", RECORDS)
def test_every_public_function_is_in_a_table(module, tmp_path):
    tables = [call.function for make in TABLES.values() for call in make(tmp_path)]
    names = {getattr(f, "__self__", None).__class__.__name__ for f in tables}
    names |= {f.__qualname__.split(".")[0] for f in tables} | {"Moments"}
    there = importlib.import_module(f"rhmdiff.{module}")
    public = {name for name in there.__all__ if callable(getattr(there, name))}
    checks = {name for name in public if name.startswith("check_") and module != "protocols"}
    assert public - checks - RECORDS[module] <= names


def test_messages_lead_on():
    "What a common mistake is answered with."
    beliefs = posterior(GRAMMAR, NOISE.log_evidence(X_T, 0.5))
    _, ax = plt.subplots()
    for why, call in {
        "grammar_stream\\(grammar\\) makes a stream": lambda: training.fit(NET, NOISE, GRAMMAR, steps=1),
        "`.levels` are needed": lambda: observables.reconstruction(beliefs, LEVELS),
        "from nothing: process.sample": lambda: sampling.reverse(NOISE, BAYES, None, 1.),
        "\\(batch, n, v\\)": lambda: training.bayes_gap(transposed, NOISE, GRAMMAR, n=8),
        "grammar.arity": lambda: plots.tree(ax, LEVELS, GRAMMAR),
        "first derivation": lambda: plots.tree(ax, LEVELS, GRAMMAR.arity),
        "process.features": lambda: plots.noise(ax, X_T),
        "torch.save\\(model.state_dict\\(\\), path\\)": lambda: models.save_model(
            TransformerDenoiser(OwnNoise(4), 4, **SIZES), "net.safetensors"),
        "derives from Network": lambda: models.save_model(nn.Linear(2, 2), "net.safetensors"),
    }.items():
        with pytest.raises(ValueError, match=why): call()
    plt.close("all")


def flipped(path, at: int) -> None:
    "One bit of a file, the other way."
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_one_flipped_bit_in_a_file_is_found(tmp_path):
    model = models.save_model(NET, tmp_path/"net.safetensors")
    flipped(model, model.stat().st_size - 30)
    with pytest.raises(ValueError, match="path=.* its weights are not those that were saved"):
        models.load_model(model)
    run = dict(process=NOISE, leaves=LEAVES, steps=2, batch_size=4, device="cpu",
               checkpoint=tmp_path/"run.pt")
    training.fit(TransformerDenoiser(NOISE, 4, **SIZES), **run)
    with zipfile.ZipFile(tmp_path/"run.pt") as archive:
        place = max(archive.infolist(), key=lambda x: x.file_size)
    flipped(tmp_path/"run.pt", place.header_offset + 200)
    with pytest.raises(ValueError, match="checkpoint=.*run.pt' is damaged"):
        training.fit(TransformerDenoiser(NOISE, 4, **SIZES), **run)


@pytest.mark.parametrize("wrong", [
    {"step": -5}, {"step": 1.5}, {"rows": None}, {"window": "text"}, {"best": 3}, {"best": {"loss": 0.}},
    {"model": None}, {"model": {"nothing": torch.ones(2)}}, {"optimiser": {}}, {"early": NAN}])
def test_a_checkpoint_of_what_no_run_leaves_is_refused(wrong, tmp_path):
    run = dict(process=NOISE, leaves=LEAVES, steps=2, batch_size=4, device="cpu",
               checkpoint=tmp_path/"run.pt")
    training.fit(TransformerDenoiser(NOISE, 4, **SIZES), **run)
    state = torch.load(tmp_path/"run.pt", weights_only=True)
    torch.save(state | wrong, tmp_path/"run.pt")
    with pytest.raises(ValueError, match="checkpoint=.*run.pt'"):
        training.fit(TransformerDenoiser(NOISE, 4, **SIZES), **run)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    run = dict(process=NOISE, leaves=LEAVES, steps=2, batch_size=4, device="cpu",
               checkpoint=tmp_path/"run.pt")
    training.fit(TransformerDenoiser(NOISE, 4, **SIZES), **run)
    state = torch.load(tmp_path/"run.pt", weights_only=True)
    state["model"]["head.bias"][0] = NAN
    torch.save(state, tmp_path/"run.pt")
    with pytest.raises(ValueError, match="model holds weights that are not finite"):
        training.fit(TransformerDenoiser(NOISE, 4, **SIZES), **run)
    broken = TransformerDenoiser(NOISE, 4, **SIZES)
    with torch.no_grad(): broken.head.bias[0] = NAN
    models.save_model(broken, tmp_path/"net.safetensors")
    with pytest.raises(ValueError, match="path=.* holds NaN in 'head.bias'"):
        models.load_model(tmp_path/"net.safetensors")


@pytest.mark.parametrize("name, value", [
    ("layers", 10**9), ("n", 10**8), ("dim", 10**9), ("n", "x"), ("layers", None), ("process", {}),
    ("process", {"class": "MaskingProcess", "v": 10**12}), ("heads", [1]), ("seed", -1), ("unknown", 1)])
def test_headers_of_models_that_cannot_be_are_refused(name, value, tmp_path):
    path = models.save_model(NET, tmp_path/"net.safetensors")
    with safe_open(path, "pt") as file:
        header, weights = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}
    header["rhmdiff"] = json.dumps(json.loads(header["rhmdiff"]) | {name: value})
    save_file(weights, path, header)
    call = Call(models.load_model, {}, {})
    assert outcome(call, "path", path) == "refused"


def test_a_unet_of_a_million_levels_is_refused(tmp_path):
    path = models.save_model(models.UNetDenoiser(NOISE, 4, 2, dim=8, ff=8), tmp_path/"net.safetensors")
    with safe_open(path, "pt") as file:
        header, weights = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}
    header["rhmdiff"] = json.dumps(json.loads(header["rhmdiff"]) | {"arity": [1] * 10**6})
    save_file(weights, path, header)
    assert outcome(Call(models.load_model, {}, {}), "path", path) == "refused"
