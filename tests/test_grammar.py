"""Grammars of every family against plain enumeration, and against NLTK's chart parser."""
import itertools
import json
import math
from collections import defaultdict

import nltk
import numpy as np
import pytest
import torch
from enumeration import FAMILIES, derivations, indices, many, specs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from rhmdiff.core import generator
from rhmdiff.engine.draws import sample_unique_derivations
from rhmdiff.engine.spec import separator
from rhmdiff.engine.tables import count_strings_at_least
from rhmdiff.families import ambiguous, filtered, from_nltk, from_rules, ragged, to_nltk, weighted
from rhmdiff.grammar import HierarchicalGrammar, _check_pairs, tree_svg

FALSE_ALARM = 1e-4  # of each chi-square below, were the sampler right and the seed drawn anew; there are 38


def string_law(every):
    "{row of leaves: probability} and {row of leaves: probability of its best derivation}."
    probability, best = defaultdict(float), defaultdict(float)
    for levels, p in every:
        probability[levels[-1]] += p
        best[levels[-1]] = max(best[levels[-1]], p)
    return probability, best


def rows(grammar, levels):
    "Sampled levels as tuples of rows of symbols."
    def row(i: int) -> tuple:
        return tuple(tuple(grammar.alphabet(l)[a] for a in x[i].tolist()) for l, x in enumerate(levels))
    return [row(i) for i in range(len(levels[0]))]


@pytest.mark.parametrize("family", FAMILIES)
@many
@given(st.data(), st.integers(0, 2**32))
def test_against_enumeration(family, data, seed):
    spec = data.draw(specs(family))
    g, every = HierarchicalGrammar(spec), derivations(spec)
    law, (probability, best) = dict(every), string_law(every)
    assert len(law) == len(every) == g.count()
    assert g.count_strings() == len(probability) >= count_strings_at_least(g.tables)
    assert math.isclose(g.entropy(), -sum(p * math.log(p) for _, p in every), rel_tol=1e-9, abs_tol=1e-9)
    listed = [torch.cat(x) for x in zip(*g.enumerate(block=700))]
    assert set(rows(g, listed)) == set(law)
    known = torch.tensor([law[r] for r in rows(g, listed)], dtype=torch.float64)
    assert torch.allclose(g.log_joint(listed).exp(), known, rtol=1e-9)

    leaves = torch.tensor([indices(g, [()] * g.depth + [x])[-1] for x in probability])
    summed = torch.tensor(list(probability.values()), dtype=torch.float64)
    assert torch.allclose(g.log_prob(leaves).exp(), summed, rtol=1e-9)
    for x, parsed in zip(probability, rows(g, g.parse(leaves))):
        assert parsed[-1] == x and math.isclose(law[parsed], best[x], rel_tol=1e-9)

    anything = torch.randint(g.vocab[-1], (50, g.n_leaves), generator=torch.Generator().manual_seed(seed))
    in_support = torch.tensor([tuple(g.alphabet(-1)[a] for a in x) in probability for x in anything.tolist()])
    assert (g.log_prob(anything) > -math.inf).equal(in_support)
    assert g.valid(anything)[0][:, 0].equal(in_support)

    assert set(rows(g, g.sample(100, seed=seed))) <= set(law)
    assert set(g.decode(g.sample_unique(len(probability), seed=seed)[-1])) == set(g.decode(leaves))


@pytest.mark.parametrize("family", FAMILIES)
@many
@given(st.data(), st.integers(0, 2**32))
def test_in_and_out(family, data, seed):
    """Spec, JSON and NLTK lose nothing; equal grammars draw the same.

    A string is encoded as it was, or refused for having two alignments."""
    spec = data.draw(specs(family, max_derivations=300))
    g = HierarchicalGrammar(spec)
    by_json = HierarchicalGrammar(json.loads(json.dumps(g.spec)))
    for again in (HierarchicalGrammar(g.spec), by_json, from_nltk(to_nltk(g))):
        assert again == g and hash(again) == hash(g) and again.spec["rules"].keys() == g.spec["rules"].keys()
        assert all(a.equal(b) for a, b in zip(again.sample(20, seed), g.sample(20, seed)))
    of = defaultdict(set)
    for levels, _ in derivations(spec): of[tuple(a for a in levels[-1] if a)].add(levels[-1])
    for string, fit in itertools.islice(of.items(), 20):
        text = separator(g.tables).join(string)
        if len(fit) == 1:
            assert g.encode([text])[0].tolist() == indices(g, [()] * g.depth + [next(iter(fit))])[-1]
        else:
            with pytest.raises(ValueError, match="fits two alignments"): g.encode([text])


@pytest.mark.parametrize("family", FAMILIES)
@settings(parent=many, max_examples=many.max_examples // 3)
@given(st.data())
def test_nodes_against_enumeration(family, data):
    "Laws of nodes and of pairs of nodes, and changes of a subtree."
    spec = data.draw(specs(family, max_derivations=400))
    g, every = HierarchicalGrammar(spec), derivations(spec)
    nodes = [(l, i) for l in range(g.depth + 1) for i in range(g.tables.nodes[l])]
    a, b = data.draw(st.sampled_from(nodes)), data.draw(st.sampled_from(nodes))
    joint = np.zeros((g.vocab[a[0]], g.vocab[b[0]]))
    def number(node, levels): return g.alphabet(node[0]).index(levels[node[0]][node[1]])
    for levels, p in every: joint[number(a, levels), number(b, levels)] += p
    assert np.allclose(g.joint(a, b), joint, atol=1e-12)
    assert np.allclose(g.marginal(a[0])[a[1]], joint.sum(1), atol=1e-12)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    information = (joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum()
    of_levels, of_level = g.mutual_information(a[0], b[0]), g.mutual_information(a, b[0])
    for asked in (g.mutual_information(a, b), of_levels[a[1], b[1]], of_level[b[1]]):
        assert math.isclose(asked, information, abs_tol=1e-10)

    level = data.draw(st.integers(0, g.depth - 1))
    node = data.draw(st.integers(0, g.tables.nodes[level] - 1))
    before = g.sample(30, seed=1)
    after, law = g.resample(before, level, node, seed=2), dict(every)
    assert all(r in law for r in rows(g, after))
    for l, (x, y) in enumerate(zip(before, after)):
        width = g.tables.nodes[l] // g.tables.nodes[level] if l > level else 0
        kept = torch.ones(x.shape[1], dtype=torch.bool)
        kept[node * width:(node + 1) * width] = False
        assert x[:, kept].equal(y[:, kept])


@pytest.mark.parametrize("family", ["layered", "random", "ambiguous"])
@many
@given(st.data())
def test_filtered_against_its_definition(family, data):
    "The distribution of strings from that of the full hierarchy: nodes k levels below independent given it."
    spec = data.draw(specs(family, max_derivations=60))
    g = HierarchicalGrammar(spec)
    above = data.draw(st.integers(0, g.depth - 1))
    k, every = data.draw(st.integers(1, g.depth - above)), derivations(spec)
    width, span = g.tables.nodes[above + k] // g.tables.nodes[above], g.n_leaves // g.tables.nodes[above + k]
    given_node, below = defaultdict(lambda: defaultdict(float)), defaultdict(lambda: defaultdict(float))
    top = defaultdict(float)
    for levels, p in every:
        top[levels[above]] += p
        for i, a in enumerate(levels[above]):
            for j in range(width): given_node[a, j][levels[above + k][i * width + j]] += p
        for i, c in enumerate(levels[above + k]): below[c][levels[-1][i * span:(i + 1) * span]] += p
    def law(weights): return {x: w / sum(weights.values()) for x, w in weights.items()}
    given_node = {key: law(w) for key, w in given_node.items()}
    below = {key: law(w) for key, w in below.items()}
    expected = defaultdict(float)
    for ancestors, p in top.items():
        strings = {(): p}
        for a in ancestors:
            for j in range(width):
                piece = defaultdict(float)
                for c, w in given_node[a, j].items():
                    for x, q in below[c].items(): piece[x] += w * q
                strings = {x + y: u * w for x, u in strings.items() for y, w in piece.items()}
                if len(strings) > 3000: return
        for x, w in strings.items(): expected[x] += w
    f = filtered(g, k, above)
    leaves = torch.tensor([indices(g, [()] * g.depth + [x])[-1] for x in expected])
    assert f.count_strings() == len(expected)
    known = torch.tensor(list(expected.values()), dtype=torch.float64)
    assert torch.allclose(f.log_prob(leaves).exp(), known, rtol=1e-9)


def of_family(name, seed=0):
    "A small grammar of each family, and its derivations listed."
    base = HierarchicalGrammar.random(v=[2, 3, 4], m=[2, 2], s=[2, 2], L=2, seed=seed)
    thin = HierarchicalGrammar.random([2, 3, 4], [2, 1], [2, 1], 2, weights=("zipf", 2.), seed=seed)
    g = {"random": lambda: base, "zipf": lambda: weighted(base, ("zipf", 1.5)),
         "dirichlet": lambda: weighted(base, ("dirichlet", 0.7), [1, 3], seed=seed),
         "ambiguous": lambda: ambiguous([2, 3, 3], [2, 2], [2, 1], 2, 1.0, weights=("zipf", 1.), seed=seed),
         "filtered": lambda: filtered(thin, 1),
         "ragged": lambda: ragged([2, 3, 3], 2, 2, lengths=(1, 2), weights=("zipf", 1.), seed=seed)}[name]()
    return g, derivations(g.spec)


def accepted(observed, expected):
    "The p-value of chi-square, cells with fewer than five expected pooled; none seen where none is expected."
    observed, expected = np.asarray(observed, float), np.asarray(expected, float)
    assert observed[expected == 0].sum() == 0
    small = expected < 5
    if small.any():
        observed = np.append(observed[~small], observed[small].sum())
        expected = np.append(expected[~small], expected[small].sum())
    keep = expected > 0
    return chisquare(observed[keep], expected[keep]).pvalue


SMALL = ("random", "zipf", "dirichlet", "ambiguous", "filtered", "ragged")


@pytest.mark.parametrize("name", SMALL)
def test_sample_follows_the_law(name):
    g, every = of_family(name)
    rank = {levels: k for k, (levels, _) in enumerate(every)}
    for seed, dtype in ((0, torch.int64), (1, torch.uint8)):
        drawn = rows(g, g.sample(20000, seed=seed, dtype=dtype))
        observed = np.bincount([rank[r] for r in drawn], minlength=len(every))
        assert accepted(observed, 20000 * np.array([p for _, p in every])) > FALSE_ALARM


@pytest.mark.parametrize("patience", [0., 0.9])
@pytest.mark.parametrize("name", SMALL)
def test_sample_unique_follows_the_law(name, patience):
    """The first three distinct strings: the first a draw, each next one a draw among those that are left.

    By draws alone, and by clocks."""
    g, every = of_family(name)
    p, _ = string_law(every)
    strings, stream, draws, seen = list(p), generator(1), 2500, defaultdict(int)
    for _ in range(draws):
        three = sample_unique_derivations(g.tables, 3, stream, patience)
        seen[tuple(r[-1] for r in rows(g, three))] += 1
    first_two = {(x, y): p[x] * p[y] / (1 - p[x]) for x in strings for y in strings if x != y}
    pairs = defaultdict(int)
    for (x, y, z), k in seen.items():
        assert len({x, y, z}) == 3
        pairs[x, y] += k
    assert accepted([pairs[k] for k in first_two], [draws * w for w in first_two.values()]) > FALSE_ALARM
    def last(z):
        return sum(w * p[z] / (1 - p[x] - p[y]) for (x, y), w in first_two.items() if z not in (x, y))
    third = {z: last(z) for z in strings}
    observed = defaultdict(int)
    for (_, _, z), k in seen.items(): observed[z] += k
    assert accepted([observed[z] for z in strings], [draws * third[z] for z in strings]) > FALSE_ALARM


@pytest.mark.parametrize("synonym", [False, True])
def test_resample_follows_the_law(synonym):
    g, every = of_family("zipf")
    levels = [x.expand(20000, -1) for x in g.sample(1, seed=3)]
    root, now = levels[0][0, 0].item(), tuple(levels[1][0].tolist())
    drawn = g.resample(levels, 0, 0, seed=4, synonym=synonym)
    same = [a.equal(b) for a, b in zip(drawn, g.resample(levels, 0, 0, seed=4))]
    assert all(same) != synonym  # which is not asked for by default
    law = defaultdict(float)
    for below, p in every:
        x = indices(g, below)
        if x[0] == [root] and not (synonym and tuple(x[1]) == now): law[tuple(x[1] + x[2])] += p
    observed = defaultdict(int)
    for x in torch.cat(drawn[1:], 1).tolist(): observed[tuple(x)] += 1
    assert observed.keys() <= law.keys()
    expected = [20000 * p / sum(law.values()) for p in law.values()]
    assert accepted([observed[k] for k in law], expected) > FALSE_ALARM


def nltk_cases():
    "Sixty grammars: twenty ambiguous, ten each of random, weighted, filtered and ragged ones."
    for seed in range(20):
        shared = (0.5, 1.0)[seed % 2]
        yield ambiguous([2, 3, 3], [2, 3], [2, 2], 2, shared, weights=("dirichlet", 1.), seed=seed)
    for seed in range(10): yield HierarchicalGrammar.random(v=3, m=2, s=2, L=2, seed=seed)
    for seed in range(10):
        yield HierarchicalGrammar.random([2, 3, 4], [2, 3], [3, 2], 2, weights=("zipf", 1.), seed=seed)
    for seed in range(10):
        yield filtered(HierarchicalGrammar.random(v=3, m=2, s=2, L=2, seed=seed), 1 + seed % 2)
    for seed in range(10): yield ragged(v=3, m=2, L=2, lengths=(1, 2), weights=("zipf", 1.), seed=seed)


def test_nltk_agrees():
    """NLTK's chart parser on strings of each language and others: the sum over parses, and the best parse.

    For ragged grammars both are taken over all rows of leaves that spell the string."""
    readings = 0
    for k, g in enumerate(nltk_cases()):
        parser = nltk.InsideChartParser(to_nltk(g), beam_size=0)
        listed = torch.cat([x[-1] for x in g.enumerate()]).unique(dim=0)
        spelt = defaultdict(list)
        for row in listed:
            spelt[tuple(g.alphabet(-1)[a] for a in row.tolist() if a != g.empty[-1])].append(row)
        strings = sorted(spelt)[::max(1, len(spelt) // 3)][:3]
        other = [tuple(reversed(s)) for s in strings]
        for string in strings + [s for s in other if s not in spelt]:
            try: trees = list(parser.parse(list(string)))
            except ValueError: trees = []  # NLTK refuses terminals that stand in no production
            if string not in spelt: assert not trees, string
            else:
                leaves = torch.stack(spelt[string])
                p = [t.prob() for t in trees]
                assert math.isclose(g.log_prob(leaves).exp().sum(), sum(p), rel_tol=1e-9)
                assert math.isclose(g.log_joint(g.parse(leaves)).exp().max(), max(p), rel_tol=1e-9)
                readings += len(trees) > 1
    assert k >= 49 and readings >= 20, "too few strings with more than one reading to judge ambiguity"


def test_valid_below_a_fault():
    g = HierarchicalGrammar.random(v=8, m=2, s=2, L=4, seed=0)
    x = g.sample(1, seed=0)[-1]
    legal = {tuple(e) for e in g.rules[-1].flatten(0, 1).tolist()}
    x[0, 4:6] = torch.tensor(next((a, b) for a in range(8) for b in range(8) if (a, b) not in legal))
    valid = g.valid(x)
    assert [(~v[0]).nonzero()[:, 0].tolist() for v in valid] == [[0], [0], [1], [2], []]


@pytest.mark.parametrize("weights", [None, ("zipf", 6.0)])
def test_more_derivations_than_64_bits(weights):
    "Distinct strings where derivations overflow 64 bits; with steep weights most draws are repeats."
    g = HierarchicalGrammar.random(v=16, m=4, s=2, L=8, weights=weights, seed=0)
    levels = g.sample_unique(3000, seed=0)
    assert g.count() > 2**64 and len(levels[-1].unique(dim=0)) == 3000
    assert (g.log_joint(levels) > -math.inf).all()
    ranks = next(g.enumerate(start=g.count() - 3))
    assert len(ranks[0]) == 3 and (g.log_joint(ranks) > -math.inf).all()


def test_many_derivations_of_few_strings():
    "2**63 derivations all read xx...x: asking for two strings is an error, at once."
    def pair(l, a): return f"{l + 1}0 {l + 1}{a}".split()
    rules = {f"{l}{a}": [(pair(l, 0), 1.), (pair(l, 1), 1.)] for l in range(6) for a in "01"}
    rules |= {"60": [("x", 1.)], "61": [("x", 1.)]}
    g = HierarchicalGrammar({"root_symbols": ["00", "01"], "terminal_symbols": ["x"], "rules": rules})
    assert g.count() == 2**64 and g.count_strings() == 1
    with pytest.raises(ValueError, match="the grammar has no more than 1"): g.sample_unique(2)


def test_large_alphabets_and_many_productions():
    "Symbols that need 16 bits, and codes of productions that need 32; drawn evenly to 5 standard errors."
    g = HierarchicalGrammar.random(v=[1, 400, 3], m=[1000, 1], s=[2, 6], L=2, seed=0)
    levels = g.sample(20000, seed=0)
    assert (g.log_joint(levels[:2] + [levels[2]])[:200] > -math.inf).all()
    with pytest.raises(ValueError, match="dtype=torch.uint8 does not hold 400 symbols"):
        g.sample(2, dtype=torch.uint8)
    _, counts = levels[1].unique(dim=0, return_counts=True)
    assert len(counts) == 1000 and ((counts - 20).abs() < 5.5 * math.sqrt(20)).all()


def test_pairs_of_levels_are_counted_before_they_are_computed():
    deep = HierarchicalGrammar.random(4, 2, 2, 60, seed=0)
    _check_pairs(deep.tables, (12, None), (12, None))
    with pytest.raises(ValueError, match="levels 12 and 13 have 33554432 pairs of nodes; at most 16777216"):
        deep.mutual_information(12, 13)


def test_a_tree_is_drawn_down_to_the_last_level_that_is_not_too_wide():
    g = HierarchicalGrammar.random(4, 2, 2, 4, seed=0)
    levels = g.sample(1, seed=0)
    whole, part = (tree_svg(g.tables, levels, widest) for widest in (16, 15))
    assert "leaves" in whole and "leaves" not in part and "level 1" in part
    assert "∅" not in whole and "∅" in tree_svg(*uneven())


def uneven():
    "Tables of a grammar with an expansion that is shorter than another, and its derivation."
    g = HierarchicalGrammar({"root_symbols": ["S"], "terminal_symbols": ["x", "y"],
                             "rules": {"S": [("xy", 1.), ("y", 1.)]}})
    return g.tables, next(g.enumerate(start=1))


def test_grammars_are_equal_where_their_rules_are():
    one, other = (HierarchicalGrammar.random(3, 2, 2, 2, seed=k) for k in (0, 1))
    assert one == HierarchicalGrammar.random(3, 2, 2, 2, seed=0)
    assert one != other and other != one


def test_decode_writes_masks_where_terminals_outnumber_the_classes():
    g = from_rules({"a": ["X Y"], "b": ["Y X"], "X": ["red"], "Y": ["blue", "green", "pink"]})
    x = g.encode(["red pink"])
    x[0, 0] = g.vocab[-1]
    assert g.vocab[0] < g.vocab[-1] and g.decode(x, mask="_") == ["_ pink"]
