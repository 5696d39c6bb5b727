"""The grammar as a circuit of libcirkit 0.3, folded and optimised, in the semiring of log-sum-exp.

The input layers are the emissions of the leaves. A level is either a dense product (`tucker`: all pairs of
children, then a sum with the v x v x v tensor of rules) or the list of its productions (`productions`: sums
that select the two children of each, their product, and a sum with the weights). The package has no query for
the marginals of all hidden symbols; they are the gradients of log Z in the log outputs of the input layers,
which `evaluate` lets one take hold of, as its own queries do. A folded circuit cannot share weights between
its layers (references to a parameter are lost), so that every node has a copy.
"""
import numpy as np
import torch

from .messages import dense_rules


def _constant(values):
    "A parameter that does not learn."
    from cirkit.symbolic.initializers import ConstantTensorInitializer
    from cirkit.symbolic.parameters import Parameter, TensorParameter
    values = np.asarray(values, dtype=np.float32)
    initializer = ConstantTensorInitializer(values)
    return Parameter.from_input(TensorParameter(*values.shape, initializer=initializer, learnable=False))


def _tucker(rules, weights, dense, children, inputs):
    "The sum over all pairs of children of a node."
    from cirkit.symbolic.layers import KroneckerLayer, SumLayer
    v, pairs = len(dense), dense[0].numel()
    product = KroneckerLayer(v, arity=2)
    node = SumLayer(pairs, v, weight=_constant(dense.flatten(1)))
    inputs |= {product: children, node: [product]}
    return node


def _productions(rules, weights, dense, children, inputs):
    "The sum over the productions of a node."
    from cirkit.symbolic.layers import HadamardLayer, SumLayer
    v, m = weights.shape
    picks = [np.eye(v)[rules[..., side].flatten()] for side in (0, 1)]
    selected = [SumLayer(v, v * m, weight=_constant(pick)) for pick in picks]
    product = HadamardLayer(v * m, arity=2)
    own = torch.zeros(v, v, m)
    own[torch.arange(v), torch.arange(v)] = weights.float()
    node = SumLayer(v * m, v, weight=_constant(own.flatten(1)))
    inputs |= {layer: [child] for layer, child in zip(selected, children)}
    inputs |= {product: selected, node: [product]}
    return node


def _symbolic(grammar, emission, level):
    "The circuit of log Z of the noisy tokens."
    from cirkit.symbolic.circuit import Circuit
    from cirkit.symbolic.layers import CategoricalLayer, SumLayer
    from cirkit.utils.scope import Scope
    v, n = grammar.vocab[-1], grammar.n_leaves
    leaves = [CategoricalLayer(Scope([i]), v, num_categories=v, probs=_constant(emission)) for i in range(n)]
    row, inputs = leaves, {}
    for tables in reversed(list(zip(grammar.rules, grammar.weights, dense_rules(grammar)))):
        row = [level(*tables, row[i:i + 2], inputs) for i in range(0, len(row), 2)]
    top = SumLayer(v, 1, weight=_constant(grammar.prior[None]))
    inputs[top] = row
    return Circuit([*leaves, *inputs], inputs, [top])


def _build(grammar, emission, level):
    from cirkit.backend.torch.layers import TorchInputLayer
    from cirkit.pipeline import PipelineContext
    context = PipelineContext(backend="torch", semiring="lse-sum", fold=True, optimize=True)
    circuit = context.compile(_symbolic(grammar, emission, level))
    kept = []

    def keep(layer, *inputs):
        "The outputs of a layer; those of the leaves, all in one fold, are kept for their gradient."
        out = layer(*inputs)
        if not isinstance(layer, TorchInputLayer): return out
        kept[:] = [out.detach().requires_grad_()]
        return kept[0]

    def marginals(x_t):
        log_z = circuit.evaluate(x_t, module_fn=keep)
        return torch.autograd.grad(log_z.sum(), kept)[0].transpose(0, 1)
    return marginals


def build_tucker(grammar, emission): return _build(grammar, emission, _tucker)
def build_productions(grammar, emission): return _build(grammar, emission, _productions)
