"""The book as one PDF: `make pdf`, or after a build

    python book/pdf.py                        # book/_build/html becomes book/_build/rhmdiff.pdf
    python book/pdf.py --html HTML --to FILE

The rendered pages are joined into one document, in the order of the contents, and Chromium prints it. So the
numbers of chapters and figures, the citations and the mathematics are those of the pages. On which sheet a
chapter begins is known once it is printed: it is printed again with these numbers in contents and index.
"""
import argparse
import html
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
WIDTH = 643  # of the text in CSS pixels: A4 without the margins that pdf.css gives it
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_BROWSER = ("the PDF is printed by Chromium, which is not here: apt-get install chromium "
              "fonts-dejavu-core fonts-liberation, or: playwright install --with-deps chromium")

# Elements of a page that are its controls, or what Sphinx keeps for itself.
CONTROLS = "a.headerlink, script, style[scoped], .toctree-wrapper, .genindex-jumpbox, button, dialog, #play"
# Folded code that a print leaves out, by the line behind which it is folded: what it makes stands below it.
LEFT_OUT = {"Imports", "The code of this figure", "The code of this table"}
# A piece of code as Pygments marks it, and the marks that pdf.css colours. Others become plain text: each
# would be an entry in the structure of the PDF, which would be twice as large.
SPAN = re.compile(r'<span class="(\w{1,3})">([^<]*)</span>')
COLOURED = {"c1", "k", "kn", "ow", "kc", "s1", "s2", "sd", "sa", "nf", "nc", "nd"}


@dataclass
class Chapter:
    "A rendered page: its place in the contents, the caption of its part, and the tree of what it says."
    name: str
    part: str
    article: object

    @property
    def key(self) -> str:
        "Its anchor in the print."
        return re.sub(r"/\d*_?", "-", self.name)

    @property
    def title(self) -> str:
        "Its heading with its number, as HTML."
        return self.article.find("h1").decode_contents()


def chapters(folder: Path) -> list[Chapter]:
    "The rendered pages in a folder, in the order of the contents, and the index."
    import yaml
    from bs4 import BeautifulSoup
    toc = yaml.safe_load((BOOK/"_toc.yml").read_text(encoding="utf-8"))
    listed = [(part["caption"], x["file"]) for part in toc["parts"] for x in part["chapters"]]
    found = []
    for part, name in [("", toc["root"]), *listed, ("", "genindex")]:
        file = folder/f"{name}.html"
        if not file.exists(): raise SystemExit(f"{file} is not there: make book renders the pages")
        page = BeautifulSoup(SPAN.sub(plain, file.read_text(encoding="utf-8")), "html.parser")
        found.append(Chapter(name, part, page.find("article")))
    return found


def plain(piece: re.Match) -> str:
    "A piece of code without a mark that has no colour."
    return piece[0] if piece[1] in COLOURED else piece[2]


def unfold(fold, experiment: bool) -> None:
    """Show what a page folds, but for imports and for code that draws.

    Of the code of an experiment a print shows the parameters; a line tells of the rest. Other folds, as of
    long tables, keep their lines."""
    summary = fold.find("summary")
    line = (summary.find(class_="collapsed") or summary).get_text(" ", strip=True)
    code = fold.find(class_="cell_input")
    if line in LEFT_OUT: return fold.decompose()
    fold.name, fold["class"] = "div", ["unfolded"]
    if code is None: summary.name, summary["class"] = "p", ["left-out"]
    elif experiment and line != "Parameters":
        fold["class"] = ["left-out"]
        fold.string = f"{line}: {len(code.get_text().strip().splitlines())} lines, in the notebook"
    else: summary.decompose()


def strip(chapter: Chapter, folder: Path) -> None:
    "Bring a page to what a print shows of it; its pictures by their files."
    article, experiment = chapter.article, "/experiments/" in chapter.name
    for element in article.select(CONTROLS): element.decompose()
    for element in article.find_all("noscript"): element.unwrap()
    for fold in article.find_all("details"): unfold(fold, experiment)
    for image in article.find_all("img"):
        image["src"] = (folder/chapter.name).parent.joinpath(unquote(image["src"])).resolve().as_uri()


def join_links(book: list[Chapter]) -> None:
    "Turn links between pages into links within the print, whose anchors are unique in it."
    keys = {chapter.name: chapter.key for chapter in book}
    targets = set()
    for chapter in book:
        for element in chapter.article.find_all("a", href=True):
            address, anchor = urldefrag(element["href"])
            if urlsplit(address).scheme: continue  # of another site
            name = unquote(urljoin(f"{chapter.name}.html", address)).removesuffix(".html")
            if not address: name = chapter.name
            if name not in keys:  # a file that lies beside the pages
                element.unwrap()
                continue
            target = f"{keys[name]}.{unquote(anchor)}" if anchor else keys[name]
            element["href"] = "#" + target
            targets.add(target)
            if chapter.name == "genindex": element.append(sheet_of(target))
    for chapter in book:
        for element in chapter.article.find_all(id=True):
            own = f"{chapter.key}.{element['id']}"
            if own in targets: element["id"] = own


def lower_headings(chapter: Chapter) -> None:
    "Put the headings of a chapter one level below that of its part."
    for level in (5, 4, 3, 2, 1):
        for heading in chapter.article.find_all(f"h{level}"): heading.name = f"h{level + 1}"


def sheet_of(target: str):
    "The place that is filled with the number of the sheet on which an anchor stands."
    from bs4 import BeautifulSoup
    return BeautifulSoup(f'<span class="sheet" data-of="{html.escape(target)}"></span>', "html.parser").span


def line_of_contents(key: str, title: str) -> str:
    "A line of the contents."
    return f'<li><a href="#{key}"><span>{title}</span>{sheet_of(key)}</a></li>'


def cover() -> str:
    "The first sheet: what the book is, and what its print leaves out."
    from rhmdiff import __version__
    return f"""<section class="cover"><p class="name">rhmdiff</p>
<p class="line">Exact and learned diffusion on data whose hierarchy is known</p>
<p>Version {__version__}</p>
<p class="note">This is the whole book in print. Links lead to places in it. Definitions of the library,
parameters of experiments and solutions are printed, also where a page folds them. The code of experiments and
figures, and imports, are left out: they stand in the notebook that is named below the title of a chapter. The
page to play with is printed without what one plays with.</p></section>"""


def number_parts(book: list[Chapter]) -> dict[str, str]:
    "The title of each part, by its caption."
    parts = dict.fromkeys(chapter.part for chapter in book if chapter.part)
    numerals = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
    return {part: f"Part {number}. {part}" for number, part in zip(numerals, parts)}


def contents(book: list[Chapter]) -> str:
    "The contents of the print."
    titles = number_parts(book)
    lines = []
    for part, own in itertools.groupby(book, lambda chapter: chapter.part):
        if part: lines.append(f'<li class="part">{titles[part]}</li>')
        lines += [line_of_contents(chapter.key, chapter.title) for chapter in own]
    return f'<nav><h1>Contents</h1><ul class="contents">{"".join(lines)}</ul></nav>'


def first_of_part(title: str, own: list[Chapter]) -> str:
    "The sheet on which a part begins, which lists its chapters."
    lines = "".join(line_of_contents(chapter.key, chapter.title) for chapter in own)
    return f'<section class="part"><h1>{title}</h1><ul class="contents">{lines}</ul></section>'


def body(book: list[Chapter]) -> str:
    "Parts and chapters."
    titles = number_parts(book)
    sections = []
    for part, chapters_of in itertools.groupby(book, lambda chapter: chapter.part):
        own = list(chapters_of)
        if part: sections.append(first_of_part(titles[part], own))
        for chapter in own:
            if part: lower_headings(chapter)
            sections.append(f'<section class="chapter" id="{chapter.key}" style="page: {chapter.key}">'
                            f"{chapter.article.decode_contents()}</section>")
    return "".join(sections)


def document(book: list[Chapter], folder: Path) -> str:
    "The whole print as one page of HTML."
    style = (BOOK/"pdf.css").read_text(encoding="utf-8") + "\n".join(map(running_title, book))
    mathjax = (folder/"_static"/"tex-svg-full.js").as_uri()
    options = {"options": {"processHtmlClass": "math", "ignoreHtmlClass": "chapter", "enableMenu": False}}
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>rhmdiff</title><style>{style}</style>
<script>window.MathJax = {json.dumps(options)}</script><script src="{mathjax}"></script></head>
<body>{cover()}{contents(book)}{body(book)}</body></html>"""


def running_title(chapter: Chapter) -> str:
    "The rule of CSS that puts the title of a chapter at the head of its sheets."
    title = " ".join(chapter.article.find("h1").get_text().split())
    return f"@page {chapter.key} {{ @top-left {{ content: {json.dumps(title, ensure_ascii=False)}; }} }}"


def name_notebook(chapter: Chapter) -> None:
    "Say below the title of a chapter which notebook it is."
    from bs4 import BeautifulSoup
    if not chapter.name.startswith("nbs/"): return
    said = f'<p class="notebook">Notebook <code>{html.escape(chapter.name)}.ipynb</code></p>'
    chapter.article.find("h1").insert_after(BeautifulSoup(said, "html.parser"))


@contextmanager
def browser() -> Iterator:
    "Chromium: that of the system, or that which playwright has installed."
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise SystemExit("the PDF is printed through playwright, which is not here: make env") from None
    here = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as p:
        try:
            running = p.chromium.launch(executable_path=here, args=["--no-sandbox"])
        except Error as why:
            raise SystemExit(f"{here} does not start: {why}" if here else NO_BROWSER) from None
        yield running
        running.close()


# Once the mathematics is set: its formulas are named by their symbols, tables that are too wide for a sheet
# are made smaller, and what still sticks out is told.
FIT = """() => MathJax.startup.promise.then(() => {
    for (const e of document.querySelectorAll('mjx-container')) {
        const said = e.querySelector('mjx-assistive-mml');
        const drawn = e.querySelector('svg');
        drawn.removeAttribute('aria-hidden');
        drawn.setAttribute('aria-label', said.textContent.replace(/\\s+/g, ' ').trim());
        said.remove();
    }
    const room = e => e.parentElement.closest('section, .cell_output, dd, li').clientWidth;
    for (const e of document.querySelectorAll('.chapter td, .chapter th'))
        if (e.textContent.length < 24) e.style.whiteSpace = 'nowrap';
    for (const e of document.querySelectorAll('.chapter table')) {
        const ratio = room(e) / e.scrollWidth;
        if (ratio < 1) e.style.zoom = Math.max(ratio * .99, .5);
    }
    const wide = e => e.getBoundingClientRect().right > innerWidth + 1
        || (e.tagName === 'PRE' && e.scrollWidth > e.clientWidth + 1);
    return [...document.querySelectorAll('.chapter *:not(pre *, mjx-container *)')].filter(wide).map(
        e => `${e.closest('.chapter').id}: ${e.textContent.slice(0, 60)}`);
})"""
NUMBER = """numbers => document.querySelectorAll('[data-of]').forEach(
    e => { e.textContent = numbers[e.dataset.of] ?? '' })"""


def sheets_of(file: Path) -> dict[str, int]:
    "The number of the sheet on which each anchor of a PDF stands."
    from pypdf import PdfReader
    reader = PdfReader(file)
    return {name.lstrip("/"): reader.get_destination_page_number(place) + 1
            for name, place in reader.named_destinations.items()}


def print_document(text: str, folder: Path) -> Path:
    "Print a document until the numbers of its sheets are those that it tells; the PDF in a folder."
    source, out = folder/"book.html", folder/"book.pdf"
    source.write_text(text, encoding="utf-8")
    with browser() as running:
        page = running.new_page(viewport={"width": WIDTH, "height": 970})
        page.set_default_timeout(600_000)
        page.emulate_media(media="print")
        page.goto(source.as_uri(), wait_until="load")
        if wide := page.evaluate(FIT): raise SystemExit("wider than a sheet:\n" + "\n".join(wide))
        told, numbers = None, {}
        while told != numbers:
            told = numbers
            page.evaluate(NUMBER, told)
            page.pdf(path=out, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
            numbers = sheets_of(out)
    return out


def make_pdf(folder: Path, to: Path) -> Path:
    "The PDF of the rendered pages in a folder, written whole or not at all."
    book = chapters(folder.resolve())
    for chapter in book:
        strip(chapter, folder.resolve())
        name_notebook(chapter)
    join_links(book)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as work:
        os.replace(print_document(document(book, folder.resolve()), Path(work)), to)
    return to


def main() -> None:
    built = BOOK/"_build"
    parser = argparse.ArgumentParser(description="The rendered book as one PDF.")
    parser.add_argument("--html", type=Path, default=built/"html", help="rendered pages (book/_build/html)")
    parser.add_argument("--to", type=Path, default=built/"rhmdiff.pdf", help="(book/_build/rhmdiff.pdf)")
    args = parser.parse_args()
    print(make_pdf(args.html, args.to))


if __name__ == "__main__": main()
