"""Grammars drawn at random against plain enumeration."""
import math
from collections import defaultdict

import pytest
import torch
from enumeration import derivations, many, specs
from hypothesis import given
from hypothesis import strategies as st

from rhmdiff.grammar import HierarchicalGrammar, count_strings


@many
@given(specs(), st.integers(0, 2**32))
def test_against_enumeration(spec, seed):
    g, every = HierarchicalGrammar(spec), derivations(spec)
    probability, best = defaultdict(float), {}
    for levels, p in every:
        probability[levels[-1]] += p
        best[levels[-1]] = max(best.get(levels[-1], 0), p)
    assert g.count() == len(every) and count_strings(g.tables) == len(probability)
    assert math.isclose(g.entropy(), -sum(p * math.log(p) for _, p in every), rel_tol=1e-9, abs_tol=1e-9)
    assert HierarchicalGrammar(g.spec) == g

    strings = [" ".join(x) for x in probability]
    leaves = g.encode(strings)
    assert g.decode(leaves) == strings
    assert torch.allclose(g.log_prob(leaves).exp(), torch.tensor(list(probability.values()), dtype=torch.float64), rtol=1e-9)
    law = dict(every)
    for i, string in enumerate(probability):
        parsed = tuple(tuple(g.alphabet(l)[a] for a in x[i].tolist()) for l, x in enumerate(g.parse(leaves)))
        assert parsed[-1] == string and math.isclose(law[parsed], best[string], rel_tol=1e-9)

    anything = torch.randint(g.vocab[-1], (50, g.n_leaves), generator=torch.Generator().manual_seed(seed))
    in_support = torch.tensor([tuple(s.split(" ")) in probability for s in g.decode(anything)])
    assert (g.log_prob(anything) > -math.inf).equal(in_support) and g.valid(anything)[0][:, 0].equal(in_support)

    drawn = g.sample(100, seed=seed)
    assert {tuple(tuple(g.alphabet(l)[a] for a in x[i].tolist()) for l, x in enumerate(drawn)) for i in range(100)} <= set(law)
    distinct = g.sample_unique(len(probability), seed=seed)[-1]
    assert set(g.decode(distinct)) == set(strings)


def test_valid_below_a_fault():
    g = HierarchicalGrammar.random(v=8, m=2, s=2, L=4, seed=0)
    x = g.sample(1, seed=0)[-1]
    legal = {tuple(e) for e in g.rules[-1].flatten(0, 1).tolist()}
    x[0, 4:6] = torch.tensor(next((a, b) for a in range(8) for b in range(8) if (a, b) not in legal))
    valid = g.valid(x)
    assert [(~v[0]).nonzero()[:, 0].tolist() for v in valid] == [[0], [0], [1], [2], []]


@pytest.mark.parametrize("seed", range(3))
def test_more_derivations_than_64_bits(seed):
    g = HierarchicalGrammar.random(v=16, m=4, s=2, L=8, seed=seed)
    x = g.sample_unique(500, seed=0)[-1]
    assert g.count() > 2**64 and len(x.unique(dim=0)) == 500
