"""The book: complete, its links whole, no error in a browser; how it is put together, and kept."""
import base64
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from urllib.parse import quote_plus, unquote, urldefrag, urlsplit

import pytest
import yaml

pytest.importorskip("jupyter_book")

import psutil
from bs4 import BeautifulSoup

FRAME = {"genindex", "search"}  # pages that Sphinx adds


@pytest.fixture(scope="module")
def pages(book, build) -> dict[Path, BeautifulSoup]:
    "Every page of the book, parsed."
    paths = [path for path in sorted(book.rglob("*.html")) if "_static" not in path.parts]
    found = {path: build.parsed(path) for path in paths}
    assert found, f"no pages in {book}"
    return found


def body(page: BeautifulSoup): return page.find("article")


def test_every_page_of_the_contents_is_there(pages, book, root):
    toc = yaml.safe_load((root/"book"/"_toc.yml").read_text(encoding="utf-8"))
    listed = {toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])}
    assert {str(p.relative_to(book).with_suffix("")) for p in pages} - FRAME - {"index"} == listed - {"index"}


def test_links_inside_the_book_lead_somewhere(pages, book):
    def anchors_of(page):
        named = page.find_all("a", attrs={"name": True})
        return {t["id"] for t in page.find_all(id=True)} | {t["name"] for t in named}
    anchors = {path: anchors_of(page) for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        for tag, key in [("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")]:
            for element in page.find_all(tag, attrs={key: True}):
                link = element[key]
                if urlsplit(link).scheme: continue
                address, anchor = urldefrag(link)
                target = (path.parent/unquote(urlsplit(address).path)).resolve() if address else path
                lost_anchor = anchor and target in anchors and unquote(anchor) not in anchors[target]
                if not target.is_relative_to(book) or not target.exists() or lost_anchor:
                    broken.append((path.name, link))
    assert not broken, broken


def test_nothing_is_fetched_from_a_network(pages):
    parts = [("script", "src"), ("img", "src"), ("link", "href")]
    remote = [(p.name, e.get(key)) for p, page in pages.items() for tag, key in parts
              for e in page.find_all(tag, attrs={key: True}) if urlsplit(e[key]).scheme in ("http", "https")]
    assert not remote, remote


def test_plumbing_is_left_out(pages, book):
    for path, page in pages.items():
        if "nbs" not in path.relative_to(book).parts: continue
        text = body(page).get_text()
        for line in ("#|", "default_exp", "nbdev_export()"): assert line not in text, (path.name, line)


def experiment_pages(pages) -> dict[str, BeautifulSoup]:
    "The articles of the pages of experiments, by name."
    return {path.stem: body(page) for path, page in pages.items() if path.parent.name == "experiments"}


def test_experiments_show_what_ran(pages, root):
    "Figures have captions; the parameters are those that ran, but for folders, which are a reader's."
    found = experiment_pages(pages)
    assert {"phase_transition", "phase_transition_thesis", "phase_transition_quick"} <= set(found)
    for name, page in found.items():
        images = page.select("div.cell_output img")
        captioned = images and all(e.find_parent("figure") for e in images)
        assert captioned, f"{name}: figures without a caption"
        shown = dict(re.findall(r'^(preset|output|show)\b.*?= ("?[\w/]+"?)', page.get_text(), re.M))
        ran = re.search(r"Results of the preset (\w+), measured on", page.get_text())
        assert ran and shown["preset"] == f'"{ran[1]}"', f"{name}: the parameters that ran are not shown"
        assert shown["show"] == "None" and shown["output"].startswith('"runs/'), f"{name}: {shown}"
    thesis = found["phase_transition_thesis"].get_text()
    assert re.search(r'^grammar\b.*= "BINARY_3_LEVEL_GRAMMAR"', thesis, re.M)


def test_reference_results_are_shown_where_they_are(pages, root):
    for name, page in experiment_pages(pages).items():
        if not (root/"book"/"reference"/name/"run.json").exists(): continue
        record = json.loads((root/"book"/"reference"/name/"run.json").read_text(encoding="utf-8"))
        told = f"preset {record['parameters']['preset']}, measured on {record['when'][:10]} at commit"
        assert told in page.get_text(), f"{name} does not show the results in book/reference"


def test_experiments_begin_with_what_was_found(pages):
    "The source note and a figure stand above the first section."
    for name, page in experiment_pages(pages).items():
        above = page.find("h2").find_all_previous(["p", "figure"])
        notes = [e for e in above if "measured on" in e.get_text()]
        assert notes, f"{name}: no source note above the first section"
        assert any(e.name == "figure" for e in above), f"{name}: no figure above the first section"


def test_code_of_experiments_is_folded(pages):
    for name, page in experiment_pages(pages).items():
        open_ = [e.get_text()[:60] for e in page.select("div.cell_input") if not e.find_parent("details")]
        assert not open_, (name, open_)
        assert page.find("summary"), f"{name}: no code at all"


def test_no_path_of_the_build_and_no_raw_value_is_printed(pages, root):
    "In what experiments show, code aside, there is no path of a machine, dictionary or representation."
    raw = re.compile(r"/tmp/|_stage|\{'|Path\(|<\w+[ .]\w.* at 0x|dtype: |Traceback|array\(|tensor\(")
    for name, page in experiment_pages(pages).items():
        for output in page.select("div.cell_output"):
            text = output.get_text()
            assert not raw.search(text) and str(root) not in text, (name, raw.search(text), text[:200])


def test_states_of_all_experiments_are_listed(pages, book):
    table = body(pages[book/"status.html"]).find("table")
    listed = {Path(e["href"]).stem for e in table.select("a[href]")}
    assert listed == set(experiment_pages(pages)) - {"phase_transition_quick"}
    states = [row.find_all("td")[1].get_text().partition(":")[0] for row in table.select("tbody tr")]
    assert set(states) <= {"fresh", "confirmed", "stale", "missing"}, "damaged results are no results"


def test_solutions_are_folded_and_the_words_of_the_chapters_are_linked(pages, book):
    chapters = [page for path, page in pages.items() if path.parent.name == "zero"]
    assert len(chapters) == 4
    for page in chapters:
        assert len(page.select("div.exercise")) == 3
        solutions = page.select("div.solution")
        assert len(solutions) == 3 and all("dropdown" in x["class"] for x in solutions)
        assert page.select('a.reference[href*="glossary.html#term-"]')


def test_the_index_lists_every_word_of_the_glossary(pages, book):
    words = [term.contents[0].strip() for term in pages[book/"glossary.html"].select("dl.glossary > dt")]
    listed = {link.get_text() for link in pages[book/"genindex.html"].select("table.genindextable a")}
    assert len(words) > 30 and set(words) <= listed
    assert {"bayes_gap (in rhmdiff.training)", "HierarchicalGrammar (in rhmdiff.grammar)"} <= listed


def test_every_entry_of_the_bibliography_is_listed_and_every_citation_known(pages, book, root):
    bibliography = (root/"book"/"references.bib").read_text(encoding="utf-8").splitlines()
    keys = [line.split("{")[1].rstrip(",") for line in bibliography if line.startswith("@")]
    shown = ".citation, .footnote, dl.citation > dt, [role=doc-biblioentry]"
    entries = body(pages[book/"references.html"]).select(shown)
    assert len(keys) == len(set(keys)) == len(entries)


def test_every_entry_of_the_bibliography_is_cited(pages, book):
    linked = {urldefrag(link["href"])[1] for page in pages.values() if body(page)
              for link in body(page).select('a[href*="references.html#"]')}
    shown = "div.citation[id], dt[id], [role=doc-biblioentry][id]"
    entries = body(pages[book/"references.html"]).select(shown)
    assert entries and not {entry["id"] for entry in entries} - linked


def test_every_page_has_a_way_onward(pages):
    "Pages before or after it; and, but for those of the library, a link to another page in its text."
    ends = []
    for path, page in pages.items():
        if path.stem in FRAME | {"index"}: continue
        if not page.select("a.right-next[href], a.left-prev[href]"): ends.append((path.name, "order"))
        if path.parent.name not in ("experiments", "zero", "tutorials"): continue
        links = (urldefrag(link["href"])[0] for link in body(page).select("a.reference[href]"))
        if not any(links): ends.append((path.name, "text"))
    assert not ends, ends


# What is shown: figures and tables

def test_figures_are_cited_by_number_and_described(pages):
    "In the text of their page; what stands for an image is not its caption again."
    for path, page in pages.items():
        for figure in body(page).select("figure[id]") if body(page) else []:
            name = (path.name, figure["id"])
            assert body(page).select(f'a.reference[href="#{figure["id"]}"]'), (*name, "is not cited")
            described = figure.find("img")["alt"]
            caption = figure.find("figcaption").get_text(" ", strip=True)
            assert len(described) > 15 and described[:40] not in caption, (*name, described)


def test_images_of_outputs_are_figures(pages):
    loose = [(path.name, image["src"]) for path, page in pages.items()
             for image in page.select("div.cell_output img") if not image.find_parent("figure")]
    assert not loose


def test_a_page_weighs_at_most_a_megabyte(pages):
    "It and its images; style and scripts are of all pages."
    heavy = {}
    for path, page in pages.items():
        shown = body(page).select("img[src]") if body(page) else []
        images = {(path.parent/image["src"]).resolve() for image in shown}
        weight = path.stat().st_size + sum(image.stat().st_size for image in images)
        if weight > 2**20: heavy[path.name] = weight
    assert not heavy


def test_tables_of_many_rows_are_folded_behind_their_files(pages, root):
    for path, page in pages.items():
        for table in page.select("div.cell_output table"):
            if len(table.select("tbody tr")) <= 12: continue
            fold = table.find_parent("details", class_="rows")
            assert fold, (path.name, "has a long table that is open")
            if path.parent.name != "experiments": continue
            files = [code.get_text() for code in fold.find("summary").select("code")]
            assert files, (path.name, "does not name the file of a table")
            folder = root/"book"/"reference"/path.stem
            if folder.exists(): assert all((folder/name).exists() for name in files), (path.name, files)


def visit(browser, path: Path) -> dict:
    "Open a page from the file system; what went wrong, and what can be seen on it."
    page, faults = browser.new_page(viewport={"width": 1440, "height": 900}), []
    def heard(message):
        if message.type in ("error", "warning"): faults.append(f"console: {message.text}")
    page.on("console", heard)
    page.on("pageerror", lambda e: faults.append(f"script: {e}"))
    page.on("requestfailed", lambda r: faults.append(f"failed: {r.url}"))
    page.on("request", lambda r: faults.append(f"network: {r.url}") if r.url.startswith("http") else None)
    page.goto(path.as_uri(), wait_until="load")
    page.wait_for_function("!window.MathJax || !MathJax.startup || !MathJax.startup.promise "
                           "|| MathJax.startup.promise.then(() => true)", timeout=30_000)
    seen = page.evaluate("""() => ({
        written: document.querySelectorAll('.math').length,
        rendered: document.querySelectorAll('mjx-container svg').length,
        wrong: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')].map(e => e.textContent),
        blank: [...document.images].filter(i => i.loading != 'lazy' && !(i.complete && i.naturalWidth))
            .map(i => i.src),
        wide: document.documentElement.scrollWidth > window.innerWidth + 1,
        cut: [...document.querySelectorAll('div.cell_input pre')]
            .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 80)),
        title: document.title})""")
    page.close()
    return {**seen, "faults": faults}


def test_pages_in_a_browser(browser, pages):
    for path in pages:
        if not body(pages[path]): continue  # index.html, which only leads on to the front page
        seen = visit(browser, path)
        assert not seen["faults"], (path.name, seen["faults"])
        assert seen["rendered"] >= seen["written"], (path.name, "mathematics not rendered", seen)
        bad = seen["wrong"] or seen["blank"] or seen["wide"] or seen["cut"] or not seen["title"]
        assert not bad, (path.name, seen)


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_pages_on_a_phone(browser, pages, book, theme):
    "Nothing sticks out of a narrow window; a figure keeps a size at which it can be read, and scrolls."
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
    wide = []
    for path in pages:
        if not body(pages[path]): continue
        page.goto(path.as_uri(), wait_until="load")
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        sticks_out = page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1")
        if sticks_out: wide.append(path.name)
    page.goto((book/"nbs"/"experiments"/"phase_transition.html").as_uri(), wait_until="load")
    widths = page.eval_on_selector_all(".bd-article figure img", "all => all.map(x => x.clientWidth)")
    page.close()
    assert not wide and min(widths) > 500, (wide, widths)


def test_a_figure_is_enlarged_by_mouse_and_by_keyboard(browser, book):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((book/"nbs"/"experiments"/"phase_transition.html").as_uri(), wait_until="load")
    button = page.locator("button.enlarge").first
    before = button.locator("img").bounding_box()["width"]
    for choose in (button.click, lambda: (button.focus(), page.keyboard.press("Enter"))):
        choose()
        assert page.locator("dialog.enlarged img").bounding_box()["width"] > 1.2 * before
        page.keyboard.press("Escape")
        assert not page.locator("dialog.enlarged").is_visible()
    page.evaluate("""async () => {  // opened again before the dialog is told that it was closed
        const button = document.querySelector("button.enlarge");
        button.click();
        document.querySelector("dialog.enlarged").close();
        button.click();
        await new Promise(done => setTimeout(done, 100));
    }""")
    assert page.locator("dialog.enlarged img").is_visible()
    page.close()


@pytest.mark.parametrize("query, first", [
    ("phase transition", "nbs/experiments/phase_transition.html"), ("posterior", None),
    ("susceptibility", "nbs/experiments/susceptibility.html"), ("Bayes gap (c++", None)])
def test_search_works_from_the_file_system(query, first, browser, book):
    "Results with excerpts that show what was asked for, the page of that name first, and no error."
    page, faults = browser.new_page(), []
    page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: faults.append(str(e)))
    page.goto((book/"search.html").as_uri() + f"?q={quote_plus(query)}", wait_until="load")
    page.wait_for_selector("#search-results li p.context", timeout=20_000)
    page.wait_for_function("document.querySelector('.search-summary').textContent")
    items = page.query_selector_all("#search-results li")
    page.wait_for_function(f"document.querySelectorAll('#search-results .context').length >= {len(items)}")
    links = [item.query_selector("a").get_attribute("href") for item in items]
    marks = page.eval_on_selector_all("#search-results mark", "all => all.map(x => x.textContent)")
    page.close()
    assert not faults and len(marks) >= len(links) / 2
    assert {mark.lower() for mark in marks} <= set(re.findall(r"\w+", query.lower()))
    if first: assert urldefrag(links[0])[0] == first


# Accessibility, by axe-core

SOME = ("phase_transition",)  # pages of the first tier


def wrong_by_axe(browser, paths, theme: str, context: dict) -> list[tuple]:
    "The serious and critical faults that axe-core finds on pages in a theme."
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
    found = []
    for path in paths:
        page.goto(path.as_uri(), wait_until="load")
        page.evaluate("window.MathJax?.startup?.promise?.then(() => 0)")
        for fault in axe.run(page, context).response["violations"]:
            if fault["impact"] not in ("serious", "critical"): continue
            found += [(path.stem, fault["id"], node["html"][:200]) for node in fault["nodes"]]
    page.close()
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("which", ["some", pytest.param("all", marks=pytest.mark.slow)])
def test_no_page_has_a_serious_fault_of_accessibility(which, theme, browser, pages):
    "But for code, where every word is an element and takes its time; one page of it stands for all."
    paths = [path for path, page in pages.items() if body(page)]
    if which == "some": paths = [path for path in paths if path.stem in SOME]
    assert not wrong_by_axe(browser, paths, theme, {"exclude": [[".highlight pre"]]})


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_code_has_contrast(theme, browser, book):
    page = book/"nbs"/"engine"/"05_relations.html"
    assert not wrong_by_axe(browser, [page], theme, {"include": [["main"]]})


def test_front_page_numbers_come_from_the_runs(pages, book, root):
    "No result is typed into the front page: its source holds placeholders where the page shows numbers."
    source = (root/"book"/"intro.md").read_text(encoding="utf-8")
    assert "{{" in source and "{{" not in body(pages[book/"intro.html"]).get_text()


# How the book is put together (book/build.py)

def code(source, tags=(), **more):
    return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}, "outputs": [],
            "execution_count": None, **more}


def text(source): return {"cell_type": "markdown", "source": source, "metadata": {}}


def written(path: Path, *cells) -> Path:
    "A notebook of these cells."
    path.write_text(json.dumps({"cells": list(cells)}), encoding="utf-8")
    return path


def test_outputs_depend_on_code_and_results_but_not_on_prose(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "library_hash", lambda: "library")
    (tmp_path/"results").mkdir()
    (tmp_path/"results"/"run.json").write_text("{}", encoding="utf-8")
    page = build.Page("nb", "nb.ipynb", {"show": "results"}, experiment=True)
    def mark(*cells):
        written(tmp_path/"nb.ipynb", *cells)
        return build.fingerprint(page)
    first = mark(text("# a"), code("x = 1"), code("x"))
    assert first == mark(text("# another word"), text("more"), code("#| echo: false\nx = 1"), code("x"))
    assert first != mark(text("# a"), code("x = 2"), code("x")) != mark(code("x"), code("x = 2"))
    (tmp_path/"results"/"curves.csv").write_text("t\n1\n", encoding="utf-8")
    second = mark(text("# a"), code("x = 1"), code("x"))
    assert first != second
    (tmp_path/"other").mkdir()
    (tmp_path/"other"/"run.json").write_text("{}", encoding="utf-8")
    page = build.Page("nb", "nb.ipynb", {"show": "results"}, experiment=True, beside=(tmp_path/"other",))
    assert second != build.fingerprint(page)


def test_a_page_depends_on_the_results_of_its_notebooks_other_experiments(build):
    found = {Path(page.name).name: page for page in build.experiment_pages("smoke")}
    assert found["samplers"].beside == (build.REFERENCE/"samplers_second",)
    assert found["phases"].beside == found["phase_transition_quick"].beside == ()


def test_outputs_are_merged_into_the_notebook_as_it_stands(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    told = {"preset": "reference", "depths": [2]}
    page = build.Page("nb", "nb.ipynb", {"show": "results"}, told, experiment=True)
    written(tmp_path/"nb.ipynb", text("# new words"), code("p = 1", ["parameters"]), code("p"))
    done = written(tmp_path/"done.ipynb", text("# old words"), code("p = 1", ["parameters"]),
                   code("show = 'results'", ["injected-parameters"]),
                   code("p", outputs=[{"text": "1"}], execution_count=3))
    words, parameters, shown, told_ = build.merged(page, done)["cells"]
    assert words["source"] == "# new words"
    assert parameters["outputs"] == [] and shown["outputs"] == [{"text": "1"}]
    assert told_["source"] == 'preset = "reference"\ndepths = [2]'


def test_a_figure_is_shown_as_svg_unless_it_is_heavy(build):
    "At one size of its letters, either way; digits and metadata that nobody sees are left out."
    from PIL import Image
    made = io.BytesIO()
    Image.new("RGBA", (300, 150)).save(made, "PNG")
    png = base64.b64encode(made.getvalue()).decode()
    svg = ('<?xml version="1.0"?>\n<svg width="72.0pt" height="36pt"><metadata>x</metadata>\n'
           '<g id="a">\n<path id="p" d="M 1.23456 0.012345"/></g></svg>')
    def shown(svg): return build.with_one_image({"data": {"image/svg+xml": svg, "image/png": png}})
    light, heavy = shown(svg), shown(svg + " " + "<g/>" * build.SVG_MOST)
    assert light["data"] == {"image/svg+xml": '<svg width="120" height="60"><g><path id="i0" '
                             'd="M1.23 0.012345"/></g></svg>'}
    assert heavy["data"].keys() == {"image/png"} and heavy["metadata"]["image/png"]["width"] == 120
    assert build.with_one_image({"text": "x"}) == {"text": "x"}


def test_a_figure_looks_the_same_when_all_is_said_once(build, browser):
    "Every pixel in Chromium, of lines, markers, letters, hatches, clipped curves and filled ranges."
    from matplotlib.figure import Figure
    ax = Figure(figsize=(5, 3)).subplots()
    for i in range(3):
        ax.errorbar(range(9), [i + k % 3 for k in range(9)], 0.3, fmt="os^"[i] + "--", label=f"$m_{i}$")
        ax.fill_between(range(9), i, i + 0.5, alpha=0.2, hatch="/x."[i])
    ax.set(xlim=(1, 7.5), xlabel="noise level $t$", title="x^2, -1.5e-3")
    ax.legend()
    file = io.BytesIO()
    ax.figure.savefig(file, format="svg")
    svg = file.getvalue().decode()
    page = browser.new_page(viewport={"width": 700, "height": 400})

    def drawn(svg):
        page.set_content(f"<img src='data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}'>")
        page.wait_for_function("document.images[0].complete && document.images[0].naturalWidth > 0")
        return page.screenshot()
    small = build.said_once(svg)
    assert len(small) < 0.9 * len(svg)
    assert drawn(small) == drawn(svg)
    assert drawn(svg.replace("stroke-dasharray", "")) != drawn(svg), "the comparison sees nothing"
    page.close()


def test_answers_are_the_words_of_the_pages(build):
    "Three sentences after the note, decimals and bold kept; the tables of claims alone, under one head."
    said = "A note.\n\n**It is 0.5 $P$.** Then 1.2 more. A third. A fourth."
    head = "| claim | here |\n| --- | --- |"
    def shows(tag, markdown):
        return code("x", [tag]) | {"outputs": [{"data": {"text/markdown": markdown}}]}
    pages = [{"cells": [shows("finding", said), shows("claims", f"{head}\n| {k} | 1 |\n\nWords.")]}
             for k in "ab"]
    assert build.answer(pages[0]) == "**It is 0.5 $P$.** Then 1.2 more. A third."
    assert build.claims([{"cells": []}, *pages]) == f"{head}\n| a | 1 |\n| b | 1 |"


def test_staging_writes_only_what_has_changed(build, tmp_path):
    build.stage(tmp_path, [("a.md", b"a"), ("b/c.md", b"c")])
    before = (tmp_path/"a.md").stat().st_mtime_ns
    build.stage(tmp_path, [("a.md", b"a"), ("d.md", b"d")])
    assert (tmp_path/"a.md").stat().st_mtime_ns == before
    assert sorted(p.name for p in tmp_path.rglob("*.md")) == ["a.md", "d.md"]


def test_what_is_remembered_is_made_again_under_another_key(build, tmp_path):
    made = []
    def make(): return made.append(1) or len(made)
    values = [build.remembered(tmp_path/"x.json", key, make) for key in ("a", "a", "b", "a")]
    assert values == [1, 1, 2, 3]


@pytest.fixture
def site(tmp_path) -> Path:
    "The source of a book of two pages with a figure each, where the first refers to that of the second."
    here = tmp_path/"site"
    (here/"_ext").mkdir(parents=True)
    (here/"references.bib").write_text("", encoding="utf-8")
    (here/"dot.png").write_bytes(DOT)
    (here/"_config.yml").write_text("{only_build_toc_files: true, sphinx: {config: {numfig: true}}}", "utf-8")
    toc = "format: jb-book\nroot: a\nparts: [{caption: x, chapters: [{file: b}]}]\n"
    (here/"_toc.yml").write_text(toc, encoding="utf-8")
    (here/"a.md").write_text("# A\n\nWords, and {numref}`fig-b`.\n", encoding="utf-8")
    (here/"b.md").write_text("# B\n\nMore words.\n\n" + figure("fig-b"), encoding="utf-8")
    return here


def figure(name: str) -> str: return f"```{{figure}} dot.png\n:name: {name}\n\nA dot.\n```\n\n"


DOT = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010800000000"
                    "3a7e9b550000000a49444154789c636000000002000148afa4710000000049454e44ae426082")


def rendered(build, site: Path, to: Path) -> dict[str, str]:
    "The pages of a book without the times of its files."
    build.render(site, to)
    return without_times(to/"_build"/"html")


def without_times(html: Path) -> dict[str, str]:
    "The pages of a book by name; browsers' hints that a file is new, `?v=...`, are left out."
    pages = {str(p.relative_to(html)): p.read_text(encoding="utf-8") for p in html.rglob("*.html")}
    return {name: re.sub(r"\?v=\w+", "", page) for name, page in pages.items()}


def edit(path: Path, old: str, new: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert old in source
    path.write_text(source.replace(old, new), encoding="utf-8")


def test_only_what_has_changed_is_rendered_and_a_warning_fails_again(build, site, tmp_path):
    html = tmp_path/"_build"/"html"
    rendered(build, site, tmp_path)
    time_of_b = (html/"b.html").stat().st_mtime_ns
    edit(site/"a.md", "Words", "Other words of {doc}`nowhere`")
    for k in range(2):
        with pytest.raises(SystemExit, match="warnings"): build.render(site, tmp_path)
        if k: continue
        assert "Other words" in (html/"a.html").read_text(encoding="utf-8")
        assert (html/"b.html").stat().st_mtime_ns == time_of_b


@pytest.mark.slow
def test_leftover_tex_fails_the_build_again(build, site, tmp_path):
    edit(site/"a.md", "Words", "Words of $x")
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"TeX is left in the text of the book:\na.html: .*\$x"):
            build.render(site, tmp_path)


EDITS = [("a.md", "Words", "Other words"), ("b.md", "# B", "# Another title"),
         ("b.md", "More words.\n", "More words.\n\n" + figure("fig-c")),
         ("_toc.yml", "parts: [{caption: x, chapters: [{file: b}]}]", ""),
         ("a.md", "{numref}`fig-b`", "nothing")]


@pytest.mark.slow
def test_a_book_that_is_kept_equals_one_made_from_scratch(build, site, tmp_path):
    "After an edit of prose, of a title, of what has numbers, and of the contents."
    rendered(build, site, tmp_path)
    for k, (name, old, new) in enumerate(EDITS):
        edit(site/name, old, new)
        if name == "_toc.yml": continue  # the page left over would be missed
        kept = rendered(build, site, tmp_path)
        assert kept == rendered(build, site, tmp_path/f"scratch{k}"), EDITS[k]
    assert "b.html" not in kept


@pytest.mark.slow
def test_the_book_after_an_edit_of_prose_equals_one_made_from_scratch(build, book, root, tmp_path):
    "The real one: a page is edited, rendered anew beside the others, and all are compared."
    site = shutil.copytree(book.parent.parent/"_stage"/"site", tmp_path/"site")
    rendered(build, site, tmp_path)
    with (site/"notation.md").open("a", encoding="utf-8") as file: file.write("\nA last word.\n")
    kept, scratch = rendered(build, site, tmp_path), rendered(build, site, tmp_path/"scratch")
    assert kept.keys() == scratch.keys()
    assert [name for name in kept if kept[name] != scratch[name]] == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_ended_leaves_no_process(number, root, tmp_path):
    command = [sys.executable, "book/build.py", "--preset", "smoke", "--to", str(tmp_path)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background ignore it
    with subprocess.Popen(command, cwd=root, text=True, preexec_fn=heard, **piped) as build:
        assert any(line.startswith("started") for line in build.stdout)
        time.sleep(5)  # a kernel has started
        started = psutil.Process(build.pid).children(recursive=True)
        build.send_signal(number)
        assert build.wait(60) != 0
        _, left = psutil.wait_procs(started, 20)
    assert len(started) > 2 and not left
