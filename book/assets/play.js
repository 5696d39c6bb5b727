// Lose the class yourself: grammars, noise and the exact posterior, in the browser.
"use strict";

// All that is computed. It needs no page, so a worker runs the same text.
function rhmModel() {
  // Uniform numbers in [0, 1) from an integer seed: mulberry32 of Tommy Ettinger, public domain.
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let x = Math.imul(state ^ (state >>> 15), state | 1);
      x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
      return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  function integer(random, n) { return Math.floor(random() * n); }

  // `count` different integers below n: the first places of a shuffle, of which only what moved is kept.
  function different(random, n, count) {
    const moved = new Map();
    return Array.from({length: count}, (_, i) => {
      const j = i + integer(random, n - i);
      const drawn = moved.get(j) ?? j;
      moved.set(j, moved.get(i) ?? i);
      return drawn;
    });
  }

  // A string of s symbols below v, from its number.
  function string(number, v, s) {
    return Array.from({length: s}, (_, j) => Math.floor(number / v ** (s - 1 - j)) % v);
  }

  // A grammar: its alphabets' sizes, root first, the productions of each level, and the root's probabilities.
  // Production p of a level rewrites symbol parent[p] as children[arity p ...], with probability weight[p].
  // It is made of rules[l][a][k], production k of symbol a of level l, and of weights[l][a][k].
  function grammarOf({vocab, rules, weights, prior}) {
    const levels = rules.map((level, l) => {
      const all = level.flatMap((own, a) =>
        own.map((children, k) => ({a, children, weight: weights[l][a][k]})));
      const used = all.filter(p => p.weight > 0);
      return {arity: used[0].children.length, parent: Uint16Array.from(used, p => p.a),
              children: Uint16Array.from(used.flatMap(p => p.children)),
              weight: Float64Array.from(used, p => p.weight)};
    });
    return {vocab, levels, prior};
  }

  // A Random Hierarchy Model: at each level m v different strings are dealt to v symbols.
  function randomGrammar(v, m, s, L, seed) {
    const random = generator(seed);
    const symbols = Array.from({length: v}, (_, a) => a);
    const rules = Array.from({length: L}, () => {
      const numbers = different(random, v ** s, m * v);
      return symbols.map(a => numbers.slice(a * m, (a + 1) * m).map(x => string(x, v, s)));
    });
    const weights = rules.map(level => level.map(own => own.map(() => 1 / m)));
    return grammarOf({vocab: Array(L + 1).fill(v), rules, weights, prior: symbols.map(() => 1 / v)});
  }

  // The places of the productions of a symbol.
  function productionsOf(level, a) {
    return Array.from(level.parent.keys()).filter(p => level.parent[p] === a);
  }

  function childrenOf(level, p) {
    return Array.from(level.children.subarray(p * level.arity, (p + 1) * level.arity));
  }

  function draw(random, probabilities) {
    let left = random();
    const chosen = probabilities.findIndex(p => (left -= p) < 0);
    return chosen < 0 ? probabilities.length - 1 : chosen;
  }

  // A derivation: the symbols of every level, the root's first.
  function sample(grammar, random) {
    const derivation = [[draw(random, grammar.prior)]];
    grammar.levels.forEach((level, l) => derivation.push(derivation[l].flatMap(a => {
      const own = productionsOf(level, a);
      return childrenOf(level, own[draw(random, own.map(p => level.weight[p]))]);
    })));
    return derivation;
  }

  // What a leaf keeps at every noise level: a number u, below t where the noise has reached it, and the
  // symbol that uniform noise puts in its place. So more noise only takes away.
  function fate(leaves, v, random) {
    return leaves.map(() => ({u: random(), symbol: integer(random, v)}));
  }

  // What is seen of a leaf: a symbol, or null of a mask.
  function seen(noise, leaf, fate, t, masked) {
    if (masked || (noise === "masking" && fate.u < t)) return null;
    return noise === "uniform" && fate.u < t ? fate.symbol : leaf;
  }

  // q(seen | leaf = a) for every symbol a.
  function evidence(noise, symbol, v, t) {
    if (symbol === null) return new Float64Array(v).fill(1);
    const spread = noise === "masking" ? 0 : t / v;
    const out = new Float64Array(v).fill(spread);
    out[symbol] += noise === "masking" ? 1 : 1 - t;
    return out;
  }

  // Divide by the sum, which is returned.
  function normalise(message) {
    let total = 0;
    for (const x of message) total += x;
    if (total > 0) for (let a = 0; a < message.length; a++) message[a] /= total;
    return total;
  }

  // The pass up: a message for every node, which sums to 1, and log Z of what lies below the root.
  function passUp(grammar, evidence) {
    const up = [evidence.map(e => Float64Array.from(e))];
    let logZ = 0;
    for (const message of up[0]) logZ += Math.log(normalise(message));
    for (let l = grammar.levels.length - 1; l >= 0; l--) {
      const {arity, parent, children, weight} = grammar.levels[l];
      const below = up[0];
      const above = [];
      for (let first = 0; first < below.length; first += arity) {
        const message = new Float64Array(grammar.vocab[l]);
        for (let p = 0; p < parent.length; p++) {
          let product = weight[p];
          for (let j = 0; j < arity; j++) product *= below[first + j][children[p * arity + j]];
          message[parent[p]] += product;
        }
        logZ += Math.log(normalise(message));
        above.push(message);
      }
      up.unshift(above);
    }
    return {up, logZ};
  }

  // The posterior of the root, from its message.
  function classPosterior(grammar, message) {
    const out = message.map((x, a) => x * grammar.prior[a]);
    return {posterior: out, total: normalise(out)};
  }

  // The messages from above to the children of one node, of which `below` are the messages from below.
  function share(level, message, below, size) {
    const {arity, parent, children, weight} = level;
    const out = below.map(() => new Float64Array(size));
    for (let p = 0; p < parent.length; p++) {
      for (let j = 0; j < arity; j++) {
        let product = message[parent[p]] * weight[p];
        for (let other = 0; other < arity; other++) {
          if (other !== j) product *= below[other][children[p * arity + other]];
        }
        out[j][children[p * arity + j]] += product;
      }
    }
    out.forEach(normalise);
    return out;
  }

  // Both passes: messages up and down, the posteriors levels[l][i][a], and log Z in nats.
  function posterior(grammar, evidence) {
    const {up, logZ} = passUp(grammar, evidence);
    const down = [[Float64Array.from(grammar.prior)]];
    grammar.levels.forEach((level, l) => down.push(down[l].flatMap((message, i) =>
      share(level, message, up[l + 1].slice(i * level.arity, (i + 1) * level.arity), grammar.vocab[l + 1]))));
    const levels = up.map((messages, l) => messages.map((message, i) => {
      const out = message.map((x, a) => x * down[l][i][a]);
      normalise(out);
      return out;
    }));
    return {up, down, levels, logZ: logZ + Math.log(classPosterior(grammar, up[0][0]).total)};
  }

  // The mean field of belief noise, Sclocchi, Favero and Wyart 2025: the map F, its phase, its threshold.
  function meanField(v, m, s) {
    const q = (m - 1) / (v ** s - 1), r = (m * v - 1) / (v ** s - 1);
    const map = p => (p ** s + q * (1 - p ** s)) / (p ** s + r * (1 - p ** s));
    const atOne = s * m * (v - 1) / (v ** s - 1);
    const atChance = s * v ** (s - 1) * (v - 1) / (m * (v ** s - 1));
    const phase = atOne >= 1 ? "fragile" : atChance > 1 ? "robust" : "critical";
    let fixed = NaN;
    if (phase === "critical") {
      let low = 1 / v, high = 1;
      for (let k = 0; k < 60; k++) {
        fixed = (low + high) / 2;
        if (map(fixed) > fixed) high = fixed; else low = fixed;
      }
    }
    const critical = {fragile: 0, robust: 1, critical: (1 - fixed) / (1 - 1 / v)}[phase];
    const curve = (t, L) => {
      let p = 1 - t + t / v;
      for (let l = 0; l < L; l++) p = map(p);
      return p;
    };
    return {map, atOne, atChance, phase, fixed, critical, curve};
  }

  // P(true class) of one random grammar and one sentence of it, at every noise level of `times`.
  function draws({noise, v, m, s, L}, times, seed) {
    const grammar = randomGrammar(v, m, s, L, seed);
    const random = generator(seed ^ 0x5bd1e995);
    const levels = sample(grammar, random);
    const leaves = levels[L];
    const fates = fate(leaves, v, random);
    return times.map(t => {
      const e = leaves.map((leaf, i) => evidence(noise, seen(noise, leaf, fates[i], t, false), v, t));
      return classPosterior(grammar, passUp(grammar, e).up[0][0]).posterior[levels[0][0]];
    });
  }

  // Population dynamics: messages of nodes whose true symbol is 0, without a tree, through rules that are new
  // at every node, as in rhmdiff.theory.messages_above. A population is one array, v numbers a message.

  // Those of noisy leaves. What the noise does is dealt out in its shares, which errs less than draws.
  function leafMessages(noise, v, t, size, random) {
    const population = new Float64Array(size * v);
    const kept = noise === "masking" ? 1 - t : 1 - t + t / v;
    const offset = random();
    for (let i = 0; i < size; i++) {
      const whole = Math.floor((i + 1) * kept + offset) > Math.floor(i * kept + offset);
      const symbol = whole ? 0 : noise === "masking" ? null : 1 + integer(random, v - 1);
      population.set(evidence(noise, symbol, v, t), i * v);
      normalise(population.subarray(i * v, (i + 1) * v));
    }
    return population;
  }

  // Bring an array into random order.
  function shuffle(array, random) {
    for (let i = array.length - 1; i > 0; i--) {
      const j = integer(random, i + 1);
      [array[i], array[j]] = [array[j], array[i]];
    }
    return array;
  }

  // The population one level up; every message below goes to s nodes. `deck` holds the v ** s strings.
  function messagesAbove(population, v, m, s, deck, random) {
    const size = population.length / v;
    const members = Array.from({length: s}, () =>
      shuffle(Uint32Array.from({length: size}, (_, i) => i), random));
    const above = new Float64Array(size * v);
    const below = Array.from({length: s}, () => new Float64Array(v));
    for (let node = 0; node < size; node++) {
      for (let k = 0; k < v * m; k++) {
        const other = k + integer(random, deck.length - k);
        const drawn = deck[other];
        deck[other] = deck[k];
        deck[k] = drawn;
      }
      let left = deck[0];  // the first production of symbol 0 is the one that was used
      for (let j = s - 1; j >= 0; j--) {
        const child = left % v, from = members[j][node] * v;
        left = Math.floor(left / v);
        below[j].set(population.subarray(from, from + v));
        below[j][0] = population[from + child];
        below[j][child] = population[from];
      }
      const out = above.subarray(node * v, (node + 1) * v);
      for (let k = 0; k < v * m; k++) {
        let number = deck[k], product = 1;
        for (let j = s - 1; j >= 0; j--) {
          const rest = Math.floor(number / v);
          product *= below[j][number - rest * v];
          number = rest;
        }
        out[Math.floor(k / m)] += product;
      }
      normalise(out);
    }
    return above;
  }

  function meanMass(population, v) {
    let total = 0;
    for (let i = 0; i < population.length; i += v) total += population[i];
    return total * v / population.length;
  }

  // Whether a population becomes certain at this noise level; if not, it is lost.
  function rises(noise, {v, m, s}, t, size, seed, deepest = 80) {
    const random = generator(seed);
    const deck = Uint32Array.from({length: v ** s}, (_, i) => i);
    let population = leafMessages(noise, v, t, size, random);
    let gained = 0;
    for (let level = 0; level < deepest; level++) {
      population = messagesAbove(population, v, m, s, deck, random);
      gained = (meanMass(population, v) - 1 / v) / (1 - 1 / v);
      if (level >= 5 && (gained > 0.75 || gained < 0.08)) break;
    }
    return gained > 0.4;
  }

  // The critical noise of one population, to `near`, by halving; all levels share its random numbers.
  function criticalNoise(noise, shape, size, seed, low = 0, high = 1, near = 0.002) {
    const width = high - low;
    if (low > 0 && !rises(noise, shape, low, size, seed)) {
      [low, high] = [Math.max(0, low - width), low];
    } else if (high < 1 && rises(noise, shape, high, size, seed)) {
      [low, high] = [high, Math.min(1, high + width)];
    }
    while (high - low > near) {
      const t = (low + high) / 2;
      if (rises(noise, shape, t, size, seed)) low = t; else high = t;
    }
    return (low + high) / 2;
  }

  // The critical noises of `count` independent populations, told one after the other, near a rough one.
  function criticalNoises(noise, shape, seed, count, tell) {
    const size = Math.min(2048, Math.max(512, Math.floor(2 ** 17 / (shape.m * shape.v))));
    const middle = criticalNoise(noise, shape, Math.floor(size / 4), seed, 0, 1, 0.01);
    const found = [];
    for (let k = 1; k <= count; k++) {
      const ends = [Math.max(0, middle - 0.016), Math.min(1, middle + 0.016)];
      found.push(criticalNoise(noise, shape, size, seed + k, ...ends));
      tell(found, size);
    }
    return found;
  }

  return {generator, grammarOf, randomGrammar, productionsOf, childrenOf, sample, fate, seen, evidence,
          passUp, classPosterior, posterior, meanField, draws, leafMessages, messagesAbove, meanMass,
          criticalNoises};
}

// What a worker does: average the class posterior over more and more grammars, and tell of it.
function rhmWorker(model) {
  onmessage = ({data: {settings, times, count}}) => {
    const sum = times.map(() => 0), squares = times.map(() => 0);
    let told = Date.now();
    for (let n = 1; n <= count; n++) {
      model.draws(settings, times, settings.seed + n).forEach((p, i) => {
        sum[i] += p;
        squares[i] += p * p;
      });
      if (n === count || Date.now() - told > 150) {
        told = Date.now();
        postMessage({n, sum, squares});
      }
    }
  };
}

// What another worker does: look for the critical noise of a shape, and tell it better and better.
function rhmSearcher(model) {
  onmessage = ({data: {noise, shape, count}}) => {
    model.criticalNoises(noise, shape, 1, count, (values, size) => postMessage({values, size}));
  };
}

// The page. It is one state, from which everything on it is drawn.
function rhmPlay(root) {
  const model = rhmModel();
  const NOISES = ["belief", "masking", "uniform"];
  const TIMES = Array.from({length: 41}, (_, k) => k / 40);
  const GRAMMARS = 400;
  const POPULATIONS = 8;  // in which the critical noise is looked for
  const LEAVES = 128;
  const LIMITS = {v: [2, 32], m: [1, 32], s: [2, 4], L: [1, 7]};
  const START = {noise: "belief", v: 16, m: 4, s: 2, L: 5, grammar: 1, sentence: 1, t: 0.5, guess: 0.5,
                 shown: false, step: null};
  const state = {...START, masked: new Set(), pinned: []};
  let now;       // the grammar, the sentence and their posteriors
  let average;   // what the worker has told
  let worker;
  let searcher;
  const thresholds = new Map();  // what searchers have told, by noise and shape

  // Elements
  const SVG = "http://www.w3.org/2000/svg";
  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter(x => x !== null));
    return element;
  }
  function h(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }
  function svg(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }
  function text(x, y, said, attributes = {}) { return svg("text", {x, y, ...attributes}, said); }
  function two(x) { return x.toFixed(2); }
  function name(symbol) { return symbol.toString(36); }

  // The state in the address, so that an example can be cited
  function address() {
    const told = ["noise", "v", "m", "s", "L", "grammar", "sentence", "t"].map(k => `${k}=${state[k]}`);
    if (state.masked.size) told.push(`masked=${[...state.masked].sort((a, b) => a - b).join(".")}`);
    if (state.shown) told.push(`guess=${state.guess}`);
    return "#" + told.join("&");
  }
  function readAddress(hash) {
    const told = new URLSearchParams(hash.slice(1));
    Object.assign(state, START, {masked: new Set(), pinned: []});
    if (NOISES.includes(told.get("noise"))) state.noise = told.get("noise");
    for (const key of ["v", "m", "s", "L", "grammar", "sentence"]) {
      if (/^\d{1,6}$/.test(told.get(key) ?? "")) state[key] = Number(told.get(key));
    }
    const level = told.has("t") ? Number(told.get("t")) : NaN;
    if (level >= 0 && level <= 1) state.t = level;
    const guess = told.has("guess") ? Number(told.get("guess")) : NaN;
    if (guess >= 0 && guess <= 1) { state.guess = guess; state.shown = true; }
    bound();
    const masked = (told.get("masked") ?? "").split(".").filter(x => /^\d+$/.test(x)).map(Number);
    state.masked = new Set(masked.filter(i => i < state.s ** state.L));
  }
  function writeAddress() {
    try { history.replaceState(null, "", address()); } catch { /* not from every file system */ }
  }

  // Keep the shape to what has distinct productions and fits on a screen: m and L give way.
  function bound() {
    for (const [key, [low, high]] of Object.entries(LIMITS)) {
      state[key] = Math.min(high, Math.max(low, state[key]));
    }
    while (state.s ** state.L > LEAVES) state.L--;
    state.m = Math.min(state.m, state.v ** (state.s - 1));
  }

  // What the state says: the sentence anew where it is another, its posteriors at every change.
  function prepare() {
    const {noise, v, m, s, L} = state;
    const grammar = model.randomGrammar(v, m, s, L, state.grammar);
    const random = model.generator(1000003 * state.grammar + state.sentence);
    const derivation = model.sample(grammar, random);
    const fates = model.fate(derivation[L], v, random);
    const symbolsAt = t => derivation[L].map((leaf, i) =>
      model.seen(noise, leaf, fates[i], t, state.masked.has(i)));
    const evidenceAt = t => symbolsAt(t).map(x => model.evidence(noise, x, v, t));
    const truth = derivation[0][0];
    const classAt = t =>
      model.classPosterior(grammar, model.passUp(grammar, evidenceAt(t)).up[0][0]).posterior[truth];
    return {grammar, derivation, truth, symbolsAt, evidenceAt, classAt, field: model.meanField(v, m, s)};
  }
  function compute() {
    const {noise, v, m, s, L, grammar, sentence} = state;
    const key = [noise, v, m, s, L, grammar, sentence, ...state.masked].join();
    if (now?.key !== key) now = {...prepare(), key};
    now.symbols = now.symbolsAt(state.t);
    now.beliefs = model.posterior(now.grammar, now.evidenceAt(state.t));
  }
  function classNow() { return now.beliefs.levels[0][0][now.truth]; }

  // Work is done by workers, so that the page stays awake
  function start(what) {
    const body = `"use strict"; (${what})((${rhmModel})());`;
    const place = URL.createObjectURL(new Blob([body], {type: "text/javascript"}));
    const started = new Worker(place);
    URL.revokeObjectURL(place);
    return started;
  }

  // The critical noise: of belief noise that of the mean field, of others what the searcher has found so far
  function shapeKey() { return [state.noise, state.v, state.m, state.s].join(); }
  function threshold() {
    if (state.noise === "belief") return {t: now.field.critical, told: two(now.field.critical)};
    const {values, size} = thresholds.get(shapeKey()) ?? {values: []};
    if (values.length < 2) return null;
    const t = values.reduce((a, b) => a + b) / values.length;
    const variance = values.reduce((sum, x) => sum + (x - t) ** 2, 0) / (values.length - 1);
    const se = Math.max(0.001, Math.sqrt(variance / values.length));  // a bracket is 0.002 wide
    return {t, se, told: `${t.toFixed(3)} ± ${se.toFixed(3)}`, size, count: values.length};
  }
  function startSearch() {
    const key = shapeKey();
    if (searcher?.key === key) return;
    if (searcher) searcher.terminate();
    searcher = null;
    const done = thresholds.get(key)?.values.length === POPULATIONS;
    if (state.noise === "belief" || now.field.phase !== "critical" || done) return;
    searcher = start(rhmSearcher);
    searcher.key = key;
    searcher.onmessage = ({data}) => {
      thresholds.set(key, data);
      drawCurves();
      drawPhase();
      if (data.values.length === POPULATIONS) rest();
    };
    const {noise, v, m, s} = state;
    searcher.postMessage({noise, shape: {v, m, s}, count: POPULATIONS});
  }

  // The average over grammars and sentences
  function startAverage() {
    if (worker) worker.terminate();
    worker = null;
    average = null;
    if (!state.shown) return;
    worker = start(rhmWorker);
    worker.onmessage = ({data}) => {
      average = data;
      drawCurves();
      if (data.n === GRAMMARS) rest();
    };
    const {noise, v, m, s, L} = state;
    worker.postMessage({settings: {noise, v, m, s, L, seed: 1000}, times: TIMES, count: GRAMMARS});
  }
  function means() {
    return average.sum.map((sum, i) => {
      const mean = sum / average.n;
      const variance = Math.max(0, average.squares[i] / average.n - mean * mean);
      return {t: TIMES[i], mean, se: Math.sqrt(variance / Math.max(1, average.n - 1))};
    });
  }
  function halfLevel() {
    const half = (1 + 1 / state.v) / 2;
    const points = means();
    const after = points.findIndex(x => x.mean < half);
    if (after < 1) return null;
    const [a, b] = [points[after - 1], points[after]];
    return a.t + (b.t - a.t) * (a.mean - half) / (a.mean - b.mean);
  }

  // The frame of the page
  const parts = {};
  function slider(key, label) {
    const input = h("input", {type: "range", min: 0, max: 1, step: 0.01, id: `play-${key}`,
                              oninput: () => change({[key]: +input.value})});
    const output = h("output", {for: `play-${key}`});
    parts[key] = input;
    parts[`${key}Told`] = output;
    return h("label", {class: "play-wide"}, h("span", {}, label), input, output);
  }
  function count(key, label) {
    const [min, max] = LIMITS[key];
    const input = h("input", {type: "number", min, max, id: `play-${key}`, onchange: () => {
      const pinned = key === "L" ? state.pinned : [];
      change({[key]: Math.round(+input.value) || min, masked: new Set(), pinned}, true);
    }});
    parts[key] = input;
    return h("label", {}, h("span", {}, label), input);
  }
  function button(label, act) { return h("button", {type: "button", onclick: act}, label); }

  function build() {
    parts.noise = h("select", {id: "play-noise", onchange: () => {
      change({noise: parts.noise.value, pinned: []}, true);
    }}, NOISES.map(x => h("option", {value: x}, x)));
    parts.edges = svg("g");
    parts.nodes = svg("g");
    parts.tree = svg("svg", {viewBox: "0 0 760 330", role: "group",
                             "aria-label": "The tree of the sentence, its leaves below"},
                     parts.edges, parts.nodes);
    parts.bars = svg("svg", {viewBox: "0 0 360 150", role: "img"});
    parts.curveMarks = svg("g");
    parts.curves = svg("svg", {viewBox: "0 0 360 250", role: "img"},
                       axes("noise level t", "P(true class)"), parts.curveMarks);
    parts.webMarks = svg("g");
    parts.cobweb = svg("svg", {viewBox: "0 0 360 250", role: "img"},
                       axes("belief in the children", "belief in the node"), parts.webMarks);
    parts.live = h("p", {class: "play-live", "aria-live": "polite", "aria-atomic": "true"});
    parts.phase = h("p");
    parts.arithmetic = h("p", {class: "play-arithmetic", "aria-live": "polite"});
    parts.table = h("tbody");
    parts.guessing = h("div", {class: "play-row"},
      slider("guess", "Your guess: half of the class is lost at t ="),
      button("Show the curves", () => change({shown: true}, true)));
    parts.guessed = h("p");
    parts.pin = button("One level more", () => {
      if (average) state.pinned.push({L: state.L, points: means()});
      change({L: state.L + 1, masked: new Set()}, true);
    });
    parts.solved = CHALLENGES.map(() => h("strong", {role: "status"}));
    const begin = x => button("Start here", () => change({...x.start, pinned: []}, true));
    parts.challenges = h("ol", {}, CHALLENGES.map((x, k) =>
      h("li", {}, x.asked + " ", begin(x), " ", parts.solved[k])));
    parts.link = button("Copy a link to this example", async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        parts.link.textContent = "Copied";
      } catch { parts.link.textContent = "It is the address of this page"; }
    });
    root.replaceChildren(
      h("div", {class: "play-row"},
        h("label", {}, h("span", {}, "noise"), parts.noise),
        count("v", "symbols v"), count("m", "productions m"), count("s", "children s"),
        count("L", "levels L")),
      h("div", {class: "play-row"},
        button("New grammar", () => change({grammar: state.grammar + 1, masked: new Set()})),
        button("New sentence", () => change({sentence: state.sentence + 1, masked: new Set()})),
        button("Unmask all", () => change({masked: new Set()})), parts.link),
      h("div", {class: "play-row"}, slider("t", "noise level t")),
      parts.live,
      h("figure", {}, parts.tree, h("figcaption", {}, LEGEND)),
      h("div", {class: "play-row"},
        button("Next step of the two passes", () => step(1)), button("Step back", () => step(-1)),
        button("All steps", () => change({step: null}))),
      parts.arithmetic,
      h("div", {class: "play-two"},
        h("figure", {}, parts.bars, h("figcaption", {}, BARS)),
        h("details", {}, h("summary", {}, "The tree as a table"),
          h("table", {}, h("thead", {}, h("tr", {}, COLUMNS.map(x => h("th", {scope: "col"}, x)))),
            parts.table))),
      parts.guessing, parts.guessed,
      h("div", {class: "play-two"},
        h("figure", {}, parts.curves, h("figcaption", {}, CURVES)),
        h("figure", {}, parts.cobweb, h("figcaption", {}, COBWEB))),
      h("div", {class: "play-row"}, parts.pin,
        button("Guess again", () => change({shown: false, pinned: []}, true))),
      parts.phase, parts.challenges);
  }
  const LEGEND = "Leaves: a full square is the true symbol, an empty one with a question mark is masked, a " +
    "diamond holds a wrong symbol; under belief noise the square is as full as the true symbol is " +
    "believed. A click, or Enter, masks a leaf by hand. Nodes: the filled part of the circle, and the " +
    "number, is the posterior of the true symbol; while you step, it is what the leaves below say of it " +
    "until the pass down has come.";
  const BARS = "The class: posterior of each symbol of the root. ▲ marks the true one.";
  const COLUMNS = ["level", "nodes", "posterior of the truth, mean", "least"];
  const CURVES = "Probability of the true class against the noise level. Thick line: this sentence. " +
    "Points: the average over random grammars and sentences, with standard errors. Dashed: the mean field, " +
    "of belief noise alone. Dotted: the critical noise. Grey: levels before. Triangle: your guess. Thin " +
    "line: chance.";
  const COBWEB = "The mean-field map F of belief noise, from the belief in a node's children to the belief " +
    "in the node, and its iteration from this noise level.";

  // Challenges
  const CHALLENGES = [
    {asked: "Lose the class with one mask: at t = 0, mask one leaf by hand so that the true class keeps " +
       "less than one half.",
     start: {noise: "masking", v: 4, m: 2, s: 2, L: 3, t: 0, masked: new Set()},
     met: () => state.noise === "masking" && state.t === 0 && state.masked.size === 1 && state.L >= 2 &&
       classNow() < 0.5},
    {asked: "Make it survive: at t = 0.8 or more, in a tree of at least four levels, keep the true class " +
       "above 0.95 under masking noise.",
     start: {noise: "masking", v: 16, m: 4, s: 2, L: 5, t: 0.8, masked: new Set()},
     met: () => state.noise === "masking" && state.t >= 0.8 && state.L >= 4 && classNow() > 0.95},
    {asked: "Find a fragile shape: one in which any noise, however little, destroys the class of a deep " +
       "tree.",
     start: {noise: "belief", v: 16, m: 4, s: 2, L: 5, t: 0.1, masked: new Set()},
     met: () => now.field.phase === "fragile"},
  ];

  // Steps of the two passes, node by node: up from the leaves, then down from the root
  function steps() {
    const inner = now.derivation.flatMap((nodes, l) => nodes.map((_, i) => ({l, i})));
    const up = inner.filter(x => x.l < state.L).sort((a, b) => b.l - a.l || a.i - b.i);
    const down = inner.filter(x => x.l > 0);
    return [...up.map(x => ({...x, way: "up"})), ...down.map(x => ({...x, way: "down"}))];
  }
  function step(by) {
    const last = steps().length - 1;
    const at = state.step === null ? (by > 0 ? 0 : last) : state.step + by;
    change({step: at < 0 || at > last ? null : at});
  }
  function arithmetic({way, l, i}) {
    const a = now.derivation[l][i];
    const {up, down, levels} = now.beliefs;
    const where = `level ${l}, node ${i + 1}, whose true symbol is ${name(a)}`;
    if (way === "down") {
      return `Down to ${where}: from above it is given ${two(down[l][i][a])}, from below ` +
        `${two(up[l][i][a])}. ` +
        "Their product, divided by the sum of such products over all symbols, is its posterior, " +
        `${two(levels[l][i][a])}.`;
    }
    const level = now.grammar.levels[l];
    const below = up[l + 1].slice(i * level.arity, (i + 1) * level.arity);
    const products = model.productionsOf(level, a).map(p =>
      [level.weight[p], ...model.childrenOf(level, p).map((b, j) => below[j][b])]);
    const sum = products.reduce((total, x) => total + x.reduce((y, z) => y * z), 0);
    const shown = products.slice(0, 4).map(([, ...x]) => [`1/${state.m}`, ...x.map(two)].join(" · "));
    const more = products.length > 4 ? ` and ${products.length - 4} more` : "";
    return `Up to ${where}: its productions give ${shown.join(" + ")}${more} = ${sum.toPrecision(3)}. ` +
      `That is a share of ${two(up[l][i][a])} of what all symbols get.`;
  }

  // Pictures
  function place(l, i) {
    return {x: 760 * (i + 0.5) / now.derivation[l].length, y: 26 + l * 270 / state.L};
  }
  // The edges are drawn once for each shape, since they do not move with the noise.
  let edgesOf;
  function drawEdges() {
    const sizes = now.derivation.map(row => row.length).join();
    if (edgesOf === sizes) return;
    edgesOf = sizes;
    parts.edges.replaceChildren(...now.derivation.slice(1).flatMap((row, l) => row.map((_, i) => {
      const above = place(l, Math.floor(i / state.s));
      const {x, y} = place(l + 1, i);
      return svg("line", {x1: above.x, y1: above.y, x2: x, y2: y, class: "play-edge"});
    })));
  }
  function drawTree() {
    drawEdges();
    const {derivation, beliefs} = now;
    const all = state.step === null ? null : steps();
    const at = all && all[state.step];
    const done = new Map();  // node -> "up" or "down", the last pass that has come to it
    if (all) for (const x of all.slice(0, state.step + 1)) done.set(`${x.l},${x.i}`, x.way);
    const nodes = [];
    derivation.forEach((row, l) => row.forEach((a, i) => {
      const {x, y} = place(l, i);
      const size = Math.min(13, 330 / row.length);
      const here = at && at.l === l && at.i === i;
      if (here) nodes.push(svg("circle", {cx: x, cy: y, r: size + 5, class: "play-here"}));
      if (l === state.L) { nodes.push(leaf(i, x, y, size)); return; }
      const way = all ? done.get(`${l},${i}`) : "down";
      const known = l === 0 && way === "up" && at.way === "down" ? "down" : way;
      const p = known === "up" ? beliefs.up[l][i][a] : beliefs.levels[l][i][a];
      const told = `level ${l}, node ${i + 1}: true symbol ${name(a)}, ${two(p)}`;
      const title = svg("title", {}, told);
      if (!way) { nodes.push(svg("circle", {cx: x, cy: y, r: size, class: "play-unknown"})); return; }
      nodes.push(svg("g", {}, title, svg("circle", {cx: x, cy: y, r: size, class: "play-node"}),
                     svg("circle", {cx: x, cy: y, r: size * Math.sqrt(p), class: "play-belief"})));
      if (row.length <= 27) nodes.push(text(x, y - size - 3, two(p), {class: "play-number"}));
    }));
    const focused = parts.tree.contains(document.activeElement);
    parts.nodes.replaceChildren(...nodes);
    if (focused) parts.tree.querySelector("[tabindex='0']").focus();
  }
  let current = 0;  // the leaf that the Tab key comes to; arrows go from it to others
  function leaf(i, x, y, size) {
    const {derivation, symbols} = now;
    const n = symbols.length;
    current = Math.min(current, n - 1);
    const [truth, shown] = [derivation[state.L][i], symbols[i]];
    const fate = shown === null ? "masked" : shown !== truth ? "changed" : "true";
    const half = Math.min(size, 11);
    const kind = {masked: "play-masked", changed: "play-changed", true: "play-node"}[fate];
    const marks = [svg("rect", {x: x - half, y: y - half, width: 2 * half, height: 2 * half, class: kind,
                                transform: fate === "changed" ? `rotate(45 ${x} ${y}) ` : null})];
    if (fate === "true") {
      const inner = half * (state.noise === "belief" ? Math.sqrt(1 - state.t) : 1);
      marks.push(svg("rect", {x: x - inner, y: y - inner, width: 2 * inner, height: 2 * inner,
                              class: "play-leaf"}));
    }
    const letter = shown === null ? "?" : name(shown);
    if (half >= 5) {
      const dark = fate === "true" && (state.noise !== "belief" || state.t < 0.5);
      marks.push(text(x, y + half * 0.4, letter, {class: dark ? "play-letter play-light" : "play-letter",
                                                 "font-size": half * 1.2}));
    }
    const what = {true: `symbol ${name(truth)}`, masked: "masked"}[fate] ??
      `changed from ${name(truth)} to ${name(shown)}`;
    const said = `leaf ${i + 1} of ${n}, ${what}`;
    function toggle() {
      const masked = new Set(state.masked);
      if (!masked.delete(i)) masked.add(i);
      current = i;
      change({masked});
    }
    function key(event) {
      const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (event.key === "Enter" || event.key === " ") toggle();
      else if (by) { current = (i + by + n) % n; drawTree(); }
      else return;
      event.preventDefault();
    }
    return svg("g", {class: "play-touch", role: "button", "aria-pressed": String(state.masked.has(i)),
                     "aria-label": said, tabindex: i === current ? "0" : "-1", onclick: toggle,
                     onkeydown: key},
               svg("title", {}, said), ...marks);
  }

  function drawBars() {
    const p = now.beliefs.levels[0][0];
    const width = 320 / p.length;
    const bars = Array.from(p, (x, a) => [
      svg("rect", {x: 30 + a * width + 1, y: 110 - 95 * x, width: Math.max(1, width - 2), height: 95 * x,
                   class: a === now.truth ? "play-leaf" : "play-other"}),
      a === now.truth ? text(30 + (a + 0.5) * width, 140, "▲", {class: "play-letter"}) : null,
      p.length <= 24 ? text(30 + (a + 0.5) * width, 124, name(a), {class: "play-letter"}) : null]);
    const axis = [0, 1].map(y => text(24, 114 - 95 * y, String(y), {class: "play-tick"}));
    parts.bars.setAttribute("aria-label", `The class: posterior of the true symbol ${two(classNow())}`);
    parts.bars.replaceChildren(svg("line", {x1: 30, x2: 350, y1: 110, y2: 110, class: "play-axis"}), ...axis,
                               ...bars.flat().filter(x => x !== null));
  }

  // Axes from 0 to 1 on both sides; `at` places a point
  function at(x, y) { return [44 + 300 * x, 206 - 190 * y]; }
  function path(points, attributes) {
    const places = points.map(([x, y]) => at(x, y).map(z => z.toFixed(2)).join(" "));
    const d = `M${places.join("L")}`;
    return svg("path", {d, fill: "none", ...attributes});
  }
  function axes(across, up) {
    const marks = [path([[0, 1], [0, 0], [1, 0]], {class: "play-axis"})];
    for (const x of [0, 0.25, 0.5, 0.75, 1]) {
      marks.push(text(at(x, 0)[0], 222, String(x), {class: "play-tick play-middle"}));
      marks.push(text(38, at(0, x)[1] + 4, String(x), {class: "play-tick"}));
    }
    marks.push(text(194, 242, across, {class: "play-tick play-middle"}));
    marks.push(text(0, 0, up, {class: "play-tick play-middle", transform: "translate(11 111) rotate(-90)"}));
    return marks;
  }
  function drawCurves() {
    const marks = [];
    const {v, L} = state;
    if (!state.shown) {
      const [x, y] = at(0.5, 0.5);
      parts.curveMarks.replaceChildren(text(x, y, "guess first", {class: "play-tick play-middle"}));
      parts.curves.setAttribute("aria-label", "The curves are shown after a guess");
      return;
    }
    now.curve ??= TIMES.map(t => [t, now.classAt(t)]);
    for (const {L: depth, points} of state.pinned) {
      marks.push(path(points.map(x => [x.t, x.mean]), {class: "play-pinned"}));
      const label = points.reduce((a, b) => Math.abs(b.mean - 0.8) < Math.abs(a.mean - 0.8) ? b : a);
      const [x, y] = at(label.t, label.mean);
      marks.push(text(x - 4, y + 4, `L = ${depth}`, {class: "play-tick"}));
    }
    if (state.noise === "belief") {
      marks.push(path(TIMES.map(t => [t, now.field.curve(t, L)]), {class: "play-theory"}));
    }
    const critical = threshold();
    if (critical) {
      marks.push(path([[critical.t, 0], [critical.t, 1]], {class: "play-critical"}));
      const [x, y] = at(critical.t, 1);
      const label = state.noise === "belief" ? "ε*" : "t*";
      marks.push(text(x, y - 5, label, {class: "play-tick play-middle"}));
    }
    marks.push(path([[0, 1 / v], [1, 1 / v]], {class: "play-chance"}));
    marks.push(path(now.curve, {class: "play-this"}));
    for (const {t, mean, se} of average ? means() : []) {
      marks.push(path([[t, mean - se], [t, mean + se]], {class: "play-error"}));
      const [cx, cy] = at(t, mean);
      marks.push(svg("circle", {cx, cy, r: 2.6, class: "play-point"}));
    }
    const [x] = at(state.guess, 0);
    marks.push(svg("path", {d: `M${x} 206 l-5 9 h10 z`, class: "play-guess"}));
    const [cx, cy] = at(state.t, classNow());
    marks.push(svg("circle", {cx, cy, r: 5.5, class: "play-mark"}));
    parts.curveMarks.replaceChildren(...marks);
    const half = average ? halfLevel() : null;
    parts.curves.setAttribute("aria-label", "Probability of the true class against the noise level" +
      (half === null ? "" : `; the average is half-way at t = ${two(half)}`));
    parts.guessed.textContent = !average ? "Averaging …" :
      `Average over ${average.n} of ${GRAMMARS} random grammars, one sentence each: ` +
      (half === null ? "it does not come half-way. " : `half-way from 1 to chance at t = ${two(half)}. `) +
      `You guessed ${two(state.guess)}.`;
  }
  function drawCobweb() {
    const {map, phase, fixed} = now.field;
    const {v, L, t} = state;
    const grid = Array.from({length: 101}, (_, k) => k / 100);
    const web = [];
    let p = 1 - t + t / v;
    web.push([p, p]);
    for (let l = 0; l < L; l++) { web.push([p, map(p)], [map(p), map(p)]); p = map(p); }
    const marks = [path([[0, 0], [1, 1]], {class: "play-chance"}),
                   path(grid.map(x => [x, map(x)]), {class: "play-theory"}), path(web, {class: "play-this"})];
    const [x0, y0] = at(...web[0]), [x1, y1] = at(p, p);
    marks.push(svg("circle", {cx: x0, cy: y0, r: 3, class: "play-point"}),
               svg("circle", {cx: x1, cy: y1, r: 5.5, class: "play-mark"}));
    if (phase === "critical") {
      const [x, y] = at(fixed, fixed);
      marks.push(svg("circle", {cx: x, cy: y, r: 4, class: "play-masked"}),
                 text(x + 8, y + 12, "p*", {class: "play-tick play-start"}));
    }
    parts.cobweb.setAttribute("aria-label", `The mean-field map: after ${L} levels the belief is ${two(p)}`);
    parts.webMarks.replaceChildren(...marks);
    drawPhase();
  }
  function drawPhase() {
    const {phase, critical, atOne, atChance} = now.field;
    const {noise, v, m, s} = state;
    const fate = {
      critical: "neither is above one, so the shape is critical: a deep tree keeps its class below " +
        `ε* = ${two(critical)} and loses it above`,
      fragile: "the first is not below one, so the shape is fragile: a doubt does not shrink from level to " +
        "level, and any noise destroys the class of a deep tree",
      robust: "the second is above one, so the shape is robust: a hint grows from level to level, and the " +
        "class of a deep tree survives any noise below 1",
    }[phase];
    parts.phase.textContent = `Mean field of (v, m, s) = (${v}, ${m}, ${s}) under belief noise: ` +
      `F′(1) = ${two(atOne)} and F′(1/v) = ${two(atChance)}; ${fate}.`;
    if (noise === "belief" || phase !== "critical") return;
    const found = threshold();
    parts.phase.textContent += found ?
      ` Under ${noise} noise a deep tree loses its class at t* = ${found.told}, by the dynamics of ` +
        `${found.count} populations of ${found.size} messages, with fresh rules at every node.` :
      ` The critical level of ${noise} noise is being looked for …`;
  }
  function drawTable() {
    parts.table.replaceChildren(...now.derivation.map((row, l) => {
      const masses = row.map((a, i) => now.beliefs.levels[l][i][a]);
      const mean = masses.reduce((x, y) => x + y) / masses.length;
      const cells = [l, row.length, two(mean), two(Math.min(...masses))];
      return h("tr", {}, cells.map(x => h("td", {}, String(x))));
    }));
  }
  function drawChallenges() {
    CHALLENGES.forEach((x, k) => { if (x.met()) parts.solved[k].textContent = "Solved."; });
  }

  // When the slider has come to rest: the address, which takes milliseconds to write, and a sentence for
  // screen readers
  let resting;
  function rest() {
    clearTimeout(resting);
    resting = setTimeout(() => {
      writeAddress();
      const found = threshold();
      const critical = found ? `, critical ${found.told}` : "";
      const masks = state.masked.size ? `, ${state.masked.size} masked by hand` : "";
      parts.live.textContent =
        `t = ${two(state.t)}: class ${two(classNow())}, chance ${two(1 / state.v)}${critical}${masks}`;
    }, 250);
  }

  function draw() {
    for (const key of ["v", "m", "s", "L", "t", "guess", "noise"]) parts[key].value = state[key];
    parts.tTold.textContent = two(state.t);
    parts.guessTold.textContent = two(state.guess);
    parts.guessing.hidden = state.shown;
    parts.guessed.hidden = !state.shown;
    parts.pin.disabled = !state.shown || state.s ** (state.L + 1) > LEAVES;
    parts.arithmetic.textContent = state.step === null ? "" : arithmetic(steps()[state.step]);
    drawTree();
    drawBars();
    drawTable();
    drawCurves();
    drawCobweb();
    drawChallenges();
    rest();
  }
  // Change the state; `other` where the average is of something else now.
  function change(what, other = false) {
    Object.assign(state, what);
    bound();
    if (!("step" in what)) state.step = null;
    compute();
    startSearch();
    if (other) startAverage();
    draw();
  }

  readAddress(location.hash);
  build();
  change({}, true);
  addEventListener("hashchange", ({newURL}) => { readAddress(new URL(newURL).hash); change({}, true); });
  return {model, state, change};
}

addEventListener("DOMContentLoaded", () => {
  const root = document.getElementById("play");
  if (root) window.play = rhmPlay(root);
});
