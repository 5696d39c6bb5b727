"""Peers of the league: other people's packages, and other people's ways written in a few lines.

A module of exact inference has `build(grammar, emission)`. `emission` is (v, v): the probability of each
noisy token (second axis) given the clean one (first axis). It returns a call that takes noisy tokens,
(batch, n), to the posterior of every clean one, (batch, n, v). The import of a package that is missing raises
ModuleNotFoundError in `build`.
"""
