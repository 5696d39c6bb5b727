"""Messages in the manner of tree-language (Garnier-Brun et al. 2024): one sequence at a time, dense rules.

The tree is binary, and every node loops over all v x v x v entries of one tensor of rules. Here each level
has a tensor of its own, and numba compiles the loops, which the published code leaves to Python.
"""
import numpy as np
import torch
from numba import njit


@njit(cache=True)
def leaf_marginals(tables, prior, leaves):
    "Marginals of the leaves (n, v), of tables (L, v, v, v), the prior of the root (v,), evidence (n, v)."
    L, v = tables.shape[:2]
    up = np.zeros((L + 1, len(leaves), v), np.float32)
    down = np.zeros((L + 1, len(leaves), v), np.float32)
    up[L] = leaves
    down[0, 0] = prior
    for l in range(L - 1, -1, -1):
        for j in range(2**l):
            left, right = up[l + 1, 2 * j], up[l + 1, 2 * j + 1]
            for a in range(v):
                for b in range(v):
                    for c in range(v): up[l, j, a] += left[b] * tables[l, a, b, c] * right[c]
            up[l, j] /= up[l, j].sum()
    for l in range(L):
        for j in range(2**l):
            left, right = up[l + 1, 2 * j], up[l + 1, 2 * j + 1]
            for a in range(v):
                for b in range(v):
                    for c in range(v):
                        weight = down[l, j, a] * tables[l, a, b, c]
                        down[l + 1, 2 * j, b] += weight * right[c]
                        down[l + 1, 2 * j + 1, c] += weight * left[b]
            down[l + 1, 2 * j] /= down[l + 1, 2 * j].sum()
            down[l + 1, 2 * j + 1] /= down[l + 1, 2 * j + 1].sum()
    out = up[L] * down[L]
    return out / out.sum(1).reshape(-1, 1)


def dense_rules(grammar):
    "The rules of each level, (v, v, v): the probability of two children given their parent."
    v = grammar.vocab[-1]
    tables = []
    for rules, weights in zip(grammar.rules, grammar.weights):
        parents = torch.arange(len(rules))[:, None].expand(rules.shape[:2])
        table = torch.zeros(len(rules), v, v)
        tables.append(table.index_put_((parents, rules[..., 0], rules[..., 1]), weights.float()))
    return tables


def build(grammar, emission, one=leaf_marginals):
    tables = torch.stack(dense_rules(grammar)).numpy()
    prior = grammar.prior.float().numpy()
    given_noisy = np.ascontiguousarray(emission.float().T.numpy())

    def marginals(x_t):
        return torch.from_numpy(np.stack([one(tables, prior, given_noisy[x]) for x in x_t.numpy()]))
    return marginals
