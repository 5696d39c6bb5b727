"""The referee: against enumeration, from files that programs write, and what it refuses."""
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from enumeration import FAMILIES, derivations, indices, many, specs
from hypothesis import given
from hypothesis import strategies as st

from rhmdiff.families import ambiguous, load_json, ragged, save_json, weighted
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.observables import read_samples, score, score_each

GRAMMAR = HierarchicalGrammar.random(4, 2, 2, 2, weights=("zipf", 1.), seed=1)
LEAVES = GRAMMAR.sample(6, seed=0)[-1]


def listed(spec, grammar):
    "The probability of every string that a grammar has, from its derivations."
    law = {}
    for levels, p in derivations(spec):
        leaves = tuple(np.ravel(indices(grammar, levels)[-1]).tolist())
        law[leaves] = law.get(leaves, 0.) + p
    return law


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihood_and_levels_against_enumeration(family):
    @many
    @given(specs(family, max_derivations=300), st.integers(0, 2**32))
    def check(spec, seed):
        grammar = HierarchicalGrammar(spec)
        law = listed(spec, grammar)
        total = sum(law.values())
        g = torch.Generator().manual_seed(seed)
        noise = torch.randint(grammar.vocab[-1], (4, grammar.n_leaves), generator=g)
        leaves = torch.cat([grammar.sample(4, seed=seed)[-1], noise])
        table = score(grammar, leaves)
        logs = [math.log(law[x] / total) for x in map(tuple, leaves.tolist()) if x in law]
        mean = np.mean(logs)
        assert abs(table["mean"]["grammatical"] - len(logs) / 8) < 1e-12
        assert abs(table["mean"]["log-likelihood"] - mean) < 1e-10
        assert abs(table["se"]["log-likelihood"] - np.std(logs, ddof=1) / len(logs)**0.5) < 1e-10
        each = score_each(grammar, leaves)
        strings = map(tuple, leaves.tolist())
        known = [math.log(law[x] / total) if x in law else -math.inf for x in strings]
        assert np.allclose(each["log-likelihood"], known, rtol=0, atol=1e-10)
        assert each["class"].tolist() == grammar.parse(leaves)[0][:, 0].tolist()
        own = sum(p / total * math.log(p / total) for p in law.values())
        excess = table.loc["excess log-likelihood"]
        drawn = math.sqrt(max(excess.se**2 - table.se["log-likelihood"]**2, 0.))
        assert abs(excess["mean"] - (mean - own)) < 6 * drawn + 1e-9
        for l, valid in enumerate(grammar.valid(leaves)[1:-1], 1):
            assert abs(table["mean"][f"grammatical at level {l}"] - valid.double().mean()) < 1e-12
    check()


def test_errors_of_the_likelihood_hold():
    "90 to 99 % of the intervals hold the mean of a noisy law; the excess of an ambiguous grammar's own is 0."
    g = torch.Generator().manual_seed(0)
    two_ways = ambiguous(4, 3, 2, 2, shared=0.5, seed=0)
    strings = torch.cartesian_prod(*[torch.arange(4)] * 4)
    for grammar in (GRAMMAR, weighted(two_ways, ("zipf", 1.))):
        log_p = grammar.log_prob(strings)
        law = 0.7 * log_p.exp() + 0.3 / len(strings)
        fits = log_p > -math.inf
        truth = (law * log_p)[fits].sum() / law[fits].sum()
        held = []
        for _ in range(200):
            row = score(grammar, strings[law.multinomial(150, True, generator=g)]).loc["log-likelihood"]
            held.append(abs(row["mean"] - truth) < 1.96 * row.se)
        assert 0.9 <= np.mean(held) <= 0.99
    own = score(two_ways, two_ways.sample(4000, seed=5)[-1]).loc["excess log-likelihood"]
    assert abs(own["mean"]) < 4 * own.se


def test_rows_come_where_there_is_something_to_compare_with():
    alone = score(GRAMMAR, LEAVES)
    trained = score(GRAMMAR, LEAVES, LEAVES[:2])
    held = score(GRAMMAR, LEAVES, held_out=LEAVES[:2])
    both = score(GRAMMAR, LEAVES, LEAVES[:2], LEAVES[2:])
    assert set(trained.index) - set(alone.index) == {"memorized", "novel", "distance to train"}
    assert set(held.index) - set(alone.index) == {"distance to held-out"}
    assert set(both.index) - set(trained.index) == {"distance to held-out", "nearer to train"}
    for table in (trained, held, both): assert table.loc[alone.index].equals(alone)


@pytest.mark.parametrize("grammar", [
    GRAMMAR, HierarchicalGrammar.random(70, 2, 2, 2, seed=0),
    HierarchicalGrammar({"root_symbols": ["s"], "terminal_symbols": ["1", "2", "0"],
                         "rules": {"s": [(("1", "2"), 1.), (("0", "2"), 1.)]}})],
    ids=["letters", "words", "digits"])
def test_what_is_written_is_read(grammar, tmp_path):
    "Names and indices, in every kind of file, with and without the byte order mark."
    x = grammar.sample(5, seed=0)[-1]
    names = [[grammar.alphabet(-1)[a] for a in row] for row in x.tolist()]
    frame = pd.DataFrame({"label": "s", "sequence": grammar.decode(x)})
    frame.to_csv(tmp_path/"table.csv", index=False, encoding="utf-8-sig")
    pd.DataFrame(names).to_csv(tmp_path/"names.csv", header=False, index=False)
    (tmp_path/"names.txt").write_text("\r\n".join("\t".join(row) for row in names))
    (tmp_path/"decoded.TXT").write_text("\n\n".join(grammar.decode(x)))
    for file in tmp_path.iterdir(): assert read_samples(file, grammar, indices=False).equal(x), file
    for file in ("i.txt", "i.csv"):
        np.savetxt(tmp_path/file, x.numpy(), fmt="%d", delimiter="," if file == "i.csv" else " ")
        assert read_samples(tmp_path/file, grammar, indices=True).equal(x)
    for dtype in (np.uint8, np.int32, np.int64):
        np.save(tmp_path/"array.npy", x.numpy().astype(dtype))
        np.savez_compressed(tmp_path/"array.npz", anything=x.numpy().astype(dtype))
        assert read_samples(tmp_path/"array.npy", grammar).equal(x)
        assert read_samples(str(tmp_path/"array.npz"), grammar).equal(x)


def test_sequences_of_a_ragged_grammar_are_aligned_or_laid_out(tmp_path):
    grammar = ragged(4, 2, 2, seed=0)
    x = grammar.sample(20, seed=0)[-1]
    file = tmp_path/"x.txt"
    file.write_text("\n".join(grammar.decode(x, empty="-")))
    assert read_samples(file, grammar, empty="-").equal(x)
    file.write_text("\n".join(grammar.decode(x)))
    assert read_samples(file, grammar).equal(x)
    file.write_text("d d\nd d d")
    junk = read_samples(file, grammar)
    assert score(grammar, junk)["mean"]["grammatical"] == 0
    file.write_text("a" * 10)
    with pytest.raises(ValueError, match=r"x.txt': line 1: the sequence has 10 symbols; 9 or fewer"):
        read_samples(file, grammar)


REFUSED = {  # name -> content, what is said
    "a.txt": ("abcd\n\nabqd", r"a.txt': line 3 holds 'q', which is no terminal; 'a', 'b', 'c', 'd' are"),
    "b.txt": ("abcd\nabc", r"b.txt': line 2: the sequence has 3 symbols; 4 are needed"),
    "c.txt": ("0 1 2 3\n0 1 2 4", r"c.txt': line 2 holds the index '4' \(4 is the mask\); 0 to 3 are"),
    "d.txt": ("0 1 2 9" + "9" * 30, r"line 1 holds the index '9.*'; 0 to 3 are allowed"),
    "e.txt": ("", r"e.txt': it holds no sequences"),
    "f.csv": ("0,1,2,3\n1,1,2,3\n", r"line 1 counts the columns, as pandas writes them"),
    "g.csv": ("label,sequence\na,abcd\nb\n", r"g.csv': line 3: the sequence has 0 symbols"),
    "h.csv": ("x0,x1,x2,x3\n0,1,2,3\n", r"h.csv': line 1 looks like a header: it holds 'x0' .*header=False"),
    "i.txt": ("0 1 -1 2", r"line 1 holds '0', which is no terminal"),
    "j.doc": ("abcd", r"is not one of .npy, .npz, .csv, .txt"),
    "k.npy": ("abcd", r"k.npy': "),
    "l.npz": ("abcd", r"l.npz': "),
    "m.txt": ("# four symbols\n0 1 2 3\n", r"m.txt': line 1 looks like a header: it holds '#' and no"),
    "n.txt": ("abcd\na,b,c,d\n", r"n.txt': line 2 has ',' between its symbols; blanks are read in a .txt"),
    "o.csv": ("0;1;2;3\n", r"o.csv': line 1 has ';' between its symbols; .*, commas in a .csv"),
    "p.csv": ("0.0,1.0,2.0,3.0\n", r"p.csv': line 1 holds '0.0'; indices must be whole numbers"),
    "q.txt": ("3.000e+00 0 1 2\n", r"q.txt': line 1 holds '3.000e\+00'; .*fmt='%d'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused_says_where(name, tmp_path):
    content, why = REFUSED[name]
    (tmp_path/name).write_text(content)
    with pytest.raises(ValueError, match=why): read_samples(tmp_path/name, GRAMMAR)


def test_arrays_that_are_refused(tmp_path):
    good = LEAVES.numpy()
    bad = good.copy()
    bad[1, 2] = 4
    objects = np.empty(2, dtype=object)
    for x, why in ((bad, r"row 1, position 2: the index 4 \(4 is the mask\); 0 to 3"), (good / 2, "float64"),
                   (good[:, :3], r"int64 \(6, 3\); integers \(batch, 4\)"), (-good - 1, "row 0, position 0"),
                   (objects, "no pickles are read; save integers"), (good[:0], "no sequences")):
        np.save(tmp_path/"x.npy", x)
        with pytest.raises(ValueError, match=f"x.npy': .*{why}"): read_samples(tmp_path/"x.npy", GRAMMAR)
    np.savez(tmp_path/"x.npz", a=good, b=good)
    with pytest.raises(ValueError, match="has the arrays a, b; one alone is read, or 'leaves'"):
        read_samples(tmp_path/"x.npz", GRAMMAR)
    np.savez(tmp_path/"x.npz", objects)
    with pytest.raises(ValueError, match="x.npz': .*no pickles are read"):
        read_samples(tmp_path/"x.npz", GRAMMAR)
    (tmp_path/"x.txt").write_bytes(b"ab\xff\xfe")
    with pytest.raises(ValueError, match="no text in UTF-8"): read_samples(tmp_path/"x.txt", GRAMMAR)


def test_digits_that_could_be_names_are_asked_about(tmp_path):
    grammar = HierarchicalGrammar({"root_symbols": ["s"], "terminal_symbols": ["1", "0"],
                                   "rules": {"s": [(("1", "0"), 1.), (("1", "1"), 1.)]}})
    (tmp_path/"x.txt").write_text("1 0\n1 1")
    with pytest.raises(ValueError, match="say indices=True or False"): read_samples(tmp_path/"x.txt", grammar)
    assert read_samples(tmp_path/"x.txt", grammar, indices=False).tolist() == [[0, 1], [0, 0]]
    assert read_samples(tmp_path/"x.txt", grammar, indices=True).tolist() == [[1, 0], [1, 1]]


def test_the_shell_says_what_the_library_says(tmp_path, monkeypatch, capfd):
    pytest.importorskip("click")
    from rhmdiff import cli
    monkeypatch.chdir(tmp_path)
    def rhm(*arguments):
        with pytest.raises(SystemExit) as end: cli.main(["score", *arguments])
        return end.value.code, *capfd.readouterr()
    save_json(GRAMMAR, "g.json")
    assert load_json("g.json") == GRAMMAR
    (tmp_path/"x.txt").write_text("\n".join(GRAMMAR.decode(LEAVES)) + "\naaaa")
    np.save("train.npy", LEAVES[:2].numpy())
    np.save("held.npy", LEAVES[2:].numpy())
    code, told, where = rhm("x.txt", "--grammar", "g.json", "--train", "train.npy", "--held-out", "held.npy",
                            "--flips", "1", "--csv", "out/score.csv", "--each", "out/each.csv")
    wanted = score(GRAMMAR, read_samples("x.txt", GRAMMAR), LEAVES[:2], LEAVES[2:], 1)
    kept = pd.read_csv("out/score.csv", index_col="row")
    assert code == cli.OK and told.startswith("7 samples in x.txt\n")
    assert where == (f"the table is written to {tmp_path.resolve()/'out'/'score.csv'}\n"
                     f"a row for each sample is written to {tmp_path.resolve()/'out'/'each.csv'}\n")
    each = score_each(GRAMMAR, read_samples("x.txt", GRAMMAR), LEAVES[:2], LEAVES[2:], 1)
    pd.testing.assert_frame_equal(pd.read_csv("out/each.csv", index_col="sample"), each)
    assert list(kept.index) == list(wanted.index) and np.allclose(kept, wanted, equal_nan=True, atol=1e-15)
    assert [line.split("  ")[0] for line in told.splitlines()[1:]] == list(wanted.index)
    (tmp_path/"none.json").write_text(json.dumps({"rules": {}}))
    (tmp_path/"file").touch()
    for arguments, code, message in [
        (["x.txt"], cli.USAGE, "Missing option '--grammar'"),
        (["y.txt", "--grammar", "g.json"], cli.USAGE, "there is no such file"),
        (["x.txt", "--grammar", "h.json"], cli.USAGE, "cannot be read"),
        (["x.txt", "--grammar", "train.npy"], cli.USAGE, "train.npy' holds no grammar: it is no text"),
        (["x.txt", "--grammar", "none.json"], cli.USAGE, "holds no grammar"),
        (["x.txt", "--grammar", "g.json", "--flips", "1"], cli.USAGE, "train, which is not given"),
        (["x.txt", "--grammar", "g.json", "--indices"], cli.USAGE, "which is no index"),
        (["x.txt", "--grammar", "g.json", "--csv", "file/x.csv"], cli.NO_OUTPUT,
         "--csv='file/x.csv' cannot be written: 'file' is not a folder"),
        (["x.txt", "--grammar", "g.json", "--csv", "."], cli.NO_OUTPUT, "--csv='.' cannot be written"),
        (["x.txt", "--grammar", "g.json", "--each", "."], cli.NO_OUTPUT, "--each='.' cannot be written"),
    ]:
        ended, _, told = rhm(*arguments)
        assert ended == code and message in told, (arguments, ended, told)


def test_means_of_each_are_the_scores_of_all():
    "Rows of ragged and of word grammars as well, ungrammatical ones among them."
    for grammar in (GRAMMAR, ragged(4, 2, 2, seed=0)):
        leaves = torch.cat([grammar.sample(8, seed=1)[-1], grammar.sample(3, seed=2)[-1].flip(-1)])
        table = score(grammar, leaves, leaves[:4], leaves[4:8], 1)["mean"]
        each = score_each(grammar, leaves, leaves[:4], leaves[4:8], 1)
        shared = [name for name in table.index if name in each and name != "log-likelihood"]
        assert len(each) == 11 and len(shared) == len(table) - 3
        assert np.allclose(each[shared].astype(float).mean(), table[shared], rtol=0, atol=1e-12)
        sound = each.loc[each["grammatical"], "log-likelihood"]
        assert abs(sound.mean() - table["log-likelihood"]) < 1e-12
        assert each.loc[~each["grammatical"], "log-likelihood"].eq(-math.inf).all()


def test_the_help_of_the_shell_explains_every_row():
    click_testing = pytest.importorskip("click.testing")
    from rhmdiff import cli
    told = click_testing.CliRunner().invoke(cli.rhm, ["score", "--help"]).output
    begun = {line.split()[0].strip(",") for line in told.splitlines() if line.split()}
    rows = score(GRAMMAR, LEAVES, LEAVES[:2], LEAVES[2:]).index
    assert {row.split()[0] for row in rows} <= begun, told
    assert "(k - 1)/2N" in told and max(map(len, told.splitlines())) <= 80
