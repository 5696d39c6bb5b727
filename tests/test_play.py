"""The page to play with: its numbers are the library's, and everything on it can be reached."""
import itertools
import math
import re

import pandas as pd
import pytest
import torch

from rhmdiff.diffusion import make_process
from rhmdiff.families import ambiguous, filtered
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.inference import posterior
from rhmdiff.theory import (
    critical_noise,
    leaf_messages,
    mean_field_by_depth,
    mean_field_noise_at,
    mean_field_slope,
    messages_above,
    phase,
)

GRAMMARS = {
    "random": HierarchicalGrammar.random(16, 4, 2, 4, seed=0),
    "wide": HierarchicalGrammar.random(5, 3, 3, 3, seed=1),
    "uneven": HierarchicalGrammar.random([3, 6, 4, 8], [2, 3, 4], [2, 3, 2], 3, seed=2),
    "zipf": HierarchicalGrammar.random(6, 4, 2, 3, weights=("zipf", 1.0), seed=3),
    "ambiguous": ambiguous(6, 3, 2, 3, shared=0.4, seed=4),
    "filtered": filtered(HierarchicalGrammar.random(4, 2, 2, 3, seed=5), 1),
}
SHAPES = [(16, 4, 2), (8, 2, 2), (4, 4, 2), (8, 8, 2), (6, 5, 3), (16, 1, 2), (3, 2, 4), (32, 8, 2)]


@pytest.fixture(scope="module")
def page(browser, root, tmp_path_factory):
    "A page with nothing but the script; what goes wrong on it fails the test."
    file = tmp_path_factory.mktemp("play")/"play.html"
    script = (root/"book"/"assets"/"play.js").as_uri()
    body = f'<div id="play"></div><script src="{script}"></script>'
    file.write_text(f'<!doctype html><meta charset="utf-8"><title>play</title>{body}', encoding="utf-8")
    page, faults = browser.new_page(), []
    page.on("pageerror", lambda e: faults.append(str(e)))
    page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    page.goto(file.as_uri())
    yield page
    assert not faults, faults
    page.close()


def show(page, **state) -> str:
    "Open an address; what a screen reader is told, when the page has come to rest."
    address = "#" + "&".join(f"{name}={value}" for name, value in state.items())
    page.evaluate("address => { location.hash = ''; location.hash = address; }", address)
    page.wait_for_function(f"play.state.t == {state['t']}")
    page.wait_for_timeout(400)
    return page.locator("[aria-live]").first.text_content()


@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("noise", ["belief", "masking", "uniform"])
def test_posteriors_are_those_of_the_library(page, name, noise):
    "Every posterior and log Z of eight sentences at eight noise levels, to 1e-9."
    g = GRAMMARS[name]
    process = make_process(noise, g.vocab[-1])
    t = torch.linspace(0.05, 0.95, 8, dtype=torch.float64)
    log_evidence = process.log_evidence(process.sample(g.sample(8, seed=6)[-1], t, seed=7), t).double()
    exact = posterior(g, log_evidence)
    tables = {"vocab": g.vocab, "rules": [r.tolist() for r in g.rules],
              "weights": [w.tolist() for w in g.weights], "prior": g.prior.tolist()}
    found = page.evaluate("""([tables, batch]) => batch.map(evidence => {
        const {levels, logZ} = play.model.posterior(play.model.grammarOf(tables), evidence);
        return {levels: levels.map(level => level.map(p => Array.from(p))), logZ};
    })""", [tables, log_evidence.exp().tolist()])
    for b, x in enumerate(found):
        assert abs(x["logZ"] - exact.log_z[b].item()) < 1e-9
        for mine, theirs in zip(x["levels"], exact.levels):
            assert (torch.tensor(mine, dtype=torch.float64) - theirs[b]).abs().max() < 1e-9


@pytest.mark.parametrize("v, m, s", SHAPES)
def test_the_mean_field_is_that_of_the_library(page, v, m, s):
    found = page.evaluate("""([v, m, s]) => {
        const {phase, critical, atOne, atChance, curve} = play.model.meanField(v, m, s);
        return {phase, critical, atOne, atChance, curve: [0.1, 0.5, 0.9].map(t => curve(t, 7))};
    }""", [v, m, s])
    assert found["phase"] == phase(v, m, s)
    assert found["critical"] == pytest.approx(critical_noise(v, m, s), abs=1e-9)
    assert found["atOne"] == pytest.approx(mean_field_slope(1., v, m, s), rel=1e-9)
    assert found["atChance"] == pytest.approx(mean_field_slope(1 / v, v, m, s), rel=1e-9)
    curve = mean_field_by_depth([0.1, 0.5, 0.9], v, m, s, 7)[:, -1]
    assert found["curve"] == pytest.approx(list(curve), rel=1e-9)


@pytest.mark.parametrize("noise, t, v, m, s", [("masking", 0.5, 16, 4, 2), ("uniform", 0.3, 8, 3, 2),
                                               ("masking", 0.6, 4, 5, 3), ("uniform", 0.4, 5, 2, 3)])
def test_its_populations_are_those_of_the_library(page, noise, t, v, m, s):
    "The mean mass on the truth and the mean sum of squares after each of three levels, within four errors."
    size, levels = 4000, 3
    found = page.evaluate("""([noise, t, v, m, s, size, levels]) => {
        const {generator, leafMessages, messagesAbove} = play.model;
        const random = generator(3), deck = Uint32Array.from({length: v ** s}, (_, i) => i);
        const courses = [leafMessages(noise, v, t, size, random)];
        for (let l = 0; l < levels; l++) courses.push(messagesAbove(courses[l], v, m, s, deck, random));
        return courses.map(x => Array.from(x));
    }""", [noise, t, v, m, s, size, levels])
    ours = leaf_messages(make_process(noise, v), t, 4 * size, seed=1)
    for level, theirs in enumerate(found):
        if level: ours = messages_above(ours, m, s, seed=level)
        theirs = torch.tensor(theirs, dtype=torch.float64).view(size, v)
        assert (theirs.sum(1) - 1).abs().max() < 1e-12 and theirs.min() >= 0
        for a, b in ((theirs[:, 0], ours[:, 0]), ((theirs**2).sum(1), (ours**2).sum(1))):
            error = math.sqrt(a.var() / len(a) + b.var() / len(b))
            assert abs(a.mean() - b.mean()) < 4 * (level + 1) * error + 1e-12  # a level passes errors on


def test_its_critical_noises_are_those_of_the_reference(page, root):
    "Masking and uniform noise at (16, 4, 2): the mean of four populations, within three errors."
    results = root/"book"/"reference"/"noise_classes"
    brackets = pd.read_csv(results/"brackets.csv").query("v == 16 and m == 4 and s == 2")
    for noise in ("masking", "uniform"):
        rows = brackets[brackets.noise == noise]
        middles = (rows.rises + rows.falls) / 2
        found = pd.Series(page.evaluate("""noise =>
            play.model.criticalNoises(noise, {v: 16, m: 4, s: 2}, 5, 4, () => null)""", noise))
        error = math.hypot(middles.sem(), found.sem(), 0.001)
        assert abs(found.mean() - middles.mean()) < 3 * error < 0.02, (noise, found, middles)


def test_it_is_a_small_file(root): assert (root/"book"/"assets"/"play.js").stat().st_size <= 100_000


def test_its_grammars_are_random_hierarchy_models(page):
    "At each level m v different strings; over 500 grammars each of the 16 is dealt as often as any."
    def strings(seed):
        level, = page.evaluate("""seed => play.model.randomGrammar(4, 2, 2, 1, seed).levels.map(
            x => ({parent: Array.from(x.parent), children: Array.from(x.children)}))""", seed)
        assert level["parent"] == [0, 0, 1, 1, 2, 2, 3, 3]
        pairs = list(zip(level["children"][::2], level["children"][1::2]))
        assert len(set(pairs)) == 8
        return pairs
    counts = torch.zeros(4, 16)
    for seed in range(500):
        for place, (a, b) in enumerate(strings(seed)): counts[place // 2, 4 * a + b] += 1
    expected = 500 * 8 / 16 / 4
    chi2 = ((counts - expected) ** 2 / expected).sum().item()
    assert chi2 < 110  # of at most 60 degrees of freedom: a false alarm once in 10,000 scripts


def test_more_noise_only_takes_away(page):
    "Of a sentence, what masking shows at a noise level it shows at every lower one."
    shown = page.evaluate("""() => {
        const {generator, fate, seen} = play.model;
        const leaves = Array.from({length: 64}, (_, i) => i % 8), fates = fate(leaves, 8, generator(1));
        const at = t => leaves.map((x, i) => seen("masking", x, fates[i], t, false));
        return [0, 0.25, 0.5, 0.75, 1].map(at);
    }""")
    for less, more in itertools.pairwise(shown):
        assert all(b is None or a == b for a, b in zip(less, more))
    assert shown[0] == [i % 8 for i in range(64)] and shown[-1] == [None] * 64


def test_an_example_has_an_address(page):
    "Shape, grammar, sentence, noise, masks and guess come back from it; what is out of bounds is bounded."
    show(page, noise="masking", v=8, m=2, s=2, L=3, grammar=5, sentence=7, t=0.4, masked="0.3", guess=0.6)
    page.get_by_text("8 populations").wait_for(timeout=120_000)
    page.wait_for_timeout(400)
    told = page.locator("[aria-live]").first.text_content()
    assert told.startswith("t = 0.40: class ")
    assert re.search(r", chance 0.13, critical 0.9\d\d ± 0.00\d, 2 masked by hand$", told), told
    first = page.url
    assert show(page, noise="belief", v=16, m=4, s=2, L=4, t=0.62).endswith("chance 0.06, critical 0.80")
    page.goto(first)
    page.wait_for_function("told => document.querySelector('[aria-live]').textContent == told", arg=told)
    show(page, noise="smoke", v=99, m=9999, s=9, L=99, t=0.5)
    state = page.evaluate("play.state")
    assert (state["v"], state["s"]) == (32, 4) and state["s"] ** state["L"] <= 128


def test_the_address_is_written_when_the_slider_rests(page):
    "Not at every move; and one that is asked for meanwhile is read, not written over."
    show(page, noise="belief", v=16, m=4, s=2, L=4, t=0.5)
    written = page.evaluate("""async () => {
        const write = history.replaceState.bind(history);
        let times = 0;
        history.replaceState = (...what) => { times += 1; write(...what); };
        for (let k = 0; k <= 100; k++) {
            play.change({t: k / 100});
            await new Promise(requestAnimationFrame);
        }
        await new Promise(done => setTimeout(done, 600));
        history.replaceState = write;
        return times;
    }""")
    assert 1 <= written < 50 and page.url.endswith("&t=1")
    page.evaluate("""() => {  // the one that is due is written before the one that is asked for is read
        const due = location.hash;
        location.hash = due.replace("&t=1", "&t=0.7");
        history.replaceState(null, "", due);
    }""")
    page.wait_for_timeout(600)
    assert page.evaluate("play.state.t") == 0.7 and page.url.endswith("&t=0.7")


def test_keys_do_everything(page):
    "Tab reaches every control, arrows the leaves, Enter masks one; the steps explain both passes."
    show(page, noise="masking", v=4, m=2, s=2, L=2, grammar=1, sentence=1, t=0)
    assert page.locator("#play [tabindex='0']").count() == 1
    page.locator("#play [tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"): page.keyboard.press(key)
    assert page.evaluate("[...play.state.masked]") == [2]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "leaf 3 of 4, masked"
    page.get_by_role("button", name="Next step of the two passes").focus()
    said = []
    for _ in range(9):
        page.keyboard.press("Enter")
        said.append(page.locator(".play-arithmetic").text_content())
    assert [x.split(" ")[0] for x in said] == ["Up"] * 3 + ["Down"] * 6
    page.keyboard.press("Enter")
    assert page.locator(".play-arithmetic").text_content() == ""
    page.locator("#play-t").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("play.state.t") == 0.01


def test_a_guess_comes_first_and_the_average_fills_in(page):
    "With two levels of (16, 4, 2) the average of 400 grammars is near the mean field."
    show(page, noise="belief", v=16, m=4, s=2, L=2, grammar=1, sentence=1, t=0.5)
    page.evaluate("play.change({shown: false, pinned: []}, true)")
    assert page.get_by_text("guess first").is_visible()
    page.get_by_role("button", name="Show the curves").click()
    page.get_by_text("Average over 400 of 400").wait_for(timeout=60_000)
    text = page.get_by_text("Average over 400 of 400").text_content()
    half = float(text.split("half-way from 1 to chance at t = ")[1].split(". ")[0])
    assert abs(half - mean_field_noise_at(0.5, 16, 4, 2, 2)) < 0.05
    page.get_by_role("button", name="One level more").click()
    assert page.evaluate("play.state.L") == 3 and page.get_by_text("L = 2").is_visible()


def test_the_challenges_can_be_met(page):
    states = [dict(noise="masking", v=4, m=4, s=2, L=3, grammar=1, sentence=1, t=0, masked=4),
              dict(noise="masking", v=16, m=1, s=2, L=5, grammar=1, sentence=1, t=0.8),
              dict(noise="belief", v=4, m=4, s=2, L=3, t=0.1)]
    for state in states: show(page, **state)
    assert page.get_by_text("Solved.").count() == 3
