"""The book as one PDF (book/pdf.py): whole, its links leading somewhere, its lines within the sheet."""
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pypdf = pytest.importorskip("pypdf")
pdfium = pytest.importorskip("pypdfium2")


@pytest.fixture(scope="module")
def printed(pdf, book, chromium, tmp_path_factory) -> Path:
    "The PDF of the book: that of RHMDIFF_PDF, else one printed here."
    if given := os.environ.get("RHMDIFF_PDF"): return Path(given)
    return pdf.make_pdf(book, tmp_path_factory.mktemp("pdf")/"book.pdf")


@pytest.fixture(scope="module")
def texts(printed) -> list[str]:
    "The text of every sheet."
    return [sheet.get_textpage().get_text_bounded() for sheet in pdfium.PdfDocument(printed)]


@pytest.fixture(scope="module")
def chapters(pdf, book) -> list:
    "The chapters as they go to print."
    found = pdf.chapters(book)
    for chapter in found: pdf.strip(chapter, book)
    return found


def code_of(chapters: list) -> list[str]:
    return [x.get_text() for chapter in chapters for x in chapter.article.select("pre, code")]


def close(text: str) -> str:
    "A text without white space and without hyphens, which are lost at the end of a line."
    return re.sub(r"[\s\x02\ufffe\xad-]", "", text)


@pytest.mark.slow
def test_the_whole_book_is_printed_and_told_by_its_contents(pdf, chapters, printed, texts):
    sheets = pdf.sheets_of(printed)
    begins = [sheets[chapter.key] for chapter in chapters]
    assert len(texts) > 100 and begins == sorted(begins) and len(set(begins)) == len(chapters)
    told = close("".join(texts[1:begins[0] - 1]))
    for chapter, sheet in zip(chapters, begins):
        title = close(chapter.article.find("h1").get_text())
        assert title in close(texts[sheet - 1]) and f"{title}{sheet}" in told
    numbered = [str(n) in text.split() for n, text in enumerate(texts, 1)]
    assert all(numbered[1:]), numbered.index(False, 1) + 1


@pytest.mark.slow
def test_its_outline_has_parts_chapters_and_sections(chapters, printed):
    def levels(items, level=0):
        for item in items:
            if isinstance(item, list): yield from levels(item, level + 1)
            else: yield level, item.title
    found = list(levels(pypdf.PdfReader(printed).outline))
    parts = [title for level, title in found if level == 0 and title.startswith("Part ")]
    assert len(parts) == len({chapter.part for chapter in chapters} - {""})
    numbers = Counter(level for level, _ in found)
    assert numbers[1] > 50 and numbers[2] > 200


@pytest.mark.slow
def test_its_links_lead_somewhere(printed):
    reader = pypdf.PdfReader(printed)
    known, inside, lost = set(reader.named_destinations), 0, []
    for sheet in reader.pages:
        for note in sheet.get("/Annots", []):
            note = note.get_object()
            action = note.get("/A", {})
            if "/URI" in action:
                if not action["/URI"].startswith("http"): lost.append(action["/URI"])
                continue
            inside += 1
            target = note.get("/Dest", action.get("/D"))
            if isinstance(target, str) and target not in known: lost.append(target)
    assert not lost and inside > 1000


@pytest.mark.slow
def test_no_tex_is_left(chapters, texts):
    "What looks like it stands in code."
    tex = re.compile(r"\\(?!x[0-9a-f]{2}|u[0-9a-f]{4})[a-zA-Z]{2,}|\\[(\[]|\$\$")
    shown, code = (Counter(tex.findall(close("".join(x)))) for x in (texts, code_of(chapters)))
    assert not shown - code


@pytest.mark.slow
def test_no_line_of_code_is_cut(chapters, texts):
    "Lines of code and of output stand in the text of the sheets; a few go on overleaf, beside a drawing."
    shown = close("".join(re.sub(r"\A.*\n\d+\s*\n", "", text) for text in texts))
    lines = {close(line) for code in code_of(chapters) for line in code.splitlines()}
    lost = [line for line in lines if line.isascii() and line not in shown]
    assert len(lines) > 5000 and len(lost) < 4, lost


@pytest.mark.slow
def test_nothing_stands_in_the_margins(printed):
    for number, sheet in enumerate(pdfium.PdfDocument(printed), 1):
        text, width = sheet.get_textpage(), sheet.get_width()
        for k in range(text.count_rects()):
            left, _, right, _ = text.get_rect(k)
            assert left > 50 and right < width - 50, number


def test_without_a_browser_one_line_says_what_to_install(pdf, small, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path/"none"))
    with pytest.raises(SystemExit) as said: pdf.make_pdf(small, tmp_path/"out.pdf")
    assert "apt-get install chromium" in str(said.value) and "\n" not in str(said.value)
    assert not (tmp_path/"out.pdf").exists()


def test_without_pages_one_line_says_what_makes_them(pdf, tmp_path):
    with pytest.raises(SystemExit, match="intro.html is not there: make book"):
        pdf.make_pdf(tmp_path, tmp_path/"a.pdf")


@pytest.fixture
def small(tmp_path, pdf, monkeypatch) -> Path:
    "The pages of a book of two chapters."
    pages = tmp_path/"html"
    (pages/"_static").mkdir(parents=True)
    shutil.copy(pdf.BOOK/"assets"/"tex-svg-full.js", pages/"_static")
    fold = "<details><summary>{}</summary><div class='cell_input'><pre>{}</pre></div></details>"
    folded = fold.format("Imports", "i") + fold.format("The definition of f", "def f(): " + "x" * 200)
    says = {"intro": '<h1 id="a">A</h1><p><a href="b.html#there">on</a> <a href="lost.txt">file</a></p>',
            "b": f'<h1>B</h1><h2 id="there">There</h2><span class="math">\\(x^2\\)</span>{folded}',
            "genindex": '<h1>Index</h1><a href="b.html#there">there</a>'}
    for name, text in says.items():
        (pages/f"{name}.html").write_text(f"<article>{text}</article>", encoding="utf-8")
    shutil.copy(pdf.BOOK/"pdf.css", tmp_path)
    monkeypatch.setattr(pdf, "BOOK", tmp_path)
    toc = "root: intro\nparts: [{caption: P, chapters: [{file: b}]}]"
    (tmp_path/"_toc.yml").write_text(toc, encoding="utf-8")
    return pages


def test_a_small_book(pdf, small, chromium, tmp_path):
    "Folded definitions are shown, imports are not; a long line wraps; the index has the number of the sheet."
    out = pdf.make_pdf(small, tmp_path/"out.pdf")
    texts = [close(sheet.get_textpage().get_text_bounded()) for sheet in pdfium.PdfDocument(out)]
    assert pdf.sheets_of(out) == {"intro": 3, "b": 5, "b.there": 5, "genindex": 6}
    assert "A3PartI.PB5Index6" in texts[1] and "onfile" in texts[2] and "B5" in texts[3]
    assert "there5" in texts[5]
    assert "deff():" + "x" * 200 in texts[4] and "Imports" not in texts[4] and "\\(" not in texts[4]


def test_it_is_written_whole_or_not_at_all(pdf, small, tmp_path, monkeypatch):
    out = tmp_path/"out.pdf"
    out.write_bytes(b"before")
    def fails(text, folder):
        (folder/"book.pdf").write_bytes(b"part")
        raise KeyboardInterrupt
    monkeypatch.setattr(pdf, "print_document", fails)
    with pytest.raises(KeyboardInterrupt): pdf.make_pdf(small, out)
    assert out.read_bytes() == b"before" and not list(tmp_path.glob("tmp*"))
