"""The grammar as a circuit of PyJuice 2.6, for a GPU: blocks of v symbols, weights tied over a level.

A product per production, and for each symbol a sum over all products, whose weights of other symbols are
zero. The posteriors are the flows of the input nodes. The package compiles and evaluates on a GPU alone. This
module was written without one: its parameters and edges were seen to be those of the grammar; its kernels
were not run.
"""
import torch


def _own_weights(weights):
    "Weights (v, v m) of the sums of a node over all of its products, zero for productions of other symbols."
    v, m = weights.shape
    own = torch.zeros(v, v, m)
    own[torch.arange(v), torch.arange(v)] = weights.float()
    return own.flatten(1)


def _level(rules, weights, row):
    "The sums of the nodes above a row, and the products of the last; all sums are copies of the first."
    from pyjuice.nodes import multiply, summate
    nodes = []
    for i in range(0, len(row), 2):
        product = multiply(row[i], row[i + 1], edge_ids=rules.flatten(0, 1), sparse_edges=True)
        if nodes: nodes.append(nodes[0].duplicate(product, tie_params=True))
        else:
            nodes = [summate(product, num_node_blocks=1)]
            nodes[0].set_params(_own_weights(weights))
    return nodes, product


def build(grammar, emission):
    import pyjuice
    from pyjuice.nodes import inputs, set_block_size, summate
    from pyjuice.nodes.distributions import Categorical
    v = grammar.vocab[-1]
    with set_block_size(block_size=v):
        leaves = [inputs(0, num_node_blocks=1, dist=Categorical(num_cats=v))]
        leaves[0].set_params(emission)
        leaves += [leaves[0].duplicate(i, tie_params=True) for i in range(1, grammar.n_leaves)]
        row = leaves
        for tables in reversed(list(zip(grammar.rules, grammar.weights))): row, product = _level(*tables, row)
        root = summate(product, num_node_blocks=1, block_size=1)
        root.set_params((grammar.prior[:, None] * grammar.weights[0]).float().flatten()[None])
    circuit = pyjuice.compile(root).to("cuda")

    @torch.no_grad()
    def marginals(x_t):
        x_t = x_t.cuda()
        circuit(x_t)
        circuit.backward(x_t, compute_param_flows=False)
        return torch.stack([circuit.get_node_flows(leaf) for leaf in leaves]).permute(2, 0, 1).cpu()
    return marginals
