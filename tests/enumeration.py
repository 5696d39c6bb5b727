"""A second judge: grammars drawn by hypothesis, and every question answered by listing all derivations."""
import itertools
import math
import os

import numpy as np
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

from rhmdiff.families import ambiguous, filtered, ragged
from rhmdiff.grammar import HierarchicalGrammar

GRAMMARS = int(os.environ.get("RHMDIFF_GRAMMARS", 200))  # `make check` asks for 2,000
FAMILIES = ("layered", "uneven lengths", "random", "ambiguous", "filtered", "ragged")
many = settings(max_examples=-(-GRAMMARS // len(FAMILIES)),  # for each family
                derandomize=True, deadline=None, database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much,
                                       HealthCheck.data_too_large])


@st.composite
def layered(draw, uneven=False, max_leaves=8):
    """Spec dicts of layered grammars: any alphabet sizes, arities 1 to 4, uneven productions and weights.

    They are often ambiguous. With `uneven` a level has expansions of several lengths."""
    arity = []
    for _ in range(draw(st.integers(1, 3))):
        arity.append(draw(st.integers(1, min(4, max_leaves // math.prod(arity)))))
    sizes = [draw(st.integers(1, 4)) for _ in range(len(arity) + 1)]
    alphabets = [[f"{'ABCDE'[l]}{a}" for a in range(v)] for l, v in enumerate(sizes)]
    weight = st.floats(0.05, 20.0)
    rules = {}
    for parents, children, s in zip(alphabets, alphabets[1:], arity):
        one = st.lists(st.sampled_from(children), min_size=1 if uneven else s, max_size=s).map(tuple)
        for a in parents:
            rules[a] = [(e, draw(weight)) for e in draw(st.lists(one, min_size=1, max_size=3, unique=True))]
    return {"root_symbols": alphabets[0], "terminal_symbols": alphabets[-1], "rules": rules,
            "alphabets": alphabets, "root_weights": [draw(weight) for _ in alphabets[0]]}


def fitting(parents, m, tuples):
    "Parents and productions cut down to what so many distinct tuples can serve."
    parents = min(parents, tuples)
    return parents, min(m, tuples // parents)


@st.composite
def members(draw, family):
    "A grammar of one of the library's families, small enough to list."
    L = draw(st.integers(1, 3))
    arities = [s for s in itertools.product(range(1, 5), repeat=L) if math.prod(s) <= 6]
    v = [draw(st.integers(2, 4)) for _ in range(L + 1)]
    m = [draw(st.integers(1, 3)) for _ in range(L)]
    s = list(draw(st.sampled_from(arities)))
    seed = draw(st.integers(0, 2**32))
    kinds = [None, ("zipf", 0.7), ("zipf", 2.0), ("dirichlet", 0.5), ("dirichlet", 5.0)]
    weights = draw(st.sampled_from(kinds))
    shared = draw(st.sampled_from([0.2, 0.5, 1.0])) if family == "ambiguous" or draw(st.booleans()) else 0.
    if family == "ragged":
        lengths = draw(st.sampled_from([(1, 2), (2, 3), (1, 3), (1, 2, 3)]))
        L = L if lengths == (1, 2) else 1
        for l in reversed(range(L)): v[l], m[l] = fitting(v[l], m[l], sum(v[l + 1]**k for k in lengths))
        return ragged(v[:L + 1], m[:L], L, lengths, weights=weights, seed=seed)
    if family == "random": shared = 0.
    for l in reversed(range(L)): v[l], m[l] = fitting(v[l], m[l], v[l + 1]**s[l])
    if v[0] == 1: shared = 0.
    if shared: g = ambiguous(v, m, s, L, shared, weights=weights, seed=seed)
    else: g = HierarchicalGrammar.random(v, m, s, L, weights=weights, seed=seed)
    if family != "filtered": return g
    above = draw(st.integers(0, L - 1))
    return filtered(g, draw(st.integers(1, L - above)), above)


@st.composite
def specs(draw, family, max_derivations=3000):
    "The spec of a grammar of a family."
    if family in ("layered", "uneven lengths"): spec = draw(layered(uneven=family != "layered"))
    else: spec = draw(members(family)).spec
    assume(count(spec) <= max_derivations)
    return spec


def count(spec):
    "Derivations of a spec."
    below = dict.fromkeys(spec["terminal_symbols"], 1)
    for parents in reversed(spec["alphabets"][:-1]):
        below |= {a: sum(math.prod(below[c] for c in e) for e, _ in spec["rules"][a]) for a in parents}
    return sum(below[a] for a, w in zip(spec["root_symbols"], spec["root_weights"]) if w > 0)


def derivations(spec):
    """All derivations as [(levels of symbols, probability)]; levels are tuples, root first.

    Short expansions are padded with ''."""
    arity = [max(len(e) for a in parents for e, _ in spec["rules"][a]) for parents in spec["alphabets"][:-1]]

    def productions(a, s):
        if a == "": return [(("",) * s, 1.0)]
        total = sum(w for _, w in spec["rules"][a])
        return [(tuple(e) + ("",) * (s - len(e)), w / total) for e, w in spec["rules"][a]]

    def below(symbols, level):  # every way to rewrite a row of symbols: (levels under it, probability)
        if level == len(arity): return [((), 1.0)]
        out = []
        for choice in itertools.product(*(productions(a, arity[level]) for a in symbols)):
            row = tuple(c for e, _ in choice for c in e)
            out += [((row, *rest), math.prod(w for _, w in choice) * q) for rest, q in below(row, level + 1)]
        return out
    total = sum(spec["root_weights"])
    roots = [(a, w) for a, w in zip(spec["root_symbols"], spec["root_weights"]) if w > 0]
    return [(((a,), *rest), w / total * p) for a, w in roots for rest, p in below((a,), 0)]


def indices(grammar, levels):
    "Rows of symbols, one a level, as rows of indices."
    return [[grammar.alphabet(l).index(a) for a in row] for l, row in enumerate(levels)]


def posterior(every, grammar, log_evidence):
    "Levels of posteriors (nodes, symbols) and log Z for evidence (n, v): sums over all derivations, float64."
    known = [{a: i for i, a in enumerate(grammar.alphabet(l))} for l in range(grammar.depth + 1)]
    def told(levels): return sum(log_evidence[i, known[-1][a]] for i, a in enumerate(levels[-1]))
    score = np.array([math.log(p) + told(levels) for levels, p in every])
    top = score.max()
    log_z = top + math.log(np.exp(score - top).sum()) if top > -math.inf else -math.inf
    share = np.exp(score - log_z) if top > -math.inf else np.zeros(len(score))
    beliefs = [np.zeros((len(row), v)) for row, v in zip(every[0][0], grammar.vocab)]
    for (levels, _), w in zip(every, share):
        for l, row in enumerate(levels):
            for i, a in enumerate(row): beliefs[l][i, known[l][a]] += w
    return beliefs, log_z
