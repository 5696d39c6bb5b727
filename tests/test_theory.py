"The mean field, every small level: roots by scanning, phases by iteration, averages by enumeration."
import itertools
import math

import numpy as np
import pytest

from rhmdiff.theory import (
    correlation_exponent,
    critical_noise,
    fixed_point,
    mean_field_by_depth,
    mean_field_map,
    mean_field_noise_at,
    mean_field_slope,
    phase,
)

MOST_SYMBOLS = {2: 16, 3: 6, 4: 4, 5: 3}  # by s
SHAPES = [(v, m, s) for s, most in MOST_SYMBOLS.items() for v in range(2, most + 1)
          for m in range(1, v**(s - 1) + 1)]


def deviation(p, v, m, s):
    "(F(p) - p) without the factors (p - 1/v)(1 - p), whose sign is that of F(p) - p inside (1/v, 1)."
    return (mean_field_map(p, v, m, s) - p) / ((p - 1 / v) * (1 - p))


def test_roots_by_scanning():
    "Sign changes of F(p) - p between its two known roots: one in the critical phase, at p*, else none."
    for v, m, s in SHAPES:
        u = np.linspace(0, 1, 4003)[1:-1]
        p = 1 / v + (1 - 1 / v) * u
        d = deviation(p, v, m, s)
        crossings = p[:-1][np.sign(d[:-1]) != np.sign(d[1:])]
        if phase(v, m, s) == "critical":
            assert len(crossings) in (1, 2), (v, m, s)
            assert abs(crossings - fixed_point(v, m, s)).max() < 1e-3, (v, m, s)
        else:
            assert not len(crossings), (v, m, s)
            assert math.isnan(fixed_point(v, m, s)) and math.isnan(correlation_exponent(v, m, s)), (v, m, s)


def test_phases_by_iteration():
    "Just below the critical noise a deep tree keeps its class, just above it loses it."
    for v, m, s in SHAPES:
        at = critical_noise(v, m, s)
        certain, chance = (mean_field_slope(x, v, m, s) for x in (1, 1 / v))
        if certain == 1 or max(certain, chance) > 0.95 and phase(v, m, s) == "critical":
            continue  # marginal: algebraically slow
        below, above = np.clip([at - 0.02, at + 0.02], 0, 1)
        deep = mean_field_by_depth([below, above], v, m, s, 500)[:, -1]
        if below > 0: assert deep[0] > 1 - 1e-3, (v, m, s)
        if above < 1: assert deep[1] < 1 / v + 1e-3, (v, m, s)


def test_marginal_level_is_fragile():
    "At F'(1) = 1 the distance to certainty grows algebraically, and any noise loses the class in the end."
    assert all(phase(v, (v + 1) // 2, 2) == "fragile" for v in range(3, 50, 2))
    p = mean_field_by_depth([0.01], 3, 2, 2, 20_000)[0]
    assert (np.diff(p) < 1e-15).all() and p[-1] < 1 / 3 + 1e-6


def test_noise_at_inverts_the_curve_of_every_depth():
    "At the noise of a fraction the class is known to that fraction, and more noise leaves less."
    fractions = [0.9, 0.5, 0.1]
    for v, m, s in SHAPES:
        for L in (0, 1, 4):
            noises = [mean_field_noise_at(y, v, m, s, L) for y in fractions]
            known = (mean_field_by_depth(noises, v, m, s, L)[:, L] - 1 / v) / (1 - 1 / v)
            assert known == pytest.approx(fractions, abs=1e-9), (v, m, s, L)
            assert noises == sorted(noises), (v, m, s, L)


def test_end_slopes_never_both_exceed_one():
    for v, m, s in SHAPES:
        assert mean_field_slope(1, v, m, s) * mean_field_slope(1 / v, v, m, s) < 1
        assert phase(v, m, s) != "critical" or mean_field_slope(fixed_point(v, m, s), v, m, s) > 1


@pytest.mark.parametrize("v, m, s", [(2, 1, 2), (2, 2, 2), (2, 2, 3), (3, 1, 2), (3, 2, 2)])
def test_averages_by_enumeration(v, m, s):
    "Numerator and denominator of F, averaged over every way to deal the rules that contain the true tuple."
    p = 0.37 + 0.5 / v
    others = list(itertools.product(range(v), repeat=s))[1:]
    weight = np.array([math.prod(p if a == 0 else (1 - p) / (v - 1) for a in t) for t in others])
    assert p**s + weight.sum() == pytest.approx(1, abs=1e-12)
    own, rest, deals = 0., 0., 0
    for mine in itertools.combinations(range(len(others)), m - 1):
        left = [i for i in range(len(others)) if i not in mine]
        for theirs in itertools.combinations(left, m * (v - 1)):
            own += weight[list(mine)].sum()
            rest += weight[list(theirs)].sum()
            deals += 1
    true_parent = p**s + own / deals
    all_parents = p**s + (own + rest) / deals
    assert mean_field_map(p, v, m, s) == pytest.approx(true_parent / all_parents, abs=1e-12)


@pytest.mark.parametrize("f", [phase, fixed_point, critical_noise, correlation_exponent])
@pytest.mark.parametrize("shape, name", [((1, 1, 2), "v=1"), ((4, 0, 2), "m=0"), ((4, 1, 1), "s=1"),
                                         ((4, 5, 2), "m=5"), ((4, 2, 2.5), "s=2.5")])
def test_impossible_levels_are_named(f, shape, name):
    with pytest.raises(ValueError, match=name): f(*shape)
