// The search page: first the page that is named as one asks; below each result an excerpt.
// The texts lie in searchtexts/, a script for each page, since a page opened as a file can read no other file.
(() => {
  const results = document.getElementById("search-results");
  if (!results || typeof Scorer === "undefined") return;
  const query = (new URLSearchParams(location.search).get("q") || "").toLowerCase().trim();
  const words = query.split(/[^\p{Letter}\p{Number}]+/u).filter(word => word.length > 1);
  const around = 110; // characters on each side

  Scorer.score = ([name, title, anchor, , score]) => {
    const last = name.split("/").pop();
    if (words.length && last === words.join("_")) return score + (anchor ? 50 : 200);
    return score + (name === "changelog" ? -50 : 0);
  };

  const texts = {}; // name of a page -> its sections, a promise
  const loaded = {};
  window.searchText = (name, sections) => loaded[name](sections);

  function load(name) {
    texts[name] ??= new Promise(resolve => {
      loaded[name] = resolve;
      const script = document.createElement("script");
      script.src = `${document.documentElement.dataset.content_root}searchtexts/${name}.js`;
      document.body.append(script);
    });
    return texts[name];
  }

  // Where the query stands, else its first word, else the beginning.
  function place(text) {
    const lower = text.toLowerCase();
    return [query, ...words].map(x => lower.indexOf(x)).find(k => k >= 0) ?? 0;
  }

  function excerpt(text) {
    const at = place(text);
    let from = Math.max(0, at - around);
    if (from) from = text.indexOf(" ", from) + 1 || from;
    const said = text.slice(from, at + 2 * around);
    const line = document.createElement("p");
    line.className = "context";
    const pattern = words.length ? new RegExp(`(${words.join("|")})`, "iu") : /(?!)/;
    line.append(from ? "… " : "", ...said.split(pattern).map((part, k) => {
      if (k % 2 === 0) return part;
      const mark = document.createElement("mark");
      mark.append(part);
      return mark;
    }), at + 2 * around < text.length ? " …" : "");
    return line;
  }

  const seen = new Set();
  function explain(item) {
    const link = item.querySelector("a[href]");
    if (!link) return;
    const [address, anchor] = link.getAttribute("href").split("#");
    if (seen.has(address) && anchor?.startsWith("index-")) return item.remove(); // a page by its word in the index
    seen.add(address);
    load(address.replace(/\.html$/, "")).then(sections => {
      const own = sections.filter(([ids]) => !anchor || ids.split(" ").includes(anchor)).map(([, text]) => text);
      item.append(excerpt((own.length ? own : sections.map(([, text]) => text)).join(" ")));
    });
  }

  new MutationObserver(changes => {
    for (const node of changes.flatMap(change => [...change.addedNodes])) {
      if (node.nodeName === "LI") explain(node);
    }
  }).observe(results, {childList: true, subtree: true});
})();
