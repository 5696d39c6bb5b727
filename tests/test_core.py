"""Fingerprints tell contents apart and nothing else; descriptions are ready for JSON."""
import functools
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from rhmdiff.core import describe, fingerprint
from rhmdiff.diffusion import BeliefProcess, DiffusionProcess, MaskingProcess, RaggedProcess, UniformProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.models import (
    EncoderDecoder,
    GrammarHead,
    SiblingHead,
    TransformerClassifier,
    TransformerDenoiser,
    UNetDenoiser,
    save_model,
)
from rhmdiff.training import fit

GRAMMAR = HierarchicalGrammar.random(4, 2, 2, 2, seed=0)
NOISE = MaskingProcess(4)
SMALL = dict(dim=4, heads=2, ff=4)


def small_unet(): return UNetDenoiser(NOISE, 4, 2, dim=4, ff=4)


NETWORKS = {
    "transformer": lambda: TransformerDenoiser(NOISE, 4, layers=1, **SMALL),
    "encoder-decoder": lambda: EncoderDecoder(NOISE, 4, encoders=1, decoders=1, **SMALL),
    "u-net": small_unet,
    "classifier": lambda: TransformerClassifier(NOISE, 4, 4, layers=1, **SMALL),
    "sibling head": lambda: SiblingHead(small_unet(), GRAMMAR),
    "grammar head": lambda: GrammarHead(small_unet(), GRAMMAR),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_one_element_of_any_parameter_changes_the_fingerprint(name):
    network = NETWORKS[name]()
    before = fingerprint(network)
    assert {fingerprint(network) for _ in range(100)} == {before} == {fingerprint(NETWORKS[name]().eval())}
    seen = {before}
    for parameter in network.parameters():
        last = parameter.data.view(-1)[-1:]
        old = last.clone()
        last.add_(1)
        seen.add(fingerprint(network))
        last.copy_(old)
    assert len(seen) == 1 + len(list(network.parameters()))
    assert fingerprint(network) == before


PROCESSES = [
    lambda: MaskingProcess(4), lambda: MaskingProcess(5),
    lambda: UniformProcess(4), lambda: UniformProcess(5),
    lambda: BeliefProcess(4), lambda: BeliefProcess(5),
    DiffusionProcess, lambda: DiffusionProcess(4), lambda: DiffusionProcess(5),
    lambda: DiffusionProcess(4, noise_scale=0.5), lambda: DiffusionProcess(4, max_time=2.0),
    lambda: DiffusionProcess(4, mode="linear"), lambda: DiffusionProcess(4, mode="exp"),
    lambda: RaggedProcess(MaskingProcess(4)), lambda: RaggedProcess(MaskingProcess(5)),
    lambda: RaggedProcess(UniformProcess(4)), lambda: RaggedProcess(DiffusionProcess(4)),
    lambda: RaggedProcess(DiffusionProcess(4, noise_scale=0.5)),
]


def test_any_argument_of_a_process_changes_the_fingerprint():
    first = [fingerprint(make()) for make in PROCESSES]
    assert first == [fingerprint(make()) for make in PROCESSES]
    assert len(set(first)) == len(PROCESSES)
    assert all(make() == make() and hash(make()) == hash(make()) for make in PROCESSES)
    assert all(a() != b() for i, a in enumerate(PROCESSES) for b in PROCESSES[:i])


class Slots:
    __slots__ = ("x",)
    def __init__(self, x): self.x = x


class Method:
    def __init__(self, x): self.x = x
    def read(self): return self.x
    def write(self): return -self.x


class Holder:
    def __init__(self, x):
        self.x = x
        self.own = self


def nested(k): return lambda x: (lambda y: y + k)(x)
def by_default(k): return lambda x, *, k=k: x + k


def recursive(k):
    def f(x): return k if x == 0 else f(x - 1)
    return f


def shared(x): return [x, x]


MAKERS = {  # each made afresh, at another address, in another order
    "1": lambda: 1, "1.0": lambda: 1.0, "True": lambda: True, "'1'": lambda: "1", "b'1'": lambda: b"1",
    "1j": lambda: 1j,
    "0": lambda: 0, "0.0": lambda: 0.0, "-0.0": lambda: -0.0, "nan": lambda: math.nan, "None": lambda: None,
    "int64": lambda: np.int64(1), "float64": lambda: np.float64(1), "float32": lambda: np.float32(1),
    "large": lambda: 10**5000, "larger": lambda: 10**5000 + 1,
    "set": lambda: {"masking", "uniform", "belief", 1},
    "frozenset": lambda: frozenset({"masking", "uniform"}),
    "dict": lambda: {"a": 1, "b": [2]}, "dict of other values": lambda: {"a": [2], "b": 1},
    "list": lambda: [1, 2], "tuple": lambda: (1, 2), "split": lambda: [[1], [2]],
    "joined": lambda: [[1, 2], []],
    "strings": lambda: ["ab", "c"], "other strings": lambda: ["a", "bc"],
    "nested": lambda: nested(1), "nested 2": lambda: nested(2), "recursive": lambda: recursive(1),
    "recursive 2": lambda: recursive(2), "default": lambda: by_default(1), "default 2": lambda: by_default(2),
    "lambda": lambda: lambda x: x + 1, "lambda of a set": lambda: lambda x: x in {"a", "b", "c"},
    "inner": lambda: lambda x: [y + 1 for y in x], "inner 2": lambda: lambda x: [y + 2 for y in x],
    "method": lambda: Method(1).read, "method 2": lambda: Method(2).read,
    "other method": lambda: Method(1).write,
    "builtin": lambda: len, "builtin method": lambda: [1].append, "builtin method 2": lambda: [2].append,
    "partial": lambda: functools.partial(max, 1), "partial 2": lambda: functools.partial(max, 2),
    "object": lambda: Method(1), "object 2": lambda: Method(2), "slots": lambda: Slots(1),
    "slots 2": lambda: Slots(2),
    "itself": lambda: Holder(1), "itself 2": lambda: Holder(2),
    "class": lambda: Method, "module": lambda: math, "path": lambda: Path("a"), "path 2": lambda: Path("b"),
    "dtype": lambda: torch.float32, "device": lambda: torch.device("cpu"), "stream": torch.Generator,
    "lock": threading.Lock, "generator": lambda: (x for x in range(3)), "bare object": object,
    "array": lambda: np.arange(3), "array of objects": lambda: np.array([Method(1), "a"], dtype=object),
    "array of other objects": lambda: np.array([Method(2), "a"], dtype=object),
    "random": lambda: np.random.default_rng(0), "random 2": lambda: np.random.default_rng(1),
    "tensor": lambda: torch.arange(4), "column": lambda: torch.arange(4)[:, None],
    "int32": lambda: torch.arange(4).int(),
    "bfloat16": lambda: torch.arange(4).bfloat16(), "float": lambda: torch.arange(4).float(),
    "bool": lambda: torch.tensor([True]), "scalar": lambda: torch.tensor(1.),
    "empty": lambda: torch.zeros(0, 3),
    "empty 2": lambda: torch.zeros(0, 2), "complex": lambda: torch.tensor([1j]),
    "conjugate": lambda: torch.tensor([1j]).conj(),
    "sparse": lambda: torch.eye(2).to_sparse(), "negative zero": lambda: torch.tensor(-0.),
    "zero": lambda: torch.tensor(0.),
    "nans": lambda: torch.tensor([math.nan]),
}


def fingerprints(): return {name: fingerprint(make()) for name, make in MAKERS.items()}


def test_equal_contents_agree_and_others_differ():
    kept = []  # so that nothing made later has the address of something made before
    first = fingerprints()
    for _ in range(100):
        kept.append([make() for make in MAKERS.values()])
        assert [fingerprint(x) for x in kept[-1]] == list(first.values())
    twins = {}
    for name, digits in first.items(): twins.setdefault(digits, []).append(name)
    assert all(len(names) == 1 for names in twins.values()), twins
    assert fingerprint({"b": [2], "a": 1}) == first["dict"]
    assert fingerprint(torch.arange(8)[::2].div(2, rounding_mode="floor")) == first["tensor"]


def test_sharing_does_not_count():
    x = torch.ones(2)
    assert fingerprint([x, x]) == fingerprint([x, x.clone()]) != fingerprint([x, 2 * x])
    assert fingerprint(shared([1])) == fingerprint([[1], [1]]) != fingerprint([[1], [2]])
    loop, other = [], []
    loop.append(loop)
    other.append(other)
    assert fingerprint(loop) == fingerprint(other) != fingerprint([[]])
    pair = Method(Method(None))
    pair.x.x = pair
    assert fingerprint(pair) == fingerprint(pair) != fingerprint(Method(None))


@pytest.mark.parametrize("seed", ["1", "2"])
def test_other_processes_agree(seed):
    code = "import json, test_core; print(json.dumps(test_core.fingerprints()))"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": paths}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == fingerprints()


class Tinted(UniformProcess):
    "A noise of one's own, with a tensor among its arguments."

    def __init__(self, v, tint):
        super().__init__(v)
        self.tint = tint


DESCRIBED = [
    (np.arange(2), {"class": "array", "dtype": "<i8", "values": [0, 1]}),
    (np.float32(0.5), 0.5), (np.bool_(True), True), (np.int64(3), 3), (np.str_("a"), "a"),
    (torch.eye(1, dtype=torch.bfloat16), {"class": "tensor", "dtype": "torch.bfloat16", "values": [[1.0]]}),
    (torch.tensor([1j]), {"class": "tensor", "dtype": "torch.complex64", "values": [[0.0, 1.0]]}),
    (torch.float32, {"class": "dtype", "name": "torch.float32"}),
    (torch.device("cpu"), {"class": "device", "name": "cpu"}),
    (Path("a/b"), {"class": "Path", "name": "a/b"}),
    ({"b", "a", "c"}, {"class": "set", "values": ["a", "b", "c"]}),
    (frozenset({(1, 2)}), {"class": "set", "values": [[1, 2]]}),
    ({1: "one"}, {"class": "dict", "items": [[1, "one"]]}),
    (b"ab", {"class": "bytes", "values": "6162"}),
    (MaskingProcess(4), {"class": "MaskingProcess", "v": 4}),
    (RaggedProcess(NOISE), {"class": "RaggedProcess", "base": {"class": "MaskingProcess", "v": 4}}),
    (Tinted(4, torch.tensor([0.5])), {"class": "Tinted", "v": 4, "tint": describe(torch.tensor([0.5]))}),
]


@pytest.mark.parametrize("obj, expected", DESCRIBED, ids=lambda x: type(x).__name__)
def test_descriptions_are_ready_for_json(obj, expected):
    assert describe(obj) == expected
    assert json.loads(json.dumps(describe(obj))) == expected


ENDLESS = Method(1)
ENDLESS.x = ENDLESS
ODD = [len, print, lambda x: x, math, Method, Method(1).read, functools.partial(max, 1), int, NotImplemented,
       iter([]), (x for x in []), range(3), slice(1), ENDLESS, Slots, Slots(len), threading.Lock(),
       torch.Generator(), torch.zeros(2, device="meta"), torch.nn.Linear(1, 1), np.random.default_rng(0),
       memoryview(b""), [[len]], {"a": len}, Tinted(4, len)]


@pytest.mark.parametrize("obj", ODD, ids=lambda x: type(x).__name__)
def test_what_cannot_be_described_is_a_type_error(obj):
    with pytest.raises(ValueError, match="cannot be described"): describe(obj)


def test_training_under_a_noise_of_ones_own(tmp_path):
    "Two steps with a checkpoint, gone on from; a noise with another tensor belongs to another run."
    leaves = GRAMMAR.sample(16, seed=0)[-1]
    def network(tint): return UNetDenoiser(Tinted(4, torch.tensor([tint])), 4, 2, dim=4, ff=4)

    def train(model, steps=2):
        plan = dict(steps=steps, batch_size=8, device="cpu", checkpoint=tmp_path/"own.pt", checkpoint_every=1)
        return fit(model, model.process, leaves, **plan)
    assert train(network(0.5)).step == 2
    assert train(network(0.5)).step == 2
    with pytest.raises(ValueError, match="belongs to another run"): train(network(0.25))
    with pytest.raises(ValueError, match="class='Tinted' is not one of"):
        save_model(network(0.5), tmp_path/"own.safetensors")


def test_training_a_model_that_cannot_be_described(tmp_path):
    class Own(torch.nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function
            self.table = torch.nn.Embedding(5, 4)
        def forward(self, x_t, t): return self.function(self.table(x_t))
    leaves = GRAMMAR.sample(16, seed=0)[-1]
    for _ in range(2):
        plan = dict(steps=2, batch_size=8, device="cpu", checkpoint=tmp_path/"own.pt")
        assert fit(Own(lambda x: x), NOISE, leaves, **plan).step == 2
