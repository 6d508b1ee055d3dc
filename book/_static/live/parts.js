// What the widgets share: elements, models, and the pictures of tokens, chances and heads.
"use strict";
{
  const library = defineTransformer();

  /** An element with attributes, listeners (`onclick`) and children. */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  /** `fill("{a} plus {b}", {a: 1, b: 2})`. */
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  let used = 0;
  const uniqueId = (name) => `live-${name}-${used++}`;

  const models = new Map();

  /** The bytes of a checkpoint, asked for once. */
  async function checkpoint(name) {
    await Live.load(`weights/${name}`);
    return Uint8Array.from(atob(Live.weights[name]), (letter) => letter.charCodeAt(0)).buffer;
  }

  async function model(name) {
    if (!models.has(name)) {
      models.set(name, new library.Transformer(library.readCheckpoint(await checkpoint(name))));
    }
    return models.get(name);
  }

  // Every model of the page has two layers of four heads.
  const LAYERS = [0, 1], HEADS = [0, 1, 2, 3];
  const MODULES = {
    cross: "decoder.layers.{layer}.cross_attention",
    encoder: "encoder.layers.{layer}.self_attention",
    decoder: "decoder.layers.{layer}.self_attention",
  };
  const moduleOf = (view, layer) => fill(MODULES[view], { layer });

  /** The cells that nobody sees, each a head, a query and a key of a module. */
  class HiddenCells {
    constructor() {
      this.cells = new Map();
    }

    has(module, ...place) {
      return this.cells.get(module)?.has(String(place)) ?? false;
    }

    /** How many of a kind of attention, in all layers. */
    countIn(view) {
      return LAYERS.reduce((sum, layer) =>
        sum + (this.cells.get(moduleOf(view, layer))?.size ?? 0), 0);
    }

    set(module, place, isHidden) {
      if (!this.cells.has(module)) this.cells.set(module, new Set());
      if (isHidden) this.cells.get(module).add(String(place));
      else this.cells.get(module).delete(String(place));
    }

    clear() {
      this.cells.clear();
    }

    get count() {
      return Object.keys(MODULES).reduce((sum, view) => sum + this.countIn(view), 0);
    }

    /** One phrase for each kind of attention in which cells are hidden. */
    describe(words) {
      return Object.keys(MODULES).filter((view) => this.countIn(view)).map((view) =>
        fill(words.hidden, { view: words.views[view], count: this.countIn(view) }));
    }

    /** Hides all of `places`, each a module and a cell; shows them if all are hidden. */
    toggle(places) {
      const areHidden = places.every((place) => this.has(...place));
      for (const [module, ...place] of places) this.set(module, place, !areHidden);
    }

    /** `[module, cells]` for every module that has any, in one order. */
    list() {
      return [...this.cells].map(([module, cells]) => [module, [...cells].sort()])
        .filter(([, cells]) => cells.length).sort();
    }

    /** For the model: what is hidden in each module. */
    edits() {
      return Object.fromEntries(this.list().map(([module]) =>
        [module, (...place) => this.has(module, ...place)]));
    }
  }

  /** The mean of all heads of cross-attention, `[query][key]`. */
  function meanOfHeads(maps) {
    const heads = LAYERS.flatMap((layer) => maps[moduleOf("cross", layer)]);
    return heads[0].map((row, query) => row.map((_, key) =>
      heads.reduce((sum, head) => sum + head[query][key], 0) / heads.length));
  }

  const percent = (share) => `${(100 * share).toFixed(share > 0.9995 ? 0 : 1)} %`;

  /** Arrow keys, Home and End move the focus inside a group that has one tab stop. */
  function arrowKeys(event, buttons, columns) {
    const at = buttons.indexOf(event.target);
    const place = at % columns;
    const step = { ArrowLeft: place > 0 ? -1 : 0, ArrowRight: place < columns - 1 ? 1 : 0,
      ArrowUp: -columns, ArrowDown: columns, Home: -place, End: columns - 1 - place }[event.key];
    if (at < 0 || step === undefined) return;
    event.preventDefault();
    const next = buttons[at + step];
    if (!next) return;
    for (const button of buttons) button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  /** A radio button for each option; `choose(value)` when one is chosen. */
  function choice(legend, options, chosen, choose) {
    const name = uniqueId("choice");
    return element("fieldset", { class: "live-choice" }, element("legend", {}, legend),
      ...Object.entries(options).map(([value, label]) => element("label", {},
        element("input", { type: "radio", name, value, checked: value === chosen,
          onchange: () => choose(value) }), label)));
  }

  /** A slider with its label, and its value in words behind it. */
  function slider({ name, label, min, max, step, value, show, change }) {
    const id = uniqueId(name);
    const output = element("output", { for: id }, show(value));
    const input = element("input", { id, name, type: "range", min, max, step, value,
      "aria-valuetext": show(value),
      oninput: () => {
        output.textContent = show(Number(input.value));
        input.setAttribute("aria-valuetext", output.textContent);
        change(Number(input.value));
      } });
    return element("div", { class: "live-slider" }, element("label", { for: id }, label), input,
      output);
  }

  /**
   * The chances of every token as bars. `update(shares, {labels, cut, chosen, label})`: `cut`
   * says which tokens are ruled out, `label` is what a screen reader reads.
   */
  function bars() {
    const node = element("div", { class: "live-bars", role: "img" });
    const update = (shares, { labels, cut = () => false, chosen = null, label, before = null }) => {
      node.setAttribute("aria-label", label);
      node.replaceChildren(...shares.map((share, token) => [share, token])
        .filter(([, token]) => labels[token] !== undefined)
        .map(([share, token]) => {
          const kind = cut(token) ? "live-cut" : token === chosen ? "live-chosen" : "";
          const height = (part) => `height: ${(100 * part).toFixed(2)}%`;
          return element("div", { class: `live-bar ${kind}` },
            element("span", { class: "live-share" },
              share >= 0.005 ? `${Math.round(100 * share)}` : ""),
            element("span", { class: "live-room" },
              ...(before ? [element("span", { class: "live-before", style: height(before[token]) })]
                : []),
              element("span", { class: "live-height", style: height(share) })),
            element("span", { class: "live-label" }, labels[token]));
        }));
    };
    return { node, update };
  }

  /**
   * One map: a button for each query (row) and key (column). A pressed one is hidden.
   * `press(row, column)` when one is chosen, `look(row, column)` when one is looked at.
   */
  function headMap({ kind, layer, head, title, press, look }) {
    const buttons = [];
    const grid = element("div", { class: "live-grid", role: "group",
      onkeydown: (event) => arrowKeys(event, buttons, shape.columns) });
    const node = element("div", { class: "live-map", "data-map": kind, "data-layer": layer,
      "data-head": head }, element("div", { class: "live-map-title" }, title), grid);
    let shape = { rows: 0, columns: 0 };

    function build(rows, columns) {
      shape = { rows, columns };
      grid.style.setProperty("--columns", columns);
      buttons.length = 0;
      const label = (text, kinds) =>
        element("span", { class: `live-axis ${kinds}`, "aria-hidden": "true" }, text);
      const cells = [label("", "")];
      for (let column = 0; column < columns; column++) cells.push(label("", "live-key"));
      for (let row = 0; row < rows; row++) {
        cells.push(label("", "live-query"));
        for (let column = 0; column < columns; column++) {
          const button = element(press ? "button" : "span", {
            ...(press && { type: "button", "aria-pressed": "false" }),
            ...(press && { tabindex: row + column === 0 ? 0 : -1 }),
            class: "live-cell", "data-row": row, "data-column": column,
            ...(press && { onclick: () => press(row, column), onfocus: () => look(row, column),
              onmouseenter: () => look(row, column) }) });
          buttons.push(button);
          cells.push(button);
        }
      }
      grid.replaceChildren(...cells);
    }

    /** `weights[row][column]`; `say(row, column)` names a cell for a screen reader. */
    function update(weights, { queries, keys, isHidden, isFuture, current, say, label }) {
      if (shape.rows !== queries.length || shape.columns !== keys.length) {
        build(queries.length, keys.length);
      }
      grid.setAttribute("aria-label", label);
      grid.querySelectorAll(".live-key").forEach((axis, at) => { axis.textContent = keys[at]; });
      grid.querySelectorAll(".live-query").forEach((axis, at) => {
        axis.textContent = queries[at];
        axis.classList.toggle("live-current", at === current);
      });
      buttons.forEach((button, at) => {
        const row = Math.floor(at / shape.columns), column = at % shape.columns;
        const weight = weights[row]?.[column] ?? 0;
        const hidden = isHidden(row, column);
        button.style.setProperty("--weight", weight.toFixed(3));
        button.classList.toggle("live-future", isFuture(row, column));
        button.classList.toggle("live-hidden", hidden);
        if (press) {
          button.setAttribute("aria-pressed", hidden);
          button.setAttribute("aria-label", say(row, column, weight, hidden));
        }
      });
    }
    /** What a cell says now. */
    const say = (row, column) =>
      buttons[row * shape.columns + column].getAttribute("aria-label");
    return { node, title, say, update };
  }

  /** A line that says what the cell looked at says, also when that has changed. */
  function lookLine(hint) {
    let looked = null;
    const node = element("p", { class: "live-look" });
    const render = () => {
      node.textContent = looked
        ? `${looked.map.title}: ${looked.map.say(looked.row, looked.column)}` : hint;
    };
    const look = (map, row, column) => {
      looked = { map, row, column };
      render();
    };
    const clear = () => { looked = null; };
    return { node, render, look, clear };
  }

  /** At least three symbols of the copying task, in a text with blanks or commas; else `null`. */
  function readSymbols(text, longest) {
    const words = text.split(/[\s,]+/).filter(Boolean);
    const areSymbols = words.every((word) =>
      /^\d{1,2}$/.test(word) && Number(word) >= 3 && Number(word) <= 14);
    return areSymbols && words.length >= 3 && words.length <= longest ? words.map(Number) : null;
  }

  /**
   * A form for a source. `take(symbols)` gets what was typed; the line below answers all else
   * after `refuse()`, and says what can be typed the rest of the time.
   */
  function sourceForm({ words, value, longest, take, refuse }) {
    const id = uniqueId("source"), hintId = uniqueId("hint");
    const hint = element("p", { id: hintId, class: "live-hint", role: "status" }, words.hint);
    const field = element("input", { id, name: "source", type: "text", class: "live-source",
      autocomplete: "off", "aria-describedby": hintId, value: value.join(" ") });
    const read = (event) => {
      event.preventDefault();
      const symbols = readSymbols(field.value, longest);
      hint.textContent = symbols ? words.hint : words.wrongInput;
      if (symbols) field.removeAttribute("aria-invalid");
      else field.setAttribute("aria-invalid", "true");
      if (symbols) take(symbols);
      else refuse();
    };
    return element("form", { onsubmit: read, onchange: read },
      element("div", { class: "live-row" }, element("label", { for: id }, words.source), field,
        element("button", { type: "submit" }, words.take)), hint);
  }

  /**
   * What to predict first and then to try, `{ask, why}`; `*words*` are emphasised. What happens,
   * and why, is folded.
   */
  function tries(lines) {
    const words = Live.texts.all;
    const emphasised = (line) => line.split("*").map((piece, at) =>
      (at % 2 ? element("em", {}, piece) : piece));
    return element("div", {}, element("p", { class: "live-heading" }, words.try),
      element("ol", { class: "live-tries" }, ...lines.map(({ ask, why }) => element("li", {},
        ...emphasised(ask), element("details", {}, element("summary", {}, words.compare),
          element("p", {}, ...emphasised(why)))))));
  }

  /** A paragraph in which `[words](address)` is a link. */
  function linked(text) {
    const pieces = text.split(/\[(.*?)\]\((.*?)\)/);
    return element("p", {}, ...pieces.map((piece, at) =>
      [piece, element("a", { href: pieces[at + 1] }, piece), ""][at % 3]));
  }

  /** Show a widget in the place of the figure's image, until the reader wants that again. */
  function mount(container, ...children) {
    const words = Live.texts.all;
    const panel = element("div", { class: "live-panel", role: "group", tabindex: -1,
      "aria-label": container.querySelector("[data-open]").textContent }, ...children,
    element("div", { class: "live-row" },
      element("button", { type: "button", onclick: () => Live.close(container) }, words.back),
      element("span", { class: "live-look" }, words.note)));
    for (const part of container.children) part.hidden = true;
    container.append(panel);
    // The button that had the focus is gone, and stood below a figure that may be high.
    panel.focus({ preventScroll: true });
    if (panel.getBoundingClientRect().top < 0) panel.scrollIntoView();
  }

  Live.parts = {
    ...library, element, fill, uniqueId, LAYERS, HEADS, moduleOf, HiddenCells, meanOfHeads,
    checkpoint, model, percent, choice, slider, bars, headMap, lookLine,
    sourceForm, tries, linked, mount,
  };
}
