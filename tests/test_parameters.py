"""No parameter of an experiment is ignored: each changes the tables when it is changed."""
import pandas as pd
import pytest

from rhmdiff import runs
from rhmdiff.engine.parts import PartStore, joined

EXPERIMENTS = runs.experiments()
WITHOUT_RESULTS = {"preset", "show", "output", "device"}

# For every parameter a value other than that of the smoke preset; where it needs company, several.
CHANGED = {
    "phase_transition": {
        "grammar": {"grammar": "BINARY_3_LEVEL_GRAMMAR"}, "v": {"v": 5}, "m": {"m": 3}, "s": {"s": 3},
        "depths": {"depths": [3]}, "noises": {"noises": ["uniform"]}, "times": {"times": [0.3, 0.6]},
        "grammars": {"grammars": 3}, "samples": {"samples": 8}, "network_depths": {"network_depths": [2, 2]},
        "networks": {"networks": 1}, "steps": {"steps": [5]}, "dim": {"dim": 8},
        "sequences": {"sequences": 8}, "seed": {"seed": 1},
    },
}
CASES = [(name, parameter) for name, changes in CHANGED.items() for parameter in changes]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PartStore:
    "Parts that several cases share are measured once."
    return PartStore(tmp_path_factory.mktemp("parts"))


def tables_of(name: str, store: PartStore, **parameters) -> dict[str, pd.DataFrame]:
    "The tables of an experiment's smoke preset with some parameters changed."
    parts = runs.parts_of(EXPERIMENTS[name].notebook, {"preset": "smoke", **parameters})
    return joined(store.fill(parts, {}))[0]


def same(a: dict[str, pd.DataFrame], b: dict[str, pd.DataFrame]) -> bool:
    return a.keys() == b.keys() and all(a[name].equals(b[name]) for name in a)


def test_every_parameter_of_every_experiment_has_a_case():
    own = {x.notebook.stem: x for x in EXPERIMENTS.values()}
    assert set(CHANGED) == set(own)
    for name, x in own.items():
        assert set(CHANGED[name]) == set(vars(x.settings({"preset": "smoke"}))) - WITHOUT_RESULTS, name


@pytest.mark.slow
@pytest.mark.parametrize("name, parameter", CASES)
def test_a_changed_parameter_changes_the_tables(name, parameter, store):
    assert not same(tables_of(name, store), tables_of(name, store, **CHANGED[name][parameter]))


def test_the_comparison_sees_a_repetition():
    table = {"t": pd.DataFrame({"x": [1.0]})}
    assert same(table, {"t": pd.DataFrame({"x": [1.0]})})
    assert not same(table, {"t": pd.DataFrame({"x": [1.1]})})
