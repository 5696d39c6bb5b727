"""Exact and learned diffusion on data whose hierarchy is known.

What most programs begin with is to be had from here, `import rhmdiff as rhm`, and is loaded when it is first used."""
__version__ = "0.1.0"

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .diffusion import BeliefProcess, DiffusionProcess, MaskingProcess, UniformProcess, make_process
    from .families import from_rules
    from .grammar import HierarchicalGrammar
    from .inference import log_likelihood, posterior, sample_posterior
    from .models import BayesDenoiser, TransformerDenoiser, UNetDenoiser
    from .observables import reconstruction, score, transition
    from .protocols import check_denoiser, check_process
    from .sampling import forward_backward, reverse
    from .theory import critical_noise
    from .training import bayes_gap, fit, grammar_stream, nelbo

_MODULES = {
    "diffusion": ["BeliefProcess", "DiffusionProcess", "MaskingProcess", "UniformProcess", "make_process"],
    "families": ["from_rules"],
    "grammar": ["HierarchicalGrammar"],
    "inference": ["log_likelihood", "posterior", "sample_posterior"],
    "models": ["BayesDenoiser", "TransformerDenoiser", "UNetDenoiser"],
    "observables": ["reconstruction", "score", "transition"],
    "protocols": ["check_denoiser", "check_process"],
    "sampling": ["forward_backward", "reverse"],
    "theory": ["critical_noise"],
    "training": ["bayes_gap", "fit", "grammar_stream", "nelbo"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    "A name of `__all__`, from the module that makes it."
    if name not in _MODULE_OF: raise AttributeError(f"module 'rhmdiff' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]: return sorted({*globals(), *__all__})
