"""The names that people and outside checks call: each is there, and takes the arguments it is called with."""
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch

import rhmdiff
from rhmdiff import sampling, theory
from rhmdiff.diffusion import BeliefProcess, DiffusionProcess, MaskingProcess, UniformProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.models import BayesDenoiser
from rhmdiff.training import Gap, History

# name -> the parameters that calls may name, in order
CONTRACT = {
    "grammar.HierarchicalGrammar": ["spec"],
    "inference.posterior": ["grammar", "log_evidence"],
    "inference.sample_posterior": ["grammar", "log_evidence", "seed"],
    "diffusion.DiffusionProcess": ["v", "noise_scale", "max_time", "mode"],
    "diffusion.MaskingProcess": ["v"],
    "diffusion.UniformProcess": ["v"],
    "diffusion.BeliefProcess": ["v"],
    "sampling.reverse": ["process", "denoiser", "x_t", "t", "steps", "sampler", "seed", "trajectory"],
    "sampling.forward_backward": ["process", "denoiser", "x0", "t", "steps", "sampler", "seed"],
    "models.BayesDenoiser": ["grammar", "process"],
    "models.EmpiricalDenoiser": ["train_leaves", "process"],
    "models.TransformerDenoiser": ["process", "n", "dim", "heads", "layers", "ff", "dropout",
                                   "self_conditioning"],
    "models.EncoderDecoder": ["process", "n", "dim", "heads", "ff", "encoders", "decoders", "dropout"],
    "models.UNetDenoiser": ["process", "n", "arity", "dim"],
    "models.TransformerClassifier": ["process", "n", "n_classes"],
    "training.fit": ["model", "process", "leaves", "grammar", "device", "checkpoint"],
    "training.bayes_gap": ["model", "process", "grammar", "n", "seed"],
    "observables.level_agreement": ["levels_a", "levels_b"],
    "observables.transition": ["t", "curve", "se"],
    "observables.score": ["grammar", "leaves", "train", "held_out", "flips"],
    "observables.score_each": ["grammar", "leaves", "train", "held_out", "flips"],
    "theory.mean_field_map": ["p", "v", "m", "s"],
    "theory.critical_noise": ["v", "m", "s"],
    "theory.correlation_exponent": ["v", "m", "s"],
    "theory.population_dynamics": ["shape", "process", "t", "size", "seed"],
    "theory.typical_growth": ["v", "m", "s", "grammars", "L", "seed"],
    "theory.information_curve": ["grammar", "samples", "seed"],
    "theory.unmasking_cost": ["curve", "sizes"],
    "sampling.best_schedule": ["curve", "steps"],
    "models.LocalDenoiser": ["grammar", "process", "height"],
    "models.RungDenoiser": ["grammar", "process", "k"],
    "runs.run": ["notebook", "parameters", "out"],
    "runs.sweep": ["notebook", "grid", "out", "scheduler", "workers"],
}
METHODS = {
    HierarchicalGrammar: {
        "random": ["v", "m", "s", "L", "n_classes", "weights", "seed"], "alphabet": ["level"],
        "sample": ["n", "seed", "device", "dtype"], "sample_unique": ["n", "seed"], "parse": ["leaves"],
        "valid": ["leaves"], "log_prob": ["leaves"], "count": [], "entropy": [],
        "generate_dataset": ["n_samples", "seed"], "encode": ["strings"], "decode": ["leaves"]},
    DiffusionProcess: {"add_noise": ["one_hot", "timestep", "seed"], "alpha_bar": ["t"]},
}
ATTRIBUTES = ["spec", "depth", "n_leaves", "prior", "vocab", "arity", "rules", "weights"]
THESIS = ["BINARY_3_LEVEL_GRAMMAR", "BINARY_5_LEVEL_GRAMMAR", "VARIABLE_BRANCH_GRAMMAR"]


def parameters(f) -> list[str]:
    "The parameters of a call, without self."
    return [name for name in inspect.signature(f).parameters if name not in ("self", "cls")]


def assert_takes(f, names: list[str]) -> None:
    known = parameters(f)
    assert [name for name in known if name in names] == names, f"{f} takes {known}"


@pytest.mark.parametrize("name", CONTRACT)
def test_names_are_there(name):
    module, _, attribute = name.partition(".")
    assert_takes(getattr(importlib.import_module(f"rhmdiff.{module}"), attribute), CONTRACT[name])


@pytest.mark.parametrize("owner", METHODS, ids=lambda c: c.__name__)
def test_methods_are_there(owner):
    for name, names in METHODS[owner].items(): assert_takes(getattr(owner, name), names)


@pytest.mark.parametrize("process", [DiffusionProcess, MaskingProcess, UniformProcess, BeliefProcess])
def test_processes_have_one_protocol(process):
    assert_takes(process.sample, ["x0", "t", "seed"])
    assert_takes(process.log_evidence, ["x_t", "t"])
    assert_takes(process.features, ["x_t"])


def test_attributes_and_results():
    grammar = HierarchicalGrammar.random(4, 2, 2, 2)
    for name in ATTRIBUTES: assert hasattr(grammar, name), name
    from rhmdiff import inference, observables, thesis
    assert inference.Beliefs._fields == ("levels", "log_z")
    assert Gap._fields == ("mean", "se", "by_time") and "table" in History._fields
    assert observables.Transition._fields[:3] == ("t", "width", "se")
    assert theory.Prediction._fields == ("mean", "se")
    for name in THESIS: assert set(getattr(thesis, name)) >= {"rules", "root_symbols"}


def test_a_schedule_goes_from_the_curve_into_the_sampler():
    "Sizes of the best schedule, what they cost, and the samples that they make."
    grammar = HierarchicalGrammar.random(4, 2, 2, 3, seed=0)
    curve = theory.information_curve(grammar, samples=32, seed=0)
    assert curve._fields[:2] == ("mean", "se") and curve.mean.dtype == curve.se.dtype == np.float64
    assert curve.mean.shape == curve.se.shape == (grammar.n_leaves,)
    sizes = sampling.best_schedule(curve, 3)
    assert len(sizes) == 3 and sum(sizes) == grammar.n_leaves
    nats, se = theory.unmasking_cost(curve, sizes)
    assert nats > 0 and se > 0
    process = MaskingProcess(4)
    x_t = process.sample(torch.zeros(5, grammar.n_leaves, dtype=torch.long), 1.)
    states = sampling.reverse(process, BayesDenoiser(grammar, process), x_t, 1., sizes, "unmask", 0, True)
    masks = [int(process.noised(x).sum()) // 5 for x in states]
    assert [a - b for a, b in zip(masks, masks[1:])] == sizes


def test_every_module_says_what_is_public():
    "`__all__` names what is there; nothing in it begins with an underscore."
    for found in pkgutil.walk_packages(rhmdiff.__path__, "rhmdiff."):
        if found.name.rpartition(".")[2].startswith("_") or found.ispkg: continue
        module = importlib.import_module(found.name)
        assert all(hasattr(module, name) and not name.startswith("_") for name in module.__all__), found.name
