"""Frames a second of the page to play with, while its noise slider is moved.

    python benchmarks/play.py               # half a minute; needs Chromium and playwright, as the tests do
    python benchmarks/play.py --chromium /usr/bin/chromium --frames 600

The slider is moved once a frame, back and forth, on the bare page with the script alone. A screen that shows
60 frames a second leaves 16.7 ms for each; the share of it that the script takes is printed beside.
"""
import argparse
import shutil
import tempfile
from pathlib import Path

import pandas as pd
from playwright.sync_api import sync_playwright

SCRIPT = Path(__file__).resolve().parent.parent/"book"/"assets"/"play.js"
MOVE = """async frames => {
    const slider = document.getElementById("play-t");
    const spent = [], lasted = [];
    let last = performance.now();
    for (let k = 0; k < frames; k++) {
        const before = performance.now();
        slider.value = 0.5 + 0.5 * Math.sin(k / 40);
        slider.dispatchEvent(new Event("input", {bubbles: true}));
        spent.push(performance.now() - before);
        await new Promise(requestAnimationFrame);
        lasted.push(performance.now() - last);
        last = performance.now();
    }
    return {spent, lasted};
}"""


def measured(page, frames: int) -> dict:
    "What the frames took, in ms."
    times = page.evaluate(MOVE, frames)
    spent, lasted = pd.Series(times["spent"]), pd.Series(times["lasted"])
    return {"frames a second": 1000 / lasted.mean(), "frame, median (ms)": lasted.median(),
            "frame, 95 % (ms)": lasted.quantile(0.95), "script, median (ms)": spent.median(),
            "script over 16.7 ms": spent.median() * 60 / 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="its executable")
    parser.add_argument("--frames", type=int, default=300)
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        file = Path(folder)/"play.html"
        body = f'<div id="play"></div><script src="{SCRIPT.as_uri()}"></script>'
        file.write_text(f'<!doctype html><meta charset="utf-8"><title>play</title>{body}', encoding="utf-8")
        browser = p.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        for noise in ("belief", "masking"):
            for L in (4, 5, 6):
                page = browser.new_page(viewport={"width": 1440, "height": 1000})
                page.goto(f"{file.as_uri()}#noise={noise}&v=16&m=4&s=2&L={L}&grammar=1&sentence=1&t=0.2")
                page.wait_for_timeout(2000)
                rows[noise, L] = measured(page, options.frames)
                page.close()
        browser.close()
    print(pd.DataFrame(rows).T.rename_axis(["noise", "L"]).round(2).to_string())


if __name__ == "__main__":
    main()
