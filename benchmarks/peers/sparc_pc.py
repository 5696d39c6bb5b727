"""The grammar as a sparse circuit of sparc-pc 0.8, compiled: sums of symbols, products of productions.

It computes in float64. Its gradient is that of the mean over a batch, so that a posterior is one call a
sequence: the gradient of log Z in the emission of the token that was seen, times that emission. Nodes of one
level do not share their weights.
"""
import numpy as np
import torch


def build(grammar, emission):
    import sparc
    sparc.set_num_threads(torch.get_num_threads())
    table = emission.double().numpy()
    leaves = [[sparc.CategoricalInputNode(i, row.tolist()) for row in table] for i in range(grammar.n_leaves)]
    row = leaves
    for rules, weights in reversed(list(zip(grammar.rules, grammar.weights))):
        row = [_node(rules.tolist(), weights.tolist(), row[i], row[i + 1]) for i in range(0, len(row), 2)]
    circuit = sparc.SumNode(children=row[0], parameters=grammar.prior.tolist()).compile()
    names = [[leaf.id for leaf in symbols] for symbols in leaves]
    never = np.zeros(len(table))  # a symbol that no derivation puts there is not in the circuit

    def one(x):
        gradients = circuit.mean_log_likelihood_and_grad(x[None])[1].cat_grads
        seen = [[gradients.get(name, never)[token] for name in symbols] for symbols, token in zip(names, x)]
        return seen * table[:, x].T

    def marginals(x_t): return torch.from_numpy(np.stack([one(x) for x in x_t.int().numpy()]))
    return marginals


def _node(rules, weights, left, right):
    "The sums of a node over its productions, by symbol."
    import sparc
    return [sparc.SumNode(children=[sparc.ProductNode(children=[left[b], right[c]]) for b, c in pairs],
                          parameters=shares) for pairs, shares in zip(rules, weights)]
