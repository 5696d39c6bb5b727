"""The grammar for torch-struct's parser of context-free grammars.

It knows no tree: it sums over all spans, all ways to split them and all pairs of symbols, so that its work
grows as the cube of the length. `benchmarks/charts.py` compares on strings whose trees are not given.
"""
import torch
from charts import binary_rules, peer


def build(grammar, emission):
    import torch_struct  # noqa: F401  a missing package is told here
    table, roots = binary_rules(grammar)
    log_emission = emission.log().T.contiguous()

    def marginals(x_t):
        with torch.enable_grad(): return peer(table, roots, log_emission[x_t])[0]
    return marginals
