"""No parameter of an experiment is ignored: each changes the tables when it is changed."""
from pathlib import Path

import pandas as pd
import pytest

import rhmdiff
from rhmdiff import runs
from rhmdiff.engine.parts import PartStore, joined

TEMPLATE = Path(rhmdiff.__file__).parent/"templates"/"experiment.ipynb"  # what `rhm new` begins with
EXPERIMENTS = {x.name: x for x in runs.experiments().values() if not x.parameters}
EXPERIMENTS["NEW_NAME"], = runs.read_experiment(TEMPLATE)
WITHOUT_RESULTS = {"preset", "show", "output", "device"}

# For every parameter a value other than that of the smoke preset; where it needs company, several.
# An experiment that has no line here takes the values of its quick preset, one at a time.
CHANGED = {
    "phase_transition": {
        "grammar": {"grammar": "BINARY_3_LEVEL_GRAMMAR"}, "v": {"v": 5}, "m": {"m": 3}, "s": {"s": 3},
        "depths": {"depths": [3]}, "noises": {"noises": ["uniform"]}, "times": {"times": [0.3, 0.6]},
        "grammars": {"grammars": 3}, "samples": {"samples": 8}, "network_depths": {"network_depths": [2, 2]},
        "networks": {"networks": 1}, "steps": {"steps": [5]}, "dim": {"dim": 8},
        "sequences": {"sequences": 8}, "seed": {"seed": 1},
    },
    "denoisers": {
        "v": {"v": 5}, "m": {"m": 3}, "s": {"s": 3}, "L": {"L": 1},
        "networks": {"networks": ["encoder_decoder"], "shuffled": 0},
        "noises": {"noises": ["uniform"], "seeds": [1]}, "seeds": {"seeds": [1]}, "steps": {"steps": 5},
        "dims": {"dims": [8]}, "shuffled": {"shuffled": 0}, "long_L": {"long_L": 4},
        "long_seeds": {"long_seeds": 0}, "long_steps": {"long_steps": 3}, "long_dims": {"long_dims": [16]},
        "batch_size": {"batch_size": 8}, "lr": {"lr": 2e-3}, "layers": {"layers": 1},
        "sequences": {"sequences": 32}, "seed": {"seed": 1},
    },
    "samplers": {
        "v": {"v": 5}, "m": {"m": 3}, "s": {"s": 3}, "L": {"L": 2}, "learned": {"learned": [3, 2]},
        "noises": {"noises": ["uniform"]}, "steps": {"steps": [2, 4]}, "sequences": {"sequences": 32},
        "level": {"level": 0.3}, "training": {"training": 5}, "batch_size": {"batch_size": 8},
        "lr": {"lr": 1e-3}, "dim": {"dim": 8}, "seed": {"seed": 1},
    },
    "memorization": {
        "v": {"v": 5}, "m": {"m": 3}, "s": {"s": 3}, "L": {"L": 3}, "noise": {"noise": "uniform"},
        "sizes": {"sizes": [4, 6]}, "networks": {"networks": 1}, "steps": {"steps": [20]},
        "looks": {"looks": 3}, "batch_size": {"batch_size": 8}, "lr": {"lr": 1e-3}, "dim": {"dim": 8},
        "sequences": {"sequences": 24}, "times": {"times": [0.5]}, "flips": {"flips": 0}, "seed": {"seed": 1},
    },
    "sample_complexity": {
        "shapes": {"shapes": [[4, 2, 2]]}, "held_out": {"held_out": [[5, 2, 2]]}, "s": {"s": 3},
        "noise": {"noise": "uniform"}, "powers": {"powers": [1]}, "networks": {"networks": 2},
        "grammars": {"grammars": 3}, "compared": {"compared": [4, 3, 2]}, "kinds": {"kinds": ["shifted"]},
        "compared_powers": {"compared_powers": [1]}, "steps": {"steps": 6},
        "batch_size": {"batch_size": 4}, "lr": {"lr": 1e-3}, "dim": {"dim": 16}, "layers": {"layers": 2},
        "validation": {"validation": 6}, "patience": {"patience": 1}, "sequences": {"sequences": 16},
        "seed": {"seed": 1},
    },
    "classifiers": {
        "shapes": {"shapes": [[5, 2, 2, 5], [4, 3, 2, 4]]}, "held_out": {"held_out": [[5, 3, 2, 5]]},
        "s": {"s": 3},
        "multiples": {"multiples": [2]}, "networks": {"networks": 1},
        "others": {"others": {"unshared": [[4, 3, 2, 4]]}, "other_multiples": {"unshared": [2]}},
        "other_multiples": {"other_multiples": {"dense": [1], "transformer": [2]}},
        "synonyms": {"synonyms": [4, 2, 3, 4]}, "tests": {"tests": 4}, "steps": {"steps": 7},
        "stop": {"stop": 5.0}, "batch_size": {"batch_size": 8}, "lr": {"lr": 1e-3}, "dim": {"dim": 8},
        "seed": {"seed": 1},
    },
    "scaling_law": {
        "shapes": {"shapes": [[4, 2, 2, 2], [4, 2, 2, 3]]}, "compared": {"compared": [[5, 2, 2, 2]]},
        "sizes": {"sizes": [[3, 4], [4, 4]]}, "networks": {"networks": 1}, "grammars": {"grammars": 3},
        "steps": {"steps": 6}, "passes": {"passes": 8}, "batch_size": {"batch_size": 8}, "lr": {"lr": 1e-3},
        "dim": {"dim": 12}, "layers": {"layers": 2}, "validation": {"validation": 8},
        "patience": {"patience": 1}, "sequences": {"sequences": 32}, "seed": {"seed": 1},
    },
    "depth": {
        "v": {"v": 5}, "productions": {"productions": [2, 3]}, "s": {"s": 3}, "depths": {"depths": [2]},
        "noise": {"noise": "uniform"}, "grammars": {"grammars": 3}, "networks": {"networks": 2},
        "steps": {"steps": 24}, "looks": {"looks": 3}, "batch_size": {"batch_size": 8},
        "lr": {"lr": 1e-3}, "dim": {"dim": 16}, "varied": {"varied": [2, 3]},
        "widths": {"widths": [12]}, "times": {"times": [0.2, 0.5, 0.8]},
        "samples": {"samples": 24}, "sequences": {"sequences": 16}, "seed": {"seed": 1},
    },
    "learning_curves": {
        "experiments": {"experiments": ["small", "generalization"]}, "networks": {"networks": [2, 1]},
        "steps": {"steps": [20, 6]}, "smoothings": {"smoothings": [[0.1, 0.2], [0.1]]}, "dim": {"dim": 16},
        "layers": {"layers": 2}, "batch_size": {"batch_size": [16, 8]},
        "sequences": {"sequences": 32}, "bins": {"bins": 3}, "seed": {"seed": 1},
    },
    "learned_transition": {
        "shapes": {"shapes": [[5, 2, 2]]}, "held_out": {"held_out": [[5, 2, 2]]}, "s": {"s": 3},
        "noises": {"noises": ["uniform"]}, "networks": {"networks": 2}, "at": {"at": [2, 10]},
        "batch_size": {"batch_size": 8}, "lr": {"lr": 1e-3}, "dim": {"dim": 16},
        "times": {"times": [0.2, 0.5, 0.8]}, "samples": {"samples": 24}, "sequences": {"sequences": 16},
        "doubt": {"doubt": 0.3}, "seed": {"seed": 1},
    },
    "rules": {
        "shape": {"shape": [4, 2, 3]}, "held_out": {"held_out": [4, 3, 2]}, "s": {"s": 3},
        "noise": {"noise": "uniform"}, "kinds": {"kinds": ["unet"]}, "networks": {"networks": 2},
        "at": {"at": [2, 5]}, "heads": {"heads": ["free"]},
        "penalty": {"penalty": 5.0}, "batch_size": {"batch_size": 4},
        "lr": {"lr": 1e-3}, "dim": {"dim": 16}, "layers": {"layers": 2}, "times": {"times": [0.4]},
        "sequences": {"sequences": 16}, "seed": {"seed": 1},
    },
    "universality": {
        "shapes": {"shapes": [[5, 3, 2]]}, "shape": {"shape": [4, 3, 2]},
        "kinds": {"kinds": ["random", "filtered 1"]}, "held_out": {"held_out": [5, 3, 2]},
        "depths": {"depths": [1, 2]}, "leaves": {"leaves": 8},
        "noise": {"noise": "uniform"}, "times": {"times": [0.2, 0.5, 0.8]}, "small": {"small": 0.01},
        "grammars": {"grammars": 2}, "trees": {"trees": 5}, "seed": {"seed": 1},
    },
    "exponents": {
        "shape": {"shape": [8, 3, 2]}, "depths": {"depths": [2, 3, 4]}, "noises": {"noises": ["masking"]},
        "points": {"points": 6}, "grammars": {"grammars": 4}, "trees": {"trees": 4}, "size": {"size": 256},
        "seed": {"seed": 1},
    },
    "phases": {
        "shapes": {"shapes": [[8, 2, 2], [4, 3, 2]]}, "depths": {"depths": [[2, 3], [2, 3]]},
        "grammars": {"grammars": 4}, "trees": {"trees": 3},
        "single": {"single": {"grammars": 3, "trees": 10}}, "diagram": {"diagram": {"2": [5]}},
        "diagram_grammars": {"diagram_grammars": 4}, "seed": {"seed": 1},
    },
    "local_denoisers": {
        "shapes": {"shapes": [[4, 2, 2, 2]]}, "noises": {"noises": ["masking"]},
        "other_depths": {"other_depths": [1]}, "grammars": {"grammars": 3}, "times": {"times": 4},
        "tokens": {"tokens": 80}, "levels": {"levels": 5}, "size": {"size": 128},
        "populations": {"populations": 3}, "learned": {"learned": [4, 2, 2, 1]}, "networks": {"networks": 2},
        "reaches": {"reaches": [2]}, "training_steps": {"training_steps": 5}, "batch_size": {"batch_size": 8},
        "lr": {"lr": 1e-3}, "dim": {"dim": 4}, "sequences": {"sequences": 32}, "seed": {"seed": 1},
    },
    "single_grammars": {
        "columns": {"columns": {"2": [3]}}, "diagram_grammars": {"diagram_grammars": 9},
        "close": {"close": [[3, 2, 2]]}, "close_grammars": {"close_grammars": 16}, "levels": {"levels": 5},
        "shape": {"shape": [8, 2, 2]}, "L": {"L": 1}, "bases": {"bases": 1}, "redraws": {"redraws": 4},
        "trees": {"trees": 50}, "whole": {"whole": 5}, "paired": {"paired": 2}, "depths": {"depths": [2]},
        "single": {"single": 3},
        "averaged": {"averaged": 4}, "size": {"size": 32}, "followed": {"followed": [[3, 2, 2], [4, 2, 2]]},
        "noises": {"noises": [0.9, 0.1]},
        "height": {"height": 5}, "looked_at": {"looked_at": [4]},
        "followed_grammars": {"followed_grammars": 3}, "fresh": {"fresh": 256}, "seed": {"seed": 1},
    },
    "unknown_tree": {
        "v": {"v": 5}, "m": {"m": {"2": 2, "3": 2}}, "depths": {"depths": [1]},
        "noises": {"noises": ["uniform"]}, "points": {"points": 4}, "fractions": {"fractions": [0.5]},
        "clean_depths": {"clean_depths": [1]},
        "grammars": {"grammars": 4}, "strings": {"strings": 5}, "span_strings": {"span_strings": 3},
        "seed": {"seed": 1},
    },
    "predictions": {
        "shapes": {"shapes": [[4, 2, 2, 3]], "sizes": [256]}, "noises": {"noises": ["uniform"]},
        "grammars": {"grammars": 4}, "trees": {"trees": 4}, "sizes": {"sizes": [512, 256]},
        "family_size": {"family_trees": 10, "family_size": 512}, "family_trees": {"family_trees": 10},
        "seed": {"seed": 1},
    },
    "speciation": {
        "families": {"families": [[4, 2, 2, 2, 2]]}, "noises": {"noises": ["masking"]},
        "grammars": {"grammars": 3}, "trees": {"trees": 30}, "size": {"size": 128},
        "alphas": {"alphas": [0.4]}, "noised": {"noised": 12},
        "shapes": {"shapes": [[4, 2, 2, 2]], "sizes": [5]}, "sizes": {"sizes": [10]}, "sets": {"sets": 4},
        "samples": {"samples": 50}, "seed": {"seed": 1},
    },
    "susceptibility": {
        "shapes": {"shapes": [[8, 2, 2]]}, "depths": {"depths": [2]}, "deeper": {"deeper": [1]},
        "published": {"published": [8, 2, 2, 3]}, "noises": {"noises": ["uniform"]},
        "compared": {"compared": [[8, 2, 2]]}, "points": {"points": 4}, "grammars": {"grammars": 2},
        "inputs": {"inputs": 3},
        "trajectories": {"trajectories": 4}, "deep": {"deep": 5}, "size": {"size": 1024}, "seed": {"seed": 1},
    },
    "noise_classes": {
        "shapes": {"shapes": [[8, 3, 2]]}, "thresholds": {"thresholds": ["belief"]},
        "noises": {"noises": [["belief", "uniform"]], "thresholds": ["belief"]}, "sizes": {"sizes": [512]},
        "populations": {"populations": 3}, "rough": {"rough": 256}, "near": {"near": 0.01},
        "wide": {"wide": 0.05}, "deepest": {"deepest": 12}, "levels": {"levels": 18},
        "settled": {"settled": 4}, "apart": {"apart": 0.1}, "distances": {"distances": [0.1]},
        "seed": {"seed": 1},
    },
    "unmasking": {
        "shape": {"shape": [5, 2, 2]}, "depths": {"depths": [2]}, "others": {"others": [[3, 3, 2]]},
        "depth_of_others": {"depth_of_others": 1}, "grammars": {"grammars": 1}, "tokens": {"tokens": 40},
        "steps": {"steps": [2, 4]}, "gathered": {"gathered": 3}, "class_samples": {"class_samples": 6},
        "revealed": {"revealed": [3]}, "revealed_samples": {"revealed_samples": 16},
        "networks": {"networks": 0}, "training_steps": {"training_steps": 5},
        "batch_size": {"batch_size": 8}, "lr": {"lr": 2e-3},
        "dim": {"dim": 4}, "seed": {"seed": 1},
    },
    "referee": {
        "shape": {"shape": [5, 2, 2]}, "zipf": {"zipf": 0.5}, "depths": {"depths": [2]},
        "grammars": {"grammars": 1}, "sequences": {"sequences": 6}, "group": {"group": 3},
        "floors": {"floors": [0.1]}, "per_count": {"per_count": 3}, "depth": {"depth": 3},
        "networks": {"networks": 0}, "training_steps": {"training_steps": 5},
        "batch_size": {"batch_size": 8}, "lr": {"lr": 2e-3}, "dim": {"dim": 4},
        "temperatures": {"temperatures": [1.]}, "samples": {"samples": 16}, "reveals": {"reveals": [1, 4]},
        "steps": {"steps": [8]}, "doubts": {"doubts": [2.]}, "draws": {"draws": 3000}, "more": {"more": 2},
        "tokens": {"tokens": 40}, "vocabulary": {"vocabulary": 50}, "seed": {"seed": 1},
    },
}


def of_presets(x: runs.Experiment) -> dict[str, dict]:
    "The value of the quick preset for each parameter in which it differs from smoke, and another seed."
    smoke, quick = (vars(x.settings({"preset": preset})) for preset in ("smoke", "quick"))
    other = {k: x for k, x in quick.items() if k not in WITHOUT_RESULTS and x != smoke[k]}
    if "seed" in smoke: other["seed"] = smoke["seed"] + 1
    return {k: {k: x} for k, x in other.items()}


CHANGES = {name: CHANGED.get(name) or of_presets(x) for name, x in EXPERIMENTS.items()}
CASES = [(name, parameter) for name, changes in CHANGES.items() for parameter in changes]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PartStore:
    "Parts that several cases share are measured once."
    return PartStore(tmp_path_factory.mktemp("parts"))


def tables_of(name: str, store: PartStore, **parameters) -> dict[str, pd.DataFrame]:
    "The tables of an experiment's smoke preset with some parameters changed."
    parts = runs.parts_of(EXPERIMENTS[name].notebook, {"preset": "smoke", **parameters})
    tables = joined(store.fill(parts, {}))[0]
    return {table: frame for table, frame in tables.items() if table != "seconds"}  # of a clock


def same(a: dict[str, pd.DataFrame], b: dict[str, pd.DataFrame]) -> bool:
    return a.keys() == b.keys() and all(a[name].equals(b[name]) for name in a)


def test_every_parameter_of_every_experiment_has_a_case():
    assert set(CHANGED) <= set(EXPERIMENTS)
    for name, x in EXPERIMENTS.items():
        own = set(vars(x.settings({"preset": "smoke"}))) - WITHOUT_RESULTS
        assert set(CHANGES[name]) == own, f"{name}: other values in its preset quick, or a line in CHANGED"


@pytest.mark.slow
@pytest.mark.parametrize("name, parameter", CASES)
def test_a_changed_parameter_changes_the_tables(name, parameter, store):
    assert not same(tables_of(name, store), tables_of(name, store, **CHANGES[name][parameter]))


@pytest.mark.slow
def test_populations_of_the_families_change_their_tables(store):
    "They are measured where `family_trees` asks for them, which the smoke preset does not."
    small, large = (tables_of("predictions", store, noises=["belief"], family_trees=10, family_size=size)
                    for size in (256, 512))
    assert not small["families"].predicted.equals(large["families"].predicted)


def test_the_comparison_sees_a_repetition():
    table = {"t": pd.DataFrame({"x": [1.0]})}
    assert same(table, {"t": pd.DataFrame({"x": [1.0]})})
    assert not same(table, {"t": pd.DataFrame({"x": [1.1]})})
