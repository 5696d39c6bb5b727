"""Bad arguments of what is exact: `core`, `grammar`, `families`, `inference`, `diffusion`, `theory`."""
import os
import resource
import tempfile
from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import NUMBERS, Call, Thing, failures, unfit

from rhmdiff import core, diffusion, families, grammar, inference, theory
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.sampling import Curve

HUGE = 10**15  # of what no memory holds
BEYOND = [10**400, Fraction(10**400, 3), HUGE]
SEEDS = ["two", [1], {"a": 1}, 1j, float("nan"), True, torch.ones(2), Thing(), 2.5, -1, 2**63, float("inf")]
DEVICES = [3, "gpu", "cpu:x", ["cpu"], b"cpu", {"a": 1}, torch.ones(2), Thing()]
WEIGHTS = ["even", 3, {"a": 1}, [1.0], [1.0, -1.0], [1.0, float("nan")], [0.0, 1.0], ["a", "b"], {1.0, 2.0},
           [torch.ones(2), torch.ones(2)], torch.ones(2, 2), ("zipf",), ("zipf", "x"), ("zip", 1.0),
           ("dirichlet", 0.0), ("zipf", torch.ones(2)), iter([1.0, 1.0]), count(), Thing(), b"ab", "11"]
SIZES = [*NUMBERS, 0, -1, 2.5, "4", [2], {2: 1, 3: 1, 4: 1}, {2, 3, 4}, [2, 2, "x"], [2, 2, None],
         torch.ones(3, 3), count(), iter([2, 2, 2]), float("inf"), HUGE, 10**5000]
FOLDER = tempfile.TemporaryDirectory()  # it goes with the process
DEEP: list = []
for _ in range(10**5): DEEP = [DEEP]


@pytest.fixture(autouse=True, scope="module")
def memory():
    "What is built in spite of its size ends the test and not the machine."
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**32, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


G = HierarchicalGrammar.random(3, 2, 2, 2, seed=0)  # 4 leaves of 3 symbols
DEEP_G = HierarchicalGrammar.random(4, 2, 2, 60, seed=0)  # 2**60 leaves
RAGGED = families.ragged(3, 2, 2, seed=0)
LEVELS = G.sample(2, seed=0)
X = LEVELS[-1]
FLAT = torch.zeros(2, 4, 3)
NAN = float("nan")
INF = float("inf")
KNOWN = theory.information_curve(G, 3, seed=0)


def at(*value):
    "Flat evidence with other values at one position."
    e = FLAT.clone()
    e[1, 2] = torch.tensor(value)
    return e


EVIDENCE = ["text", 3, None, [[0.5]], FLAT[0], FLAT[:, :3], FLAT[..., :2], FLAT.long(), FLAT.half(),
            FLAT.to(torch.complex64), at(NAN, 0, 0), at(INF, 0, 0), at(-INF, -INF, -INF), FLAT.to_sparse(),
            FLAT.double() + 1e308, FLAT.double() - 1e308, Thing()]
TABLE = ["text", 3, None, [[0.5]], FLAT[0], FLAT[..., :2], torch.zeros(2, 4, 4), torch.zeros(2, 3, 3),
         torch.zeros(1, 4, 3), FLAT.long(), Thing()]
LEAVES = [X[:1], X[:, :3], X[0], X - 1, X + 3, X.float()]
TIMES = [True, [True, False], np.array(["a"]), torch.tensor(0.5j), DEEP]
NO_GRAMMAR = [G.tables, G.spec, HierarchicalGrammar]


def spec(**changes):
    return {"root_symbols": ["S"], "root_weights": [1.0], "terminal_symbols": ["x", "y"],
            "alphabets": [["S"], ["x", "y"]], "rules": {"S": [("xy", 1.0)]}} | changes


def written(path):
    "A file written whole."
    with core.atomic_path(path) as tmp: tmp.write_text("x", encoding="utf-8")


CORE = [
    Call(core.check_choice, dict(name="size", value="big", allowed=["big", "small"]),
         dict(value="choice", allowed="object"), dict(value=[np.ones(2), NAN, DEEP, 10**5000], allowed=[1]),
         dict(allowed=["text", [1], {"a": 1}, torch.ones(2)]), dict(value="size")),
    Call(core.check_int, dict(name="size", value=3, low=1, high=5), dict(value="int", low="flag", high="int"),
         dict(value=[0, 6, *BEYOND, np.bool_(True), np.array([3]), b"3"], low=["a", NAN], high=["b"]),
         dict(low=[True], high=[None, 2.5, -1, INF, NAN]), dict(value="size")),
    Call(core.check_number, dict(name="size", value=3, low=1, high=5), dict(value="number"),
         dict(value=[0.5, 5.5, *BEYOND, np.bool_(True), np.array([3.0])], low=["a", None], high=["b"]),
         {}, dict(value="size")),
    Call(core.check_symbols, dict(name="leaves", x=X, v=3, n=4), dict(x="symbols", v="text"),
         dict(x=[X.to_sparse(), X[:, :3]]), dict(v=[3]), dict(x="leaves")),
    Call(core.check_reals, dict(name="t", x=0.5), dict(x="object"),
         dict(x=[True, 1j, DEEP, [1, "a"], [[1], [1, 2]]]), dict(x=[3, [1], torch.ones(2)]), dict(x="t")),
    Call(core.check_times, dict(t=0.5, batch=2), dict(t="times", batch="int"), dict(t=[1 + 2j, *TIMES])),
    Call(core.check_memory, dict(name="n", value=3, numbers=10), {}, dict(numbers=[HUGE, 10**400, INF]), {},
         dict(numbers="n=3")),
    Call(core.checked, dict(function=print), dict(function="object")),
    Call(core.generator, dict(seed=0, device="cpu"), {}, dict(seed=SEEDS, device=[*DEVICES, None, "auto"])),
    Call(core.spawn, dict(seed=0), dict(seed="int"), dict(seed=[1.5])),
    Call(lambda path: core.spawn(0, path), dict(path="a"), {}, dict(path=[Thing(), torch.ones(2), [1], {}])),
    Call(core.draw_index, dict(p=torch.ones(2, 3), g=torch.Generator()), dict(p="tensor", g="object"),
         dict(p=[-torch.ones(2, 3), torch.ones(2, 3).long(), torch.ones(2, 0), torch.tensor(1.0),
                 torch.full((2, 3), INF)]), dict(p=[torch.ones(1, 1, 1, 1, 1)])),
    Call(core.pick_device, dict(device="cpu"), {}, dict(device=[*DEVICES, None, "cuda:99"])),
    Call(core.set_threads, dict(n=1), dict(n="int"), dict(n=[0, HUGE, 10**400]), dict(n=[None])),
    Call(lambda things: core.fingerprint(things), dict(things=1), {}, dict(things=[DEEP])),
    Call(core.ratio_se, dict(above=[1.0, 2.0], below=[1.0, 2.0]), dict(above="object", below="object"),
         dict(above=[1.0, [1.0], [[1.0, 2.0]], ["a", "b"], [1j, 2j], [[1], [1, 2]]], below=["ab", [1.0]]),
         dict(above=[torch.ones(2)], below=[torch.ones(2)])),
    Call(written, dict(path=Path(FOLDER.name)/"x"), dict(path="path"),
         dict(path=["", ".", "/", "\ud800", FOLDER.name])),
    Call(core.check_writable, dict(name="out", path=Path(FOLDER.name)/"x"),
         dict(path="path"), dict(path=["", "/", "\ud800", "/dev/null/x"]), {}, dict(path="out")),
    Call(core.arguments, dict(obj=Call(print, {}, {})), {}, dict(obj=[3, None, "a"])),
    Call(core.describe, dict(obj=1), {}, dict(obj=[print, iter([]), torch.Generator()]), {},
         dict(obj="cannot be described")),
]
NO_LIST = [3, None, "S", b"S", DEEP, {"S": 1.0}, {"S"}, Thing(), torch.ones(2), np.array(["S"])]
BAD_SPECS = {
    "root_symbols": [*NO_LIST, [], [3], [None], [["S"]], ["S", "S"], [DEEP], [Thing()]],
    "terminal_symbols": [*NO_LIST, [], ["x", 3], ["x", "y", "y"], ["x", "y", "\u200b"], ["x", "y", " "],
                         ["x", "y", ""]],
    "root_weights": [*(x for x in NO_LIST if x is not None), [1.0, 1.0], [NAN], [-1.0], [INF], ["1"], [None],
                     [True], [1j], [10**400], [[1.0]], iter([1.0]), count(), {1.0}],
    "alphabets": [*(x for x in NO_LIST if x is not None), [["S"]], [["S"], "xy"], [3], [["S"], ["x"]]],
    "rules": [*(x for x in NO_LIST if not isinstance(x, dict)), [("S", [("xy", 1.0)])], {"S": []}, {"S": 3},
              {"S": "xy"}, {"S": DEEP}, {"S": [DEEP]}, {3: [("xy", 1.0)]}, {"S": [(DEEP, 1.0)]},
              {"S": [("xy", DEEP)]}, {"S": [("xy", "1")]}, {"S": ["x y"]}, {"S": [("x", "y")]},
              {"S": [("xy", 1.0, 2)]}, {"S": [(("x", 3), 1.0)]}, {"S": [("xy", None)]}, {"S": [Thing()]},
              {"S": [(b"xy", 1.0)]}, {"S": {"xy": 1.0}}],
}
GRAMMAR = [
    Call(HierarchicalGrammar, dict(spec=spec()), dict(spec="object"), dict(spec=[DEEP, [spec()], G])),
    *(Call(lambda value, key=key: HierarchicalGrammar(spec(**{key: value})), dict(value=spec()[key]), {},
           dict(value=bad), {}, dict(value=key)) for key, bad in BAD_SPECS.items()),
    Call(lambda rules: HierarchicalGrammar(spec(alphabets=None,
                                                rules={"S": [*(((f"{k}",) * 500, 1.0) for k in range(600)),
                                                             (("0",) * rules, 1.0)]},
                                                terminal_symbols=[f"{k}" for k in range(600)])),
         dict(rules=7), {}, dict(rules=[10**5])),
    Call(HierarchicalGrammar.of, dict(tables=G.tables), dict(tables="object")),
    Call(HierarchicalGrammar.random, dict(v=3, m=2, s=2, L=2, n_classes=None, weights=None, seed=0),
         dict(L="int", n_classes="int"),
         dict(v=SIZES, m=SIZES, s=[*SIZES, 2000], L=[0, HUGE, 10**5000], n_classes=[0, HUGE, 10**5000],
              weights=WEIGHTS, seed=SEEDS),
         dict(n_classes=[None], v=[[2, 2, "x"]], m=[[2]], s=[[2]])),
    Call(HierarchicalGrammar.random, dict(v=4, m=2, s=60, L=1), {}, dict(m=[10**12])),
    Call(HierarchicalGrammar.alphabet, dict(self=G, level=1), dict(level="int"), dict(level=[3, -2, HUGE]),
         dict(level=[-1])),
    Call(HierarchicalGrammar.sample, dict(self=G, n=2, seed=0, device="cpu", dtype=torch.int64),
         dict(n="int"),
         dict(n=[HUGE, 10**400], seed=SEEDS, device=DEVICES,
              dtype=["int", 3, None, torch.float32, int, Thing()])),
    Call(HierarchicalGrammar.sample, dict(self=DEEP_G, n=0), {}, dict(n=[1])),
    Call(HierarchicalGrammar.sample_unique, dict(self=G, n=2, seed=0), dict(n="int"),
         dict(n=[0, 10**5, HUGE, 10**400], seed=SEEDS)),
    Call(HierarchicalGrammar.resample, dict(self=G, levels=LEVELS, level=1, node=1, seed=0, synonym=False),
         dict(levels="list", level="int", node="int", synonym="flag"),
         dict(levels=[X, LEVELS[:2], [*LEVELS[:2], X[:1]], [*LEVELS[:2], X.float()], [*LEVELS[:2], X + 9]],
              level=[2, HUGE], node=[2, HUGE], seed=SEEDS)),
    Call(HierarchicalGrammar.generate_dataset, dict(self=G, n_samples=2, seed=0), dict(n_samples="int"),
         dict(n_samples=[HUGE, 10**400], seed=SEEDS)),
    Call(lambda which: HierarchicalGrammar.count(which), dict(which=G), {}, dict(which=[DEEP_G]), {},
         dict(which="the number of derivations")),
    Call(lambda which: HierarchicalGrammar.count_strings(which), dict(which=G), {}, dict(which=[DEEP_G]), {},
         dict(which="the number of derivations")),
    Call(HierarchicalGrammar.enumerate, dict(self=G, start=0, stop=5, block=2),
         dict(start="int", stop="int", block="int"), dict(start=[6], stop=[10**6, 10**400], block=[0]),
         dict(stop=[None])),
    *(Call(method, dict(self=G, leaves=X), dict(leaves="symbols"), dict(leaves=[*LEAVES[1:], X.to_sparse()]))
      for method in (HierarchicalGrammar.parse, HierarchicalGrammar.valid, HierarchicalGrammar.log_prob)),
    Call(HierarchicalGrammar.log_joint, dict(self=G, levels=LEVELS), dict(levels="list"),
         dict(levels=[X, LEVELS[:2], [*LEVELS[:2], X[:1]]])),
    Call(HierarchicalGrammar.decode, dict(self=G, leaves=X, empty="", mask="_"),
         dict(leaves="symbols", empty="text", mask="text"),
         dict(leaves=[*LEAVES[1:4], X + 9], empty=["ab", "a"], mask=["", "ab", "a"]), dict(mask=[None])),
    Call(HierarchicalGrammar.decode, dict(self=G, leaves=X), {}, dict(leaves=[torch.full((1, 4), 3)])),
    Call(HierarchicalGrammar.encode, dict(self=G, strings=["aaaa"], empty=""),
         dict(strings="object", empty="text"),
         dict(strings=["aaaa", b"aaaa", ["aaa"], ["zzzz"], [3], [None], [DEEP], [["a"]]], empty=["ab", "a"])),
    Call(HierarchicalGrammar.marginal, dict(self=G, level=1), dict(level="int"),
         dict(level=[3, -2, (1, 0), HUGE]), dict(level=[-1])),
    Call(HierarchicalGrammar.marginal, dict(self=DEEP_G, level=1), {}, dict(level=[-1])),
    Call(HierarchicalGrammar.joint, dict(self=G, a=(1, 0), b=(2, 3)), dict(a="object", b="object"),
         dict(a=[(1, 2), (3, 0), (1,), (1, 0, 0), (1.5, 0), ("a", 0)], b=[(2, 4), 2, (None, 0)])),
    Call(HierarchicalGrammar.mutual_information, dict(self=G, a=(1, 0), b=2), dict(a="object", b="object"),
         dict(a=[(1, 2), (1,), (1, 0, 0), ("a", 0)], b=[(2, 4), 3, (None, 0)]), dict(b=[3], a=[3])),
    Call(HierarchicalGrammar.mutual_information, dict(self=DEEP_G, a=0, b=0), {}, dict(b=[-1])),
    Call(grammar.rules_html, dict(t=G.tables, symbols=6, shown=8),
         dict(t="object", symbols="int", shown="int")),
    Call(grammar.tree_svg, dict(t=G.tables, levels=LEVELS, widest=32),
         dict(t="object", levels="list", widest="int"),
         dict(levels=[X, LEVELS[:2], G.sample(0)], widest=[0, HUGE])),
]
NLTK = pytest.importorskip("nltk")
FAMILIES = [
    Call(families.weighted, dict(grammar=G, weights=None, root_weights=None, seed=0), dict(grammar="object"),
         dict(grammar=NO_GRAMMAR, weights=WEIGHTS, seed=SEEDS,
              root_weights=["even", 3, {"a": 1}, [1.0], [1.0, 1.0, -1.0], [1, 1, NAN], iter([1, 1, 1]),
                            count(),
                            {1, 2, 3}, torch.ones(3, 3), Thing()])),
    Call(families.ambiguous, dict(v=3, m=2, s=2, L=2, shared=0.5, n_classes=None, weights=None, seed=0),
         dict(L="int", shared="number", n_classes="int"),
         dict(v=SIZES, m=SIZES, s=[*SIZES, 2000], L=[0, HUGE], n_classes=[0, HUGE], shared=[-0.1, 1.1],
              weights=WEIGHTS, seed=SEEDS), dict(n_classes=[None], m=[[2]], s=[[2]])),
    Call(families.ambiguous, dict(v=[2, 64, 64], m=[2, 1], s=2, L=2, shared=0.5), {}, dict(m=[[2**9, 1]])),
    Call(families.shared_fraction, dict(grammar=G), dict(grammar="object"), dict(grammar=NO_GRAMMAR)),
    Call(families.filtered, dict(grammar=G, k=1, above=0), dict(grammar="object", k="int", above="int"),
         dict(grammar=NO_GRAMMAR, k=[3, HUGE], above=[2, HUGE])),
    Call(families.filtered, dict(grammar=DEEP_G, k=1), {}, dict(k=[60, 30])),
    Call(families.ragged, dict(v=3, m=2, L=2, lengths=(1, 2), n_classes=None, weights=None, seed=0),
         dict(L="int", n_classes="int"),
         dict(v=SIZES, m=SIZES, L=[0, HUGE], n_classes=[0, HUGE, 10**5000], weights=WEIGHTS, seed=SEEDS,
              lengths=["12", b"12", None, (), [0], [1, 10**7], [1, "2"], [1, None], 2.5, True, {1, 2}, DEEP,
                       1j,
                       [1, 10**400], range(1, 10**12), torch.ones(2), Thing()]),
         dict(n_classes=[None], m=[[2]])),
    Call(families.varying_tree, dict(v=3, m={2: 1, 3: 2}, L=2, shares=None, n_classes=None, seed=0),
         dict(v="int", L="int", n_classes="int"),
         dict(v=[0, HUGE], L=[0, HUGE], n_classes=[0, HUGE, 10**5000], seed=SEEDS,
              m=["12", None, 3, [1], {}, {0: 1}, {2: 0}, {2: 4}, {2: 1.5}, {"2": 1}, {2: HUGE}, {10**7: 1},
                 {2: None}, {2: Thing()}, Thing()],
              shares=["12", 3, [1], {}, {2: 1.0}, {2: 0.5, 3: 0.6}, {2: -1, 3: 2}, {2: NAN, 3: 0.5},
                      {2: "a", 3: 0.5}, {2: 1j, 3: 0.5}, Thing()]),
         dict(n_classes=[None])),
    Call(families.save_json, dict(grammar=G, path=Path(FOLDER.name)/"g.json"),
         dict(grammar="object", path="path"), dict(grammar=NO_GRAMMAR, path=["", "/", FOLDER.name])),
    Call(families.load_json, dict(path=families.save_json(G, Path(FOLDER.name)/"good.json")),
         dict(path="path"),
         dict(path=["", "nowhere.json", "/", "/dev/zero", __file__])),
    Call(families.to_nltk, dict(grammar=G), dict(grammar="object"), dict(grammar=NO_GRAMMAR)),
    Call(families.from_rules, dict(rules={"S": ["a b"]}, root_symbols=None, root_weights=None), {},
         dict(rules=["text", 3, None, [1], {}, {"S": []}, {"S": "a"}, {"S": [3]}, {"S": [("a", 1j)]},
                     {"S": ["S"]}, {"S": [()]}, Thing()],
              root_symbols=["S", 3, [], ["T"], [None], {"a": 1}, Thing()],
              root_weights=[3, "1", [1, 1], [-1], ["x"], [NAN], Thing()]), {}, dict(root_symbols="root")),
    Call(families.from_nltk, dict(grammar=families.to_nltk(G)), dict(grammar="object"),
         dict(grammar=[G, *(NLTK.PCFG(NLTK.Nonterminal(start), [NLTK.ProbabilisticProduction(
             NLTK.Nonterminal(start), children, prob=1.0)]) for start, children in [
                 (("root",), ["x"]), (("root",), ["x", "y"])])]), {}),
    Call(families.from_nltk, dict(grammar=families.to_nltk(G)), {}, dict(grammar=[NLTK.PCFG(
        NLTK.Nonterminal(start), [NLTK.ProbabilisticProduction(NLTK.Nonterminal(start), ["x"], prob=1.0)])
        for start in [(), ("level",), ("level", "x"), 3, None]]), {}, dict(grammar="symbol")),
]
OWN = inference.log_weights(G)
BAD_WEIGHTS = [tuple(OWN), OWN._replace(prior=[1.0]), OWN._replace(prior=OWN.prior[:1]),
               OWN._replace(levels=()),
               OWN._replace(prior=OWN.prior * NAN), OWN._replace(prior=OWN.prior + INF),
               OWN._replace(prior=OWN.prior - 1e308), OWN._replace(prior=OWN.prior.long()),
               OWN._replace(levels=("a", "b")), OWN._replace(prior=torch.full((3,), -1e38))]
MEMORY = dict(memory_bytes="int")
MORE_MEMORY = [0, 10**400]
INFERENCE = [
    Call(inference.check_evidence, dict(grammar=G, log_evidence=FLAT), dict(grammar="object"),
         dict(grammar=NO_GRAMMAR, log_evidence=EVIDENCE)),
    Call(inference.log_weights, dict(grammar=G, like=FLAT), dict(grammar="object", like="object"),
         dict(grammar=NO_GRAMMAR, like=[X]), dict(like=[None, torch.ones(2)])),
    Call(inference.posterior, dict(grammar=G, log_evidence=FLAT, memory_bytes=2**20, path="auto",
                                   weights=None),
         dict(grammar="object", path="choice", weights="object", **MEMORY),
         dict(grammar=NO_GRAMMAR, log_evidence=EVIDENCE, memory_bytes=MORE_MEMORY, weights=BAD_WEIGHTS),
         dict(weights=[None])),
    Call(inference.posterior, dict(grammar=G, log_evidence=FLAT, path="auto", weights=OWN), {},
         dict(path=["fast"])),
    Call(inference.leaf_posterior, dict(grammar=G, log_evidence=FLAT, memory_bytes=2**20, path="auto"),
         dict(grammar="object", path="choice", **MEMORY),
         dict(grammar=NO_GRAMMAR, log_evidence=EVIDENCE, memory_bytes=MORE_MEMORY)),
    Call(inference.log_likelihood, dict(grammar=G, log_evidence=FLAT, memory_bytes=2**20, path="auto",
                                        weights=None),
         dict(grammar="object", path="choice", weights="object", **MEMORY),
         dict(grammar=NO_GRAMMAR, log_evidence=EVIDENCE, memory_bytes=MORE_MEMORY, weights=BAD_WEIGHTS),
         dict(weights=[None])),
    Call(inference.sample_posterior, dict(grammar=G, log_evidence=FLAT, seed=0, memory_bytes=2**20),
         dict(grammar="object", **MEMORY),
         dict(grammar=NO_GRAMMAR, log_evidence=EVIDENCE, seed=SEEDS, memory_bytes=MORE_MEMORY)),
    *(Call(function, dict(grammar=G, log_evidence=FLAT, lengths=None, memory_bytes=2**20),
           dict(grammar="object", **MEMORY),
           dict(grammar=NO_GRAMMAR, log_evidence=[x for x in EVIDENCE if getattr(x, "shape", 0) != (2, 3, 3)],
                memory_bytes=MORE_MEMORY,
                lengths=["two", 3, [4, 4], torch.tensor([4]), torch.tensor([4, 5]), torch.tensor([0, 4]),
                         torch.tensor([4., 4.]), torch.tensor([True] * 2), torch.tensor([[4, 4]]), Thing()]),
           dict(lengths=[None]))
      for function in (inference.inside_outside, inference.inside)),
    *(Call(function, dict(grammar=G, log_evidence=FLAT, memory_bytes=2**20), dict(grammar="object", **MEMORY),
           dict(grammar=NO_GRAMMAR, log_evidence=EVIDENCE, memory_bytes=MORE_MEMORY))
      for function in (inference.max_posterior, inference.level_entropy, inference.level_information)),
]
V = ["two", None, [1], {"a": 1}, 1j, NAN, True, torch.ones(2), Thing(), 2.5, 0, -1, INF, G, HUGE, 10**400]
MASKING, UNIFORM, BELIEF, GAUSSIAN = (diffusion.make_process(name, 3)
                                      for name in ("masking", "uniform", "belief", "gaussian"))
LEAF_PROCESSES = (MASKING, UNIFORM, BELIEF)
NOISY = GAUSSIAN.sample(X, 0.5, seed=0)
VECTORS = ["text", 3, None, [[0.5]], X, NOISY[0], NOISY[..., :2], torch.full((2, 4, 3), NAN),
           torch.full((2, 4, 3), INF),
           NOISY.long(), NOISY.to(torch.complex64), Thing()]
P = torch.full((2, 4, 3), 1 / 3)
LOOSE = P.clone()
LOOSE[0, 0], LOOSE[0, 1] = 0.5, 1 / 6  # right on average
NAMED = torch.tensor([0.5, 0.5, 0.0]).expand(2, 4, 3)
POINTS = diffusion.RaggedProcess(diffusion.DiffusionProcess(2))
POINTED = POINTS.sample(X, 0.5, seed=0)
ROWS = diffusion.RaggedProcess(diffusion.UniformProcess(2))  # symbol 2 is empty
STEP = dict(t=0.5, s=0.25, seed=0)
STEP_KINDS = dict(t="times", s="times")
STEP_MORE = dict(t=TIMES, s=[*TIMES, 0.75], seed=SEEDS)
AMONG = ["text", None, [0.5, "x"], -0.1, 1.1, NAN, 1j, True, Thing(), DEEP]


def noise_calls(process, x_t, bad_x_t):
    "What every process that keeps symbols or vectors has."
    scored = dict(self=process, logits=FLAT, x_t=x_t, t=0.5, x0=X)
    return [
        Call(type(process).sample, dict(self=process, x0=X, t=0.5, seed=0), dict(x0="symbols", t="times"),
             dict(x0=LEAVES[2:], t=TIMES, seed=SEEDS)),
        Call(type(process).log_evidence, dict(self=process, x_t=x_t, t=0.5), dict(t="times"),
             dict(x_t=bad_x_t, t=TIMES)),
        Call(type(process).noised, dict(self=process, x_t=x_t), {}, dict(x_t=bad_x_t)),
        Call(type(process).constrain, dict(self=process, logits=FLAT, x_t=x_t), {},
             dict(logits=TABLE, x_t=["text", None, 3, Thing()])),
        *([] if process is BELIEF else [
            Call(type(process).features, dict(self=process, x_t=x_t), {}, dict(x_t=bad_x_t)),
            Call(type(process).nelbo_rate, scored, dict(x0="symbols", t="times"),
                 dict(logits=[*TABLE, at(NAN, 0, 0), at(INF, 0, 0), at(-INF, -INF, -INF)], x_t=bad_x_t,
                      t=TIMES,
                      x0=LEAVES if process in (ROWS, POINTS) else [*LEAVES, X.int()])),
            Call(type(process).posterior_step, dict(self=process, x_t=x_t, x0=X, **STEP),
                 dict(x0="symbols", **STEP_KINDS), dict(x_t=bad_x_t, x0=LEAVES, **STEP_MORE))]),
    ]


SYMBOLS = ["text", 3, None, [[0, 1]], X[0], X - 9, X + 9, X.float(), X.bool(), Thing()]
DIFFUSION = [
    *(Call(cls, dict(v=3), {}, dict(v=V)) for cls in
      (diffusion.MaskingProcess, diffusion.UniformProcess, diffusion.BeliefProcess)),
    Call(diffusion.DiffusionProcess, dict(v=3, noise_scale=1.0, max_time=1.0, mode="cos"),
         dict(noise_scale="number", max_time="number", mode="choice"),
         dict(v=V, noise_scale=[0, -1, 1e-200, 1e200, 10**400], max_time=[0, -1, 1e-200, 1e200]),
         dict(v=[None])),
    Call(diffusion.RaggedProcess, dict(base=UNIFORM), dict(base="object"),
         dict(base=[diffusion.DiffusionProcess(), ROWS, G, diffusion.UniformProcess])),
    Call(diffusion.make_process, dict(name="masking", v=3, empty=None), dict(name="choice"),
         dict(v=V, empty=["x", 0, 3, True, 1.5, torch.ones(2), [2], Thing()]), dict(v=[G])),
    Call(diffusion.make_process, dict(name="masking", v=RAGGED), {}, dict(empty=[0, True, "x", Thing()])),
    Call(diffusion.make_process, dict(name="gaussian", v=3), {}, dict(v=[None])),
    *(call for process in LEAF_PROCESSES for call in noise_calls(process, X, SYMBOLS)),
    *noise_calls(GAUSSIAN, NOISY, VECTORS), *noise_calls(ROWS, X, SYMBOLS),
    *noise_calls(POINTS, POINTED, VECTORS),
    Call(diffusion.UniformProcess.leap, dict(self=UNIFORM, x_t=X, p=P, **STEP), STEP_KINDS,
         dict(x_t=SYMBOLS, p=[*TABLE, P * 2, -P, P * NAN, LOOSE], **STEP_MORE)),
    Call(diffusion.RaggedProcess.leap, dict(self=ROWS, x_t=X, p=NAMED,
                                            **STEP),
         STEP_KINDS, dict(x_t=SYMBOLS, p=[*TABLE, P * 2], **STEP_MORE)),
    Call(lambda process: process.leap(X, 0.5, 0.25, NAMED), dict(process=ROWS), {},
         dict(process=[diffusion.RaggedProcess(diffusion.MaskingProcess(2))])),
    Call(diffusion.RaggedProcess.mean_step, dict(self=POINTS, x_t=POINTED, mean=NAMED, eta=1.0, **STEP),
         dict(eta="number", **STEP_KINDS),
         dict(x_t=VECTORS, mean=[*TABLE, NAMED * NAN], eta=[-0.1, 1.1], **STEP_MORE)),
    Call(lambda process: process.mean_step(POINTED, 0.5, 0.25, NAMED), dict(process=POINTS), {},
         dict(process=[ROWS])),
    Call(diffusion.DiffusionProcess.mean_step, dict(self=GAUSSIAN, x_t=NOISY, mean=P, eta=1.0, **STEP),
         dict(eta="number", **STEP_KINDS),
         dict(x_t=VECTORS, mean=[*TABLE, P * NAN], eta=[-0.1, 1.1], **STEP_MORE)),
    Call(diffusion.DiffusionProcess.mean_step, dict(self=GAUSSIAN, x_t=NOISY, mean=P, t=0.5, s=0.25, eta=0.0),
         {},
         dict(seed=SEEDS[:10])),
    Call(diffusion.DiffusionProcess.alpha_bar, dict(self=GAUSSIAN, t=0.5), {}, dict(t=AMONG)),
    Call(diffusion.DiffusionProcess.add_noise,
         dict(self=GAUSSIAN, one_hot=torch.ones(2, 1, 3, 4), timestep=0.5, seed=0),
         dict(timestep="times"),
         dict(one_hot=["text", None, 3, FLAT, torch.ones(2, 1, 4, 4), torch.full((2, 1, 3, 4), NAN),
                       torch.ones(2, 1, 3, 4, dtype=torch.complex64), Thing()], timestep=TIMES, seed=SEEDS)),
    Call(lambda self: self.sample(X, 0.5), dict(self=GAUSSIAN), {}, dict(self=[diffusion.DiffusionProcess()]),
         {},
         dict(self="v=None")),
]
LEVEL = {"v": "int", "m": "int", "s": "int"}
MORE_LEVEL = dict(v=[0, 1, *BEYOND[:2]], m=[0, 10, *BEYOND], s=[0, 1, *BEYOND])
P_VALUES = ["text", None, 1j, True, ["a"], [True], NAN, -0.1, 1.1, [0.5, NAN], torch.tensor(2.0), Thing(),
            DEEP]
SHAPE = ["4222", b"4222", 3, None, {"a": 1}, (3, 2, 2), (3, 2, 2, 2, 2), torch.ones(2), Thing()]
INSIDE = [(1, 2, 2, 2), (3, 10, 2, 2), (3, 2, 1, 2), (3, 2, 2, -1), (3, 2, 2, HUGE), ("3", 2, 2, 2),
          (3, None, 2, 2),
          (100, 2, 10, 2), (HUGE, 2, 2, 2), (3, 2, HUGE, 2), (NAN, 2, 2, 2)]
PROCESS = [diffusion.make_process("masking", 4), ROWS, diffusion.DiffusionProcess(), diffusion.MaskingProcess]
CHANNEL = [*PROCESS, BELIEF]
PREDICT = dict(process="object", t="number", size="int", seed="int")
MORE_PREDICT = dict(process=PROCESS, t=[-0.1, 1.1], size=[8, HUGE, 10**400], device=DEVICES)
ENSEMBLE = dict(shape=(3, 2, 2, 2), process=MASKING, t=0.5, size=16, seed=0, device="cpu")
NO_BELIEF = dict(grammar=G, process=MASKING)
THEORY = [
    Call(theory.mean_field_map, dict(p=0.5, v=4, m=2, s=2, parents=None), LEVEL | dict(parents="int"),
         dict(p=P_VALUES, parents=[0, 9, *BEYOND], **MORE_LEVEL), dict(parents=[None])),
    Call(theory.mean_field_slope, dict(p=0.5, v=4, m=2, s=2), LEVEL, dict(p=P_VALUES, **MORE_LEVEL)),
    *(Call(function, dict(v=4, m=2, s=2), LEVEL, MORE_LEVEL) for function in
      (theory.phase, theory.fixed_point, theory.critical_noise, theory.correlation_exponent)),
    Call(theory.mean_field_by_depth, dict(eps=[0.5], v=4, m=2, s=2, L=2, n_classes=None),
         LEVEL | dict(L="int", n_classes="int"),
         dict(eps=[*P_VALUES, 0.5, [[0.5]]], L=BEYOND, n_classes=[0], **MORE_LEVEL), dict(n_classes=[None])),
    Call(theory.mean_field_changes, dict(eps=[0.5], v=4, m=2, s=2, L=2), LEVEL | dict(L="int"),
         dict(eps=[*P_VALUES, 0.5, [[0.5]]], L=BEYOND, **MORE_LEVEL)),
    Call(theory.mean_field_noise_at, dict(fraction=0.5, v=4, m=2, s=2, L=2),
         LEVEL | dict(fraction="number", L="int"),
         dict(fraction=[0, 1, -1, 2], L=BEYOND, **MORE_LEVEL)),
    Call(theory.population_dynamics, ENSEMBLE, PREDICT, dict(shape=SHAPE, **MORE_PREDICT)),
    Call(theory.population_dynamics, ENSEMBLE | dict(shape=G), PREDICT, MORE_PREDICT),
    Call(theory.class_reconstruction_by_depth, ENSEMBLE, PREDICT, dict(shape=[*SHAPE, G], **MORE_PREDICT)),
    Call(theory.class_reconstruction_by_height,
         dict(grammar=G, process=MASKING, t=0.5, size=16, seed=0, device="cpu"),
         dict(grammar="object", process="object", t="number", size="int"),
         dict(grammar=NO_GRAMMAR, seed=SEEDS, **MORE_PREDICT | dict(size=[0, HUGE, 10**400]))),
    *(Call(lambda shape, f=f: f(shape, MASKING, 0.5, 16), dict(shape=(3, 2, 2, 2)), {}, dict(shape=INSIDE),
           {},
           dict(shape=""))
      for f in (theory.population_dynamics, theory.class_reconstruction_by_depth)),
    Call(theory.leaf_messages, dict(process=MASKING, t=0.5, size=16, seed=0),
         dict(process="object", t="number", size="int", seed="int"),
         dict(process=[ROWS, diffusion.MaskingProcess], t=[-0.1, 1.1], size=[0, HUGE, 10**400])),
    Call(theory.messages_above,
         dict(below=torch.full((8, 3), 1 / 3, dtype=torch.float64), m=2, s=2, redraw=False, seed=0),
         dict(m="int", s="int", redraw="flag", seed="int"),
         dict(below=["text", None, 3, torch.ones(3), torch.full((8, 3), 1 / 3), torch.ones(8, 3).double(),
                     torch.full((8, 3), NAN).double(), torch.ones(0, 3).double(), Thing()],
              m=[0, 10, *BEYOND], s=[0, 1, *BEYOND])),
    Call(theory.typical_growth, dict(v=4, m=2, s=2, L=2, grammars=8, seed=0, device="cpu"),
         LEVEL | dict(L="int", grammars="int"),
         dict(L=[1, *BEYOND], grammars=[7, *BEYOND], seed=SEEDS, device=DEVICES, **MORE_LEVEL)),
    Call(theory.leaf_covariance, dict(grammar=G), dict(grammar="object"),
         dict(grammar=[*NO_GRAMMAR, DEEP_G])),
    Call(theory.signal_to_noise, dict(process=MASKING, t=0.5), dict(process="object", t="number"),
         dict(process=[BELIEF, ROWS, diffusion.MaskingProcess], t=[-0.1, 1.1])),
    Call(theory.curvature_time, NO_BELIEF | dict(apart=False),
         dict(grammar="object", process="object", apart="flag"),
         dict(grammar=[*NO_GRAMMAR, HierarchicalGrammar.random(3, 2, 2, 12)], process=CHANNEL)),
    Call(theory.noise_information, NO_BELIEF | dict(t=0.5, samples=2, seed=0),
         dict(grammar="object", process="object", t="number", samples="int"),
         dict(grammar=NO_GRAMMAR, process=CHANNEL, t=[-0.1, 1.1], samples=[1, HUGE, 10**400], seed=SEEDS)),
    *(Call(theory.condensation_time, NO_BELIEF | dict(P=P_, samples=2, seed=0),
           dict(grammar="object", process="object", P="int", samples="int", seed="int"),
           dict(grammar=NO_GRAMMAR, process=CHANNEL, P=[0, 1],
                samples=[1, HUGE, 10**400])) for P_ in (4, 10**6)),
    Call(theory.agreement_law, dict(grammar=G, x=X), dict(grammar="object", x="tensor"),
         dict(grammar=[*NO_GRAMMAR, RAGGED], x=[X[:, :3], X[0], X - 1, X + 4, X.float()])),
    Call(theory.source_weight, NO_BELIEF | dict(x0=X, x_t=X, t=0.5, P=10),
         dict(grammar="object", process="object", x0="tensor", x_t="tensor", t="number", P="number"),
         dict(grammar=[*NO_GRAMMAR, RAGGED], process=[*CHANNEL, GAUSSIAN], x0=LEAVES,
              x_t=[*LEAVES[:4], X + 4], t=[0, -0.1, 1.1], P=[0, INF, 10**400])),
    Call(theory.information_curve, dict(grammar=G, samples=2, denoiser=None, seed=0, device="cpu"),
         dict(grammar="object", samples="int", denoiser="object", seed="int"),
         dict(grammar=NO_GRAMMAR, samples=[0, HUGE, 10**400], denoiser=[lambda x, t: x], device=DEVICES),
         dict(denoiser=[None])),
    Call(theory.unmasking_cost, dict(curve=KNOWN, sizes=[2, 2], exact=KNOWN),
         dict(curve="object", sizes="int", exact="object"),
         dict(curve=[KNOWN.mean, KNOWN._replace(surprise=None)],
              sizes=[0, HUGE, [1, 1, 0], [2, 1], [2, 0, 2]],
              exact=[KNOWN.mean, Curve.of(*(x[1:] for x in KNOWN[2:])),
                     KNOWN._replace(entropy=KNOWN.entropy * NAN)]),
         dict(exact=[None])),
    Call(theory.unmasking_cost, dict(curve=KNOWN.mean, sizes=2), dict(sizes="int"),
         dict(curve=["text", None, 1., [], [[1.]], [NAN], ["a"], [True], object()],
              sizes=[[1, 2]])),
    Call(theory.sample_complexity, dict(v=4, m=2, L=2), dict(v="int", m="int", L="int"),
         dict(v=[1, 10**400], m=[0, 10**400, 10**200], L=[0, HUGE, 10**400])),
    Call(theory.memorization_steps, dict(P=10, known=(10, 3)), {},
         dict(P=["text", None, 1j, True, ["a"], NAN, 0, -1, INF, [1, -1], Thing(), DEEP],
              known=["text", None, 3, (1,), (1, 2, 3), (0, 3), (1, INF), ("a", 1), (1j, 1), torch.ones(2),
                     DEEP, Thing()])),
]
ALL = dict(core=CORE, grammar=GRAMMAR, families=FAMILIES, inference=INFERENCE, diffusion=DIFFUSION,
           theory=THEORY)


@pytest.mark.parametrize("module", ALL)
def test_every_bad_argument_is_refused_by_name(module):
    assert unfit(ALL[module]) == [] and failures(ALL[module]) == []


def test_there_are_many_cases():
    assert sum(1 for calls in ALL.values() for call in calls for _ in call.cases()) >= 4000
