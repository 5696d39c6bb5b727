"""The committed reference results: whole, of experiments that exist, and the same when measured again."""
from pathlib import Path

import pytest

from rhmdiff import runs

REFERENCE = Path(__file__).resolve().parent.parent/"book"/"reference"
EXPERIMENTS = runs.experiments()
FOLDERS = sorted(folder for folder in REFERENCE.iterdir() if folder.is_dir())
MEASURED = [x for x in EXPERIMENTS.values() if (REFERENCE/x.name/"run.json").exists()]
SECONDS = 20.  # of recorded time, that are measured again


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_committed_table_is_damaged(folder):
    "Each is what run.json describes, and there is no other file."
    results = runs.read_results(folder)
    assert folder.name in EXPERIMENTS
    expected = {"run.json", *(f"{name}.csv" for name in results.tables)}
    assert {file.name for file in folder.iterdir()} == expected
    assert results.record["parameters"]["preset"] == "reference"
    assert results.record["commit"]
    fresh = not runs._changes(EXPERIMENTS[folder.name], results.record)
    assert not (fresh and results.record["modified"]), "measured from a tree with changes"


@pytest.mark.parametrize("x", MEASURED, ids=lambda x: x.name)
def test_what_is_confirmed_says_by_which_parts(x):
    "Parts of every function that has changed, at a commit, to six digits; what is fresh has no need of it."
    record = runs.read_results(REFERENCE/x.name).record
    if "confirmed" not in record: return
    assert record["code"] != x.code()
    found = record["confirmed"]
    changed = {name for name, code in found["code"].items() if record["code"].get(name) != code} - {"parts"}
    by_label = {y["part"]: y["key"].rpartition("-")[0] for y in record["parts"]}
    assert changed & set(by_label.values()) <= {by_label[part] for part in found["parts"]}
    assert 0 <= found["worst"] <= 1e-6 and len(found["commit"]) == 40


@pytest.mark.slow
@pytest.mark.parametrize("x", MEASURED, ids=lambda x: x.name)
def test_a_slice_measured_again_agrees(x, capsys):
    "A seeded slice of the parts; what was compared is printed."
    if runs._state(x, REFERENCE/x.name)["state"] == "stale":
        pytest.skip("older than its code, as its page says")
    table = runs.recompute(x, REFERENCE/x.name, SECONDS)
    with capsys.disabled():
        for row in table.itertuples():
            print(f"\n{x.name}: {row.part}: apart by {row.worst:.2g}, {row.rtol:.2g} allowed", end=" ")
    assert table.agrees.all(), table.to_string()
