"""Exact and learned diffusion on data whose hierarchy is known."""
__version__ = "0.1.0"

import os as _os

# OpenMP reads this once, when torch loads it. Threads that spin while they wait slow a shared machine several times over.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
