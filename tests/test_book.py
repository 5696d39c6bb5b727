"""The built book: complete, its links whole; in a browser no error, no network, mathematics and figures."""
import os
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

CHROMIUM = Path("/usr/bin/chromium")
FRAME = {"genindex", "search"}  # pages that Sphinx adds


@pytest.fixture(scope="module")
def pages(book) -> dict[Path, BeautifulSoup]:
    "Every page of the book, parsed."
    paths = [path for path in sorted(book.rglob("*.html")) if "_static" not in path.parts]
    found = {path: BeautifulSoup(path.read_text(), "html.parser") for path in paths}
    assert found, f"no pages in {book}"
    return found


def body(page: BeautifulSoup): return page.find("article")


def test_every_page_of_the_contents_is_there(pages, book, root):
    toc = yaml.safe_load((root/"book"/"_toc.yml").read_text())
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


def test_experiments_show_what_ran(pages, book):
    experiments = [p for p in pages if p.parent.name == "experiments"]
    assert len(experiments) >= 2
    for path in experiments:
        images = [e for e in body(pages[path]).find_all("img") if e["src"].endswith(".png")]
        captioned = images and all(e.find_parent("figure") for e in images)
        assert captioned, f"{path.name}: figures without a caption"
        preset = "quick" if "RHMDIFF_BOOK" in os.environ else "smoke"
        shown = re.search(r'^preset.*?= "(\w+)"', body(pages[path]).get_text(), re.M)
        assert shown and shown[1] == preset, f"{path.name}: the parameters that ran are not shown"
        folder = re.search(r'^output.*?= "(.+?)"', body(pages[path]).get_text(), re.M)
        assert folder and folder[1].startswith("runs/"), f"{path.name}: not the folder that a reader gets"


def test_every_entry_of_the_bibliography_is_listed_and_every_citation_known(pages, book, root):
    bibliography = (root/"book"/"references.bib").read_text().splitlines()
    keys = [line.split("{")[1].rstrip(",") for line in bibliography if line.startswith("@")]
    shown = ".citation, .footnote, dl.citation > dt, [role=doc-biblioentry]"
    entries = body(pages[book/"references.html"]).select(shown)
    assert len(keys) == len(set(keys)) == len(entries)


@pytest.fixture(scope="module")
def browser():
    "Headless Chromium; where there is none the test skips, or fails if RHMDIFF_REQUIRE_BROWSER is set."
    if not CHROMIUM.exists():
        reason = f"no {CHROMIUM}: on Debian, apt-get install chromium fonts-dejavu-core fonts-liberation"
        if os.environ.get("RHMDIFF_REQUIRE_BROWSER"): pytest.fail(reason)
        pytest.skip(reason)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield running
        running.close()


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


def test_search_works_from_the_file_system(browser, book):
    page = browser.new_page()
    page.goto((book/"search.html").as_uri() + "?q=posterior", wait_until="load")
    page.wait_for_selector("#search-results li", timeout=20_000)
    page.close()


def test_front_page_numbers_come_from_the_runs(pages, book, root):
    "No result is typed into the front page: its source holds placeholders where the page shows numbers."
    source = (root/"book"/"intro.md").read_text()
    assert "{{" in source and "{{" not in body(pages[book/"intro.html"]).get_text()
