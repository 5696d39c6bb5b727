"""A second judge: grammars drawn by hypothesis, and every question answered by listing all derivations in plain Python."""
import itertools
import math
import os

import numpy as np
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

GRAMMARS = int(os.environ.get("RHMDIFF_GRAMMARS", 200))  # `make check` asks for 2,000
many = settings(max_examples=GRAMMARS, derandomize=True, deadline=None, database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large])


@st.composite
def specs(draw, max_leaves=8, max_derivations=3000):
    """Spec dicts of layered grammars: any alphabet sizes, arities 1 to 4, uneven productions and weights, often ambiguous."""
    arity = []
    for _ in range(draw(st.integers(1, 3))):
        arity.append(draw(st.integers(1, min(4, max_leaves // math.prod(arity)))))
    sizes = [draw(st.integers(1, 4)) for _ in range(len(arity) + 1)]
    alphabets = [[f"{'ABCDE'[l]}{a}" for a in range(v)] for l, v in enumerate(sizes)]
    weight = st.floats(0.05, 20.0)
    rules = {}
    for parents, children, s in zip(alphabets, alphabets[1:], arity):
        for a in parents:
            tuples = draw(st.lists(st.tuples(*[st.sampled_from(children)] * s), min_size=1, max_size=3, unique=True))
            rules[a] = [(e, draw(weight)) for e in tuples]
    spec = {"root_symbols": alphabets[0], "terminal_symbols": alphabets[-1], "rules": rules, "alphabets": alphabets,
            "root_weights": [draw(weight) for _ in alphabets[0]]}
    assume(_count(spec, alphabets) <= max_derivations)
    return spec


def _count(spec, alphabets):
    below = dict.fromkeys(alphabets[-1], 1)
    for parents in reversed(alphabets[:-1]):
        below |= {a: sum(math.prod(below[c] for c in e) for e, _ in spec["rules"][a]) for a in parents}
    return sum(below[a] for a in spec["root_symbols"])


def derivations(spec):
    """All derivations as [(levels of symbols, probability)]; levels are tuples, root first."""
    def below(symbols):  # every way to rewrite a row of symbols: (levels under it, probability)
        if symbols[0] in spec["terminal_symbols"]: return [((), 1.0)]
        out = []
        for choice in itertools.product(*(spec["rules"][a] for a in symbols)):
            p = math.prod(w / sum(u for _, u in spec["rules"][a]) for a, (_, w) in zip(symbols, choice))
            row = tuple(c for e, _ in choice for c in e)
            out += [((row, *rest), p * q) for rest, q in below(row)]
        return out
    total = sum(spec["root_weights"])
    return [(((a,), *rest), w / total * p) for a, w in zip(spec["root_symbols"], spec["root_weights"]) for rest, p in below((a,))]


def posterior(spec, grammar, log_evidence):
    """(levels of posteriors (nodes, symbols), log Z) for evidence (n, v), as sums over all derivations, float64."""
    every = derivations(spec)
    index = [{a: i for i, a in enumerate(grammar.alphabet(l))} for l in range(grammar.depth + 1)]
    score = np.array([math.log(p) + sum(log_evidence[i, index[-1][a]] for i, a in enumerate(levels[-1])) for levels, p in every])
    top = score.max()
    log_z = top + math.log(np.exp(score - top).sum()) if top > -math.inf else -math.inf
    share = np.exp(score - log_z) if top > -math.inf else np.zeros(len(score))
    beliefs = [np.zeros((len(row), v)) for row, v in zip(every[0][0], grammar.vocab)]
    for (levels, _), w in zip(every, share):
        for l, row in enumerate(levels):
            for i, a in enumerate(row): beliefs[l][i, index[l][a]] += w
    return beliefs, log_z
