"""Strings of a Random Hierarchy Model, drawn in the ways of other code, of the rules of a grammar of ours.

Each has a `build` that takes a grammar whose productions are equally likely, and returns a call that takes a
number of strings to the strings, (count, n). A grammar that a way cannot take raises ValueError.
"""
import random

import torch


def level_by_level(grammar):
    """random-hierarchy-model (2025), and others: an index of a production per node, level after level.

    This is its sampling with replacement; the other has the limit of `whole_index`."""
    rules = list(grammar.rules)

    def sample(count):
        row = torch.randint(len(rules[0]), (count, 1))
        for table in rules: row = table[row, torch.randint(table.shape[1], row.shape)].flatten(1)
        return row
    return sample


def whole_index(grammar):
    """hierarchy-learning (2024): a datum is one number, whose digits are the productions of its nodes.

    The table of all ways from root to leaf is made once; one index of it, by productions and positions in
    turn, gives the leaves."""
    m, s = grammar.rules[0].shape[1:]
    choices = [s**l for l in range(grammar.depth)]
    total = grammar.vocab[0] * m ** sum(choices)
    if total >= 2**63: raise ValueError(f"{float(total):.0e} strings have no index of 64 bits")
    paths = torch.arange(grammar.vocab[0])
    for table in grammar.rules: paths = table[paths]  # (root, m, s, m, s, ...)
    groups = s ** (grammar.depth - 1)

    def decode(numbers):
        size, index = total // grammar.vocab[0], []
        roots, numbers = numbers // size, numbers % size
        for l, nodes in enumerate(choices):
            if l: index.append((torch.arange(groups) // (groups // nodes) % s).expand(len(roots), -1))
            size //= m**nodes
            digits = numbers // size
            places = m ** torch.arange(nodes - 1, -1, -1)
            index.append((digits[:, None] // places % m).repeat_interleave(groups // nodes, 1))
            numbers = numbers % size
        return paths[(roots[:, None].expand(-1, groups), *index)].flatten(1)
    return lambda count: decode(torch.randint(total, (count,)))


def symbol_by_symbol(grammar):
    "The thesis (2025): a dict from each symbol to its productions and weights, one symbol at a time."
    tables = []
    for rules, weights in zip(grammar.rules, grammar.weights):
        tables.append({a: (rules[a].tolist(), weights[a].tolist()) for a in range(len(rules))})

    def one():
        row = [random.randrange(grammar.vocab[0])]
        for table in tables:
            row = [child for a in row for child in random.choices(*table[a])[0]]
        return row
    def sample(count): return torch.tensor([one() for _ in range(count)])
    return sample
