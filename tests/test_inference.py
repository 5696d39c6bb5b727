"""Exact inference against plain enumeration, and the transition where theory puts it."""
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from enumeration import FAMILIES, count, derivations, indices, many, specs
from enumeration import posterior as enumerated
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from rhmdiff import inference
from rhmdiff.diffusion import make_process
from rhmdiff.engine.passes import satisfiable
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.inference import (
    inside,
    inside_outside,
    leaf_posterior,
    level_entropy,
    level_information,
    log_weights,
    max_posterior,
    posterior,
    sample_posterior,
)
from rhmdiff.models import BayesDenoiser, RungDenoiser
from rhmdiff.observables import mean_se, reconstruction


@pytest.mark.parametrize("family", FAMILIES)
@many
@given(st.data(), st.integers(0, 2**32), st.sampled_from(["soft", "sharp", "zeros"]))
def test_posterior_against_enumeration(family, data, seed, kind):
    spec = data.draw(specs(family))
    g, every = HierarchicalGrammar(spec), derivations(spec)
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(2, g.n_leaves, g.vocab[-1])) * {"soft": 1, "sharp": 20, "zeros": 2}[kind]
    e = e.astype(np.float32).astype(np.float64)  # both precisions see the same numbers
    if kind == "zeros":
        out = rng.random(e.shape) < 0.4
        out[out.all(-1)] = False
        e[out] = -math.inf
    size = max(1., np.abs(e[e > -math.inf]).max() / 10)  # sums of evidence are rounded in proportion to it
    for dtype, tol in ((torch.float32, 1e-5 * size), (torch.float64, 1e-10)):
        for path in ("reference", "fast"):
            beliefs = posterior(g, torch.tensor(e, dtype=dtype), path=path)
            assert all(b.dtype == dtype for b in beliefs.levels) and beliefs.log_z.dtype == torch.float64
            assert leaf_posterior(g, torch.tensor(e, dtype=dtype), path=path)[0].equal(beliefs.levels[-1])
            for b in range(2):
                levels, log_z = enumerated(every, g, e[b])
                assert beliefs.log_z[b] == log_z or abs(beliefs.log_z[b] - log_z) <= tol
                for got, want in zip(beliefs.levels, levels):
                    assert np.abs(got[b].double().numpy() - want).max() <= tol
    best, value = max_posterior(g, torch.tensor(e))
    def told(b, levels): return sum(e[b, i, a] for i, a in enumerate(indices(g, levels)[-1]))
    score = np.array([[math.log(p) + told(b, levels) for levels, p in every] for b in range(2)])
    leaves = best[-1].clamp(min=0)[..., None]
    joint = g.log_joint([l.clamp(min=0) for l in best]) + torch.tensor(e).gather(-1, leaves)[..., 0].sum(-1)
    for b in range(2):
        if score[b].max() == -math.inf: assert value[b] == -math.inf and all((l[b] == -1).all() for l in best)
        else: assert abs(value[b] - score[b].max()) < 1e-9 and abs(joint[b] - value[b]) < 1e-9
    entropy = level_entropy(g, torch.tensor(e))
    for b in range(2):
        if score[b].max() == -math.inf: assert entropy[b].isnan().all()
        else:
            p = np.exp(score[b] - score[b].max())
            p = p[p > 0] / p.sum()
            assert abs(entropy[b, -1] + (p * np.log(p)).sum()) < 1e-9
    possible = beliefs.log_z > -math.inf
    if bool(possible.any()):
        drawn = sample_posterior(g, torch.tensor(e)[possible], seed=seed)
        for x, p in zip(drawn, beliefs.levels): assert (p[possible].gather(-1, x[..., None]) > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_posterior_samples_follow_the_joint_law(family):
    """Whole derivations, not marginals: chi-square against enumeration.

    It would reject a right sampler once in 10,000 seeds, six times over."""
    stream = np.random.default_rng(FAMILIES.index(family))
    same = settings(derandomize=True, database=None, max_examples=2000, phases=[Phase.generate])
    spec = find(specs(family, max_derivations=300), lambda spec: 20 < count(spec), settings=same)
    g, every = HierarchicalGrammar(spec), derivations(spec)
    e = stream.normal(size=(g.n_leaves, g.vocab[-1]))
    code = {tuple(itertools.chain(*indices(g, levels))): k for k, (levels, _) in enumerate(every)}
    def told(levels): return sum(e[i, a] for i, a in enumerate(indices(g, levels)[-1]))
    score = np.array([math.log(p) + told(levels) for levels, p in every])
    law = np.exp(score - score.max())
    drawn = torch.cat(sample_posterior(g, torch.tensor(e).expand(20000, -1, -1), seed=1), 1)
    seen = np.bincount([code[tuple(x)] for x in drawn.tolist()], minlength=len(every))
    expected = 20000 * law / law.sum()
    small = expected < 5
    seen = np.append(seen[~small], seen[small].sum())
    expected = np.append(expected[~small], expected[small].sum())
    assert chisquare(seen[expected > 0], expected[expected > 0]).pvalue > 1e-4


@pytest.mark.parametrize("family", ["layered", "random", "ambiguous"])
@many
@given(st.data(), st.integers(0, 2**32), st.sampled_from(["masking", "uniform", "gaussian"]))
def test_rungs_against_enumeration(family, data, seed, name):
    "Every string of subtrees that are independent given the class, weighed by its evidence."
    g = HierarchicalGrammar(data.draw(specs(family, max_derivations=300)))
    assume(g.vocab[-1] > 1)
    process = make_process(name, g)
    t = torch.tensor(0.6).double()
    y = process.sample(g.sample(2, seed=seed)[-1], t, seed=seed)
    heard = process.log_evidence(y, t).exp().numpy()
    trees = next(g.enumerate())
    p = g.log_joint(trees).exp().numpy()
    for k in range(g.depth + 1):
        width = math.prod(g.arity[g.depth - k:])
        mass = np.zeros((2, g.n_leaves, g.vocab[-1]))
        for c in range(g.vocab[0]):
            of_class = (trees[0][:, 0] == c).numpy()
            words = trees[-1].numpy()[of_class].reshape(of_class.sum(), -1, width)
            laws = [shares(words[:, j], p[of_class] / p[of_class].sum()) for j in range(words.shape[1])]
            assume(math.prod(len(law) for law in laws) <= 20000)
            for parts in itertools.product(*(law.items() for law in laws)):
                x = list(itertools.chain(*(word for word, _ in parts)))
                joint = p[of_class].sum() * math.prod(share for _, share in parts)
                weight = joint * heard[:, range(g.n_leaves), x].prod(-1)
                for i, a in enumerate(x): mass[:, i, a] += weight
        answer = RungDenoiser(g, process, k).probabilities(y, t).numpy()
        assert np.abs(answer - mass / mass.sum(-1, keepdims=True)).max() <= 1e-10
    assert RungDenoiser(g, process, g.depth)(y, t).equal(BayesDenoiser(g, process)(y, t))


def shares(words, weights) -> dict[tuple, float]:
    "The weight of each word."
    out: dict[tuple, float] = {}
    for word, weight in zip(map(tuple, words), weights): out[word] = out.get(word, 0.) + weight
    return out


@settings(parent=many, max_examples=many.max_examples * 2)
@given(st.data(), st.integers(0, 2**32), st.floats(0, 1), st.floats(-3, 38))
def test_no_evidence_makes_nan(data, seed, zeros, size):
    """Evidence of every size that float32 holds, with hard zeros: no NaN, nor nothing where something fits.

    What float32 adds up to less than it holds is refused."""
    g = HierarchicalGrammar(data.draw(specs(data.draw(st.sampled_from(FAMILIES)))))
    rng = np.random.default_rng(seed)
    e = np.clip(rng.normal(size=(3, g.n_leaves, g.vocab[-1])) * 10.**size, -3e38, 3e38)
    out = rng.random(e.shape) < zeros
    out[out.all(-1)] = False
    e[out] = -math.inf
    for dtype in (torch.float32, torch.float64):
        for path in ("reference", "fast"):
            evidence = torch.tensor(e, dtype=dtype)
            try: beliefs = posterior(g, evidence, path=path)
            except ValueError as why:
                assert dtype == torch.float32 and size > 35 and "every derivation adds up to less" in str(why)
                continue
            assert satisfiable(g.tables, evidence).equal(beliefs.log_z > -math.inf)
            assert not beliefs.log_z.isnan().any() and not any(l.isnan().any() for l in beliefs.levels)
            assert all((l >= 0).all() and (l.sum(-1) <= 1 + 1e-4).all() for l in beliefs.levels)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("ask", [posterior, inside])
def test_a_refusal_names_the_first_position_at_fault(ask, bad):
    g = HierarchicalGrammar.random(3, 2, 2, 2, seed=0)
    e = torch.zeros(3, 4, 3)
    e[1, 3] = e[2, 0] = bad
    with pytest.raises(ValueError, match=r"log_evidence\[1, 3\]"): ask(g, e)


def test_a_refusal_names_the_first_position_that_sums_overflow_at():
    g = HierarchicalGrammar.random(3, 2, 2, 2, seed=0)
    e = torch.zeros(3, 4, 3, dtype=torch.float64)
    e[1, 3, 2] = e[2, 0, 2] = 1e308
    with pytest.raises(ValueError, match=r"log_evidence\[1, 3\] is 1e\+308 at best"): posterior(g, e)


@pytest.mark.parametrize("ask", [posterior, sample_posterior, max_posterior, inside])
def test_no_more_memory_is_granted_than_machines_have(ask):
    g = HierarchicalGrammar.random(3, 2, 2, 2, seed=0)
    e = torch.zeros(2, 4, 3)
    ask(g, e, memory_bytes=2**60)
    with pytest.raises(ValueError, match="memory_bytes"): ask(g, e, memory_bytes=2**60 + 1)


def test_weights_are_taken_up_to_where_their_sums_overflow():
    g = HierarchicalGrammar.random(3, 2, 2, 2, seed=0)
    own = log_weights(g)
    bound = torch.finfo(torch.float64).max / (8 * sum(g.tables.nodes))
    largest = own._replace(prior=torch.full_like(own.prior, -bound))
    e = torch.zeros(1, 4, 3, dtype=torch.float64)
    assert posterior(g, e, weights=largest).log_z.tolist() == [-bound]
    with pytest.raises(ValueError, match="whose sums overflow"):
        posterior(g, e, weights=own._replace(prior=largest.prior * 1.01))


def test_leaves_that_show_tell_all_of_a_derivation():
    "Every derivation has the same probability and a string of its own: no error of a mean either."
    g = HierarchicalGrammar.random([2, 3, 4], [2, 2], 2, 2, seed=0)
    seen = torch.where(g.sample(8, seed=0)[-1][..., None] == torch.arange(4), 0., -math.inf)
    mean, se = level_information(g, seen)
    assert math.isclose(mean[-1], g.entropy()) and (se[-1] < 1e-12) and (mean.diff() > 0).all()


def test_a_string_has_a_token():
    g = HierarchicalGrammar.random(3, 2, 2, 2, seed=0)
    assert inside(g, torch.zeros(1, 4, 3), torch.tensor([1])).log_z.tolist() == [-math.inf]
    with pytest.raises(ValueError, match="must be from 1 to 4"):
        inside(g, torch.zeros(1, 4, 3), torch.tensor([0]))


def test_the_compiled_path_answers_where_it_can(monkeypatch):
    "Of what is measured most, the reference path computes nothing, but where it is asked for."
    pytest.importorskip("numba")
    g = HierarchicalGrammar.random(3, 2, 2, 2, seed=0)
    e = torch.zeros(2, 4, 3)
    def refused(*_): raise AssertionError("the reference path")
    monkeypatch.setattr(inference.passes, "posteriors_in_chunks", refused)
    assert posterior(g, e).log_z.equal(posterior(g, e, path="fast").log_z)
    for needs_it in (lambda: posterior(g, e, path="reference"), lambda: posterior(g, e.requires_grad_())):
        with pytest.raises(AssertionError, match="the reference path"): needs_it()


def test_strings_are_taken_so_many_at_a_time_as_the_memory_holds():
    g = HierarchicalGrammar.random(3, 2, 2, 2, seed=0)
    one = 8 * inference._chart_numbers(g, 4)  # bytes of one string of four tokens
    e = torch.zeros(10, 4, 3)
    def sizes(memory_bytes): return inference._string_parts(g, e, None, memory_bytes, lambda t, x, n: len(x))
    assert sizes(3 * one) == [3, 3, 3, 1] and sizes(3 * one - 1) == [2] * 5 and sizes(1) == [1] * 10


def test_without_numba_the_reference_path_answers():
    code = ("import sys; sys.modules['numba'] = None\n"
            "import torch; from rhmdiff.grammar import HierarchicalGrammar\n"
            "from rhmdiff.inference import posterior\n"
            "g = HierarchicalGrammar.random(4, 2, 2, 3); e = torch.randn(5, 8, 4)\n"
            "slow = posterior(g, e, path='reference').levels\n"
            "assert all(a.equal(b) for a, b in zip(posterior(g, e).levels, slow))\n"
            "try: posterior(g, e, path='fast')\n"
            "except ValueError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "path='fast' needs numba" in done.stdout, done.stdout + done.stderr


def test_threads_and_pieces_change_nothing():
    "Bit for bit: a row's answer depends neither on the batch it stands in nor on the number of threads."
    g = HierarchicalGrammar.random(6, 3, 2, 5, seed=0)
    e = torch.randn(1500, 32, 6, generator=torch.Generator().manual_seed(0)) * 3
    before, whole = torch.get_num_threads(), leaf_posterior(g, e)
    try:
        torch.set_num_threads(2)
        for a, b in ((0, 1500), (0, 1), (7, 1030), (1499, 1500)):
            part = leaf_posterior(g, e[a:b])
            assert part[0].equal(whole[0][a:b]) and part[1].equal(whole[1][a:b])
    finally: torch.set_num_threads(before)


@pytest.mark.parametrize("v, m, L", [(2, 1, 14), (256, 16, 3)])
def test_deep_and_wide_trees(v, m, L):
    "16,384 leaves, and 256 symbols: both paths in float32 against float64."
    g = HierarchicalGrammar.random(v, m, 2, L, seed=0)
    x = g.sample(2, seed=0)[-1]
    noise = torch.randn(*x.shape, v, generator=torch.Generator().manual_seed(0))
    e = torch.where(x[..., None] == torch.arange(v), 0., -3.) + noise
    exact = posterior(g, e.double(), path="reference")
    for path in ("reference", "fast"):
        single = posterior(g, e, path=path)
        assert all((a - b).abs().max() < 1e-4 for a, b in zip(single.levels, exact.levels))
        assert ((single.log_z - exact.log_z).abs() < 1e-6 * exact.log_z.abs()).all()


def test_class_transition_under_belief_noise():
    "v=16, m=4, s=2, L=8: the mean field's critical noise is 0.80, and depth 8 is sharp on both sides of it."
    belief, means = make_process("belief", 16), {0.70: [], 0.88: []}
    for seed in range(3):
        g = HierarchicalGrammar.random(v=16, m=4, s=2, L=8, seed=seed)
        truth = g.sample(60, seed=seed)
        for t in means:
            beliefs = posterior(g, belief.log_evidence(belief.sample(truth[-1], t), t))
            means[t].append(mean_se(reconstruction(beliefs.levels, truth))[0][0].item())
    assert np.mean(means[0.70]) > 0.9 and np.mean(means[0.88]) < 0.15, means


@pytest.mark.slow
def test_reference_reconstruction():
    """(16,4,2), L=8, exact inference over 9,000 trees gave 0.826 and 0.271 under belief noise 0.75 and 0.80,
    0.424 under masking 0.5, 0.444 under uniform 0.3.

    100 grammars with 20 trees each leave standard errors of about 0.01; five of them are allowed."""
    known = {("belief", 0.75): 0.826, ("belief", 0.80): 0.271, ("masking", 0.5): 0.424,
             ("uniform", 0.3): 0.444}
    per_grammar = {k: [] for k in known}
    for seed in range(100):
        g = HierarchicalGrammar.random(v=16, m=4, s=2, L=8, seed=seed)
        truth = g.sample(20, seed=seed)
        for name, t in known:
            process = make_process(name, 16)
            beliefs = posterior(g, process.log_evidence(process.sample(truth[-1], t, seed=seed), t))
            per_grammar[name, t].append(reconstruction(beliefs.levels, truth)[:, 0].mean())
    for k, value in known.items():
        mean, se = mean_se(torch.stack(per_grammar[k]))
        assert abs(mean - value) < 5 * se, (k, mean, se)


def spans_of(g, levels):
    "The spans (level, symbol, first token, end) of a derivation, empty symbols left out."
    rows = indices(g, levels)
    widths = [int(a != g.empty[-1]) for a in rows[-1]]
    found = []
    for l in reversed(range(g.depth + 1)):
        ends = np.cumsum(widths).tolist()
        found += [(l, a, end - w, end) for a, w, end in zip(rows[l], widths, ends) if w]
        if l: widths = np.reshape(widths, (-1, g.arity[l - 1])).sum(1).tolist()
    return found


@pytest.mark.parametrize("family", FAMILIES)
@many
@given(st.data(), st.integers(0, 2**32), st.sampled_from(["soft", "sharp", "zeros"]))
def test_strings_without_their_trees_against_enumeration(family, data, seed, kind):
    "Every span of every derivation that has as many tokens as the string, to 1e-10."
    spec = data.draw(specs(family))
    g, every = HierarchicalGrammar(spec), derivations(spec)
    spans = [spans_of(g, levels) for levels, _ in every]
    lengths = sorted({len([x for x in found if x[0] == g.depth]) for found in spans})
    n, v = lengths[-1], g.vocab[-1] - (g.empty[-1] is not None)
    rng = np.random.default_rng(seed)
    length = int(rng.choice(lengths))
    e = rng.normal(size=(1, n, v)) * {"soft": 1, "sharp": 20, "zeros": 2}[kind]
    if kind == "zeros":
        out = rng.random(e.shape) < 0.4
        out[out.all(-1)] = False
        e[out] = -math.inf
    told = inside_outside(g, torch.tensor(e), torch.tensor([length]))
    wanted = [np.zeros(tuple(x.shape[1:])) for x in told.levels]
    scores = []
    for (_, p), found in zip(every, spans):
        tokens = [(i, a) for l, a, i, _ in found if l == g.depth]
        fits = len(tokens) == length
        scores.append(math.log(p) + sum(e[0, i, a] for i, a in tokens) if fits else -math.inf)
    top = max(scores)
    log_z = top + math.log(sum(math.exp(x - top) for x in scores)) if top > -math.inf else -math.inf
    assert told.log_z[0] == log_z or abs(told.log_z[0] - log_z) < 1e-10 * max(1, abs(log_z))
    for score, found in zip(scores, spans):
        if score == -math.inf: continue
        for l, a, i, j in found: wanted[l][a, i, j] += math.exp(score - log_z)
    for got, want in zip(told.levels, wanted): assert np.abs(got[0].numpy() - want).max() < 1e-10
    alone = inside(g, torch.tensor(e), torch.tensor([length]))
    assert torch.allclose(alone.roots, told.roots) and alone.log_z.allclose(told.log_z, rtol=1e-12)


def test_a_string_too_long_for_float64_is_refused_by_its_length():
    "So many certain tokens weigh more, against chance, than a float holds."
    g = HierarchicalGrammar.random(16, 1, 2, 10, seed=0)
    x = g.sample(1, seed=0)[-1]
    certain = torch.where(x[..., None] == torch.arange(16), 0., -math.inf)
    with pytest.raises(ValueError, match="string of 1024 tokens"): inside(g, certain, memory_bytes=2**30)


def test_a_weight_below_float64_is_refused_where_there_is_a_derivation():
    "Every token speaks against the only string, by more than a float holds of both."
    g = HierarchicalGrammar({"root_symbols": ["S"], "terminal_symbols": ["x", "y"],
                             "rules": {"S": [("xy", 1.)]}})
    against = torch.tensor([[[-800., 0.], [0., -800.]]], dtype=torch.float64)
    with pytest.raises(ValueError, match="string of 2 tokens"): inside(g, against)
