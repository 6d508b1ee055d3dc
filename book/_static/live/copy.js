// Chapter 8's copier: a source, its copy, and where every head looks. Chapter 1 shows the mean of
// the heads only.
"use strict";
{
  const parts = Live.parts;
  const { element, fill, percent, LAYERS, HEADS, moduleOf, START, END } = parts;

  const LONGEST = 12;

  const labelOf = (token) => ({ [START]: "S", [END]: "E" })[token] ?? String(token);
  const nameOf = (token) => ({ [START]: "START", [END]: "END" })[token] ?? String(token);
  const symbolsOf = (tokens) => tokens.filter((token) => token > END).join(" ");

  Live.widgets.copy = async (container) => {
    const words = Live.texts.copy, isSmall = container.dataset.size === "small";
    const model = await parts.model("copy");
    const state = {
      source: [5, 9, 12, 7, 3, 14],
      view: "cross",
      hidden: new parts.HiddenCells(),
      inAllHeads: true,
    };

    const form = parts.sourceForm({ words: isSmall ? { ...words, hint: words.hintSmall } : words,
      value: state.source, longest: LONGEST, take,
      refuse: () => { written.textContent = verdict.textContent = ""; } });
    const written = element("span", { "data-answer": true });
    const verdict = element("span");
    const places = element("ul", { class: "live-places", "aria-label": words.places });
    const heads = isSmall ? meanOfHeads(words) : allHeads(words, state, render);
    parts.mount(container, form,
      element("p", { class: "live-message live-top", role: "status" }, written, " ", verdict), places,
      ...heads.nodes, parts.tries(isSmall ? words.triesSmall : words.tries),
      ...(isSmall ? [parts.linked(words.more)] : []));
    render();

    function take(source) {
      // Sources of another length have other cells.
      const isCleared = state.hidden.count && source.length !== state.source.length;
      if (isCleared) state.hidden.clear();
      if (source.length !== state.source.length) heads.clear();
      state.source = source;
      render(isCleared ? [words.cleared] : []);
    }

    /** What is written, `tokens`, after what is read, with every token's chance and all maps. */
    function answer(hidden) {
      const { source } = state, edits = hidden.edits(), maps = {};
      const memory = model.encode(source, edits, maps);
      const all = model.write(memory, source, source.length + 2, parts.likeliest, edits);
      const read = all.slice(0, -1), tokens = all.slice(1);
      const logits = model.decode(memory, source, read, edits, maps);
      const shares = logits.map((row, at) =>
        parts.probabilities(parts.withoutPad(row))[tokens[at]]);
      return { source, read, tokens, shares, maps };
    }

    function render(said = []) {
      const now = answer(state.hidden), right = [...now.source, END];
      const count = right.filter((token, at) => token === now.tokens[at]).length;
      said.push(fill(count === right.length ? words.exact : words.inexact,
        { count, total: right.length }));
      if (!now.tokens.includes(END)) said.push(words.stopped);
      if (state.hidden.count) {
        said.push(fill(words.edited, { changes: state.hidden.describe(words).join("; "),
          plain: symbolsOf(answer(new parts.HiddenCells()).tokens) }));
      }
      written.textContent = symbolsOf(now.tokens);
      verdict.textContent = said.join(" ");
      places.replaceChildren(...right.map((token, at) =>
        place(words, now.tokens[at], token, now.shares[at])));
      heads.update(now);
    }
  };

  /** A place of the answer, in words also where it is wrong or has nothing in it. */
  function place(words, token, right, share) {
    const isMissing = token === undefined, isWrong = token !== right;
    return element("li", { class: isWrong ? "live-wrong" : "" },
      element("strong", {}, isMissing ? "–" : nameOf(token)),
      element("small", {}, isMissing ? "" : percent(share)),
      element("small", {}, isMissing ? words.missing : isWrong ? words.wrongPlace : ""));
  }

  /** Chapter 1: the mean of all heads of cross-attention. */
  function meanOfHeads(words) {
    const map = parts.headMap({ kind: "cross", layer: "mean", head: "mean", title: words.meanMap });
    map.node.classList.add("live-mean");

    function update({ source, tokens, maps }) {
      map.update(parts.meanOfHeads(maps), { queries: padded(tokens.map(labelOf), source.length + 1),
        keys: source.map(labelOf), isHidden: () => false,
        isFuture: (row) => row >= tokens.length, label: words.meanMap });
    }
    return { nodes: [map.node], update, clear: () => {} };
  }

  /** Rows and columns that a longer answer would have keep their room. */
  const padded = (labels, length) => [...labels, ...Array(length - labels.length).fill("")];

  /** Chapter 8: every head of the chosen kind of attention; a click hides a cell. */
  function allHeads(words, state, change) {
    let maps = [];
    const line = parts.lookLine(words.look);
    const box = element("div", { class: "live-pairs" });
    const nodes = [
      parts.choice(words.view, words.views, state.view, (view) => {
        state.view = view;
        build();
        change();
      }),
      element("div", { class: "live-row" }, element("span", {}, words.hides),
        element("label", {}, element("input", { type: "checkbox", name: "in_all_heads",
          checked: state.inAllHeads, onchange: (event) => { state.inAllHeads = event.target.checked; } }),
        ` ${words.inAllHeads}`),
        element("button", { type: "button", onclick: () => {
          state.hidden.clear();
          change();
        } }, words.nothing)),
      box, line.node,
    ];
    const isFuture = (row, column) => state.view === "decoder" && column > row;
    build();

    function build() {
      line.clear();
      maps = LAYERS.flatMap((layer) => HEADS.map((head) => {
        const title = fill(words.mapTitle, { layer, head });
        const map = parts.headMap({ kind: state.view, layer, head, title,
          press: (row, column) => press(layer, head, row, column),
          look: (row, column) => line.look(map, row, column) });
        return { layer, head, ...map };
      }));
      // In pairs, so that a layer's four heads stand in one row, in two or in four.
      box.replaceChildren(...maps.filter((_, at) => at % 2 === 0).map(({ node }, pair) =>
        element("div", {}, node, maps[2 * pair + 1].node)));
    }

    function press(layer, head, row, column) {
      if (isFuture(row, column)) return;
      const heads = state.inAllHeads ? maps : [{ layer, head }];
      state.hidden.toggle(heads.map((one) =>
        [moduleOf(state.view, one.layer), one.head, row, column]));
      change();
    }

    function update(now) {
      const { source, read, tokens } = now, { view, hidden } = state;
      const length = source.length + 1;
      const queries = view === "encoder" ? source : read;
      const keys = view === "decoder" ? read : source;
      const place = (all, at) => (all[at] === START ? nameOf(START)
        : fill(words.reading, { token: all[at], place: at + (all === source ? 1 : 0) }));
      const query = (row) => (view === "encoder" ? place(source, row)
        : fill(words.writing, { read: nameOf(read[row]), written: nameOf(tokens[row]) }));
      const isBeyond = (row) => row >= queries.length;
      const say = (row, column, weight, isHidden) => {
        if (isBeyond(row) || column >= keys.length) return words.cellEnded;
        const text = isFuture(row, column) ? words.cellFuture
          : isHidden ? words.cellHidden : words.cell;
        return fill(text,
          { query: query(row), key: place(keys, column), weight: weight.toFixed(2) });
      };
      box.style.setProperty("--size", length);
      for (const { layer, head, ...map } of maps) {
        const module = moduleOf(view, layer);
        map.update(now.maps[module][head], {
          queries: padded(queries.map(labelOf), view === "encoder" ? source.length : length),
          keys: padded(keys.map(labelOf), view === "decoder" ? length : source.length),
          isHidden: (row, column) => hidden.has(module, head, row, column),
          isFuture: (row, column) => isFuture(row, column) || isBeyond(row),
          current: -1, say,
          label: fill(words.mapSay, { layer, head, view: words.views[view] }),
        });
      }
      line.render();
    }
    return { nodes, update, clear: line.clear };
  }
}
