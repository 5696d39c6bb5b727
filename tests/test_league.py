"""The contenders of `benchmarks/league.py` that need no package: the same posteriors, the same language."""
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT/"benchmarks"))

from peers import messages, samplers

from rhmdiff.diffusion import UniformProcess
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.inference import leaf_posterior

GRAMMAR = HierarchicalGrammar.random(3, 2, 2, 3, seed=1)


def test_posteriors_agree():
    process = UniformProcess(3)
    emission = process.log_evidence(torch.arange(3)[None], 0.5)[0].T.exp()
    x_t = process.sample(GRAMMAR.sample(20, seed=0)[-1], 0.5, seed=1)
    by_nodes = messages.build(GRAMMAR, emission, one=messages.leaf_marginals.py_func)(x_t)  # not compiled
    exact = leaf_posterior(GRAMMAR, process.log_evidence(x_t, 0.5).double())[0]
    for path in ("fast", "reference"):
        found = leaf_posterior(GRAMMAR, process.log_evidence(x_t, 0.5), path=path)[0]
        assert (found - exact).abs().max() < 1e-5
    assert (by_nodes - exact).abs().max() < 1e-5


@pytest.mark.parametrize("way", [samplers.level_by_level, samplers.whole_index, samplers.symbol_by_symbol])
def test_samplers_draw_every_string_and_no_other(way):
    grammar = HierarchicalGrammar.random(3, 2, 2, 2, seed=1)
    torch.manual_seed(0)
    language = {tuple(row) for levels in grammar.enumerate() for row in levels[-1].tolist()}
    assert {tuple(row) for row in way(grammar)(500).tolist()} == language


def test_an_index_of_more_than_64_bits_is_refused():
    with pytest.raises(ValueError, match="5e\\+154 strings"):
        samplers.whole_index(HierarchicalGrammar.random(16, 4, 2, 8))
