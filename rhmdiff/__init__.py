"""Exact and learned diffusion on data whose hierarchy is known."""
__version__ = "0.1.0"
