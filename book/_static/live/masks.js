// Chapter 5's batch: targets shifted by one, and who may look at whom. It needs no model.
"use strict";
{
  const parts = Live.parts;
  const { element, fill, PAD, START, END } = parts;

  const FIRST = 3, LAST = 14, MAX_SYMBOLS = 6;

  /** The row that a field holds; empty if it is, null if it holds anything else. */
  function readRow(field) {
    const pieces = field.value.split(/[\s,]+/).filter(Boolean);
    const isRow = pieces.length <= MAX_SYMBOLS && pieces.every((piece) =>
      /^\d{1,2}$/.test(piece) && Number(piece) >= FIRST && Number(piece) <= LAST);
    return isRow ? pieces.map(Number) : null;
  }

  /** transformer/batching.py, `make_batch`: both tensors one longer than the longest target. */
  function makeBatch(targets) {
    const length = 1 + Math.max(...targets.map((target) => target.length));
    const padded = (row) => [...row, ...Array(length - row.length).fill(PAD)];
    return targets.map((target) =>
      ({ tgtIn: padded([START, ...target]), tgtOut: padded([...target, END]) }));
  }

  /** transformer/masks.py, `target_mask`: a cell is "may" only if both masks allow it. */
  function stateOf(tgtIn, query, key, { causal, padding }) {
    if (padding && tgtIn[key] === PAD) return "pad";
    return causal && key > query ? "future" : "may";
  }

  Live.widgets.masks = async (container) => {
    const words = Live.texts.masks;
    const state = {
      targets: [[5, 6, 7, 8], [9], [10, 11]],
      row: 0,
      position: 2,
      causal: true,
      padding: true,
    };

    // ---- What can be changed ----

    const problem = element("p", { class: "live-masks-problem", role: "status",
      id: parts.uniqueId("problem") });
    const fields = words.fields.map((label, at) => element("input", { type: "text",
      id: parts.uniqueId("row"), name: `row${at + 1}`, autocomplete: "off",
      "aria-describedby": problem.id, value: state.targets[at].join(" ") }));
    const form = element("form", { class: "live-masks-form", onsubmit: submit },
      ...fields.flatMap((field, at) => [
        element("label", { for: field.id }, words.fields[at]), field]),
      element("button", { type: "submit" }, words.make));
    const rows = parts.choice(words.show, words.rows, "0", (row) => choose({ row: Number(row) }));
    const shift = element("table", { class: "live-masks-table" });
    const positions = element("fieldset", {}, element("legend", { class: "live-heading" },
      words.choosePosition), shift);
    const heading = element("p", { class: "live-heading", id: parts.uniqueId("mask") }, words.mask);
    const mask = element("table", { class: "live-masks-table", "data-map": "decoder",
      "aria-labelledby": heading.id,
      onclick: ({ target }) => {
        const query = target.closest("tr")?.dataset.query;
        if (query !== undefined) choose({ position: Number(query) });
      } });
    const reading = element("p", { class: "live-masks-reading", role: "status" });
    const leaking = element("p", { class: "live-masks-leaking", role: "status" });
    const masks = element("div", { class: "live-choice" },
      ...["causal", "padding"].map((name) => element("label", {},
        element("input", { type: "checkbox", name, checked: true,
          onchange: ({ target }) => choose({ [name]: target.checked }) }), words[name])));

    parts.mount(container,
      element("div", { class: "live-masks" },
        element("div", { class: "live-masks-side" }, form, rows, masks, problem),
        element("div", { class: "live-masks-main" }, positions, heading, mask)),
      reading, leaking, legend(), parts.tries(words.tries));
    render();

    function submit(event) {
      event.preventDefault();
      const read = fields.map(readRow);
      // A batch of two will do.
      const isWrong = read.map((row, at) => row === null || (row.length === 0 && at < 2));
      fields.forEach((field, at) => {
        if (isWrong[at]) field.setAttribute("aria-invalid", "true");
        else field.removeAttribute("aria-invalid");
      });
      if (isWrong.includes(true)) {
        say(problem, words.wrongInput);
        fields[isWrong.indexOf(true)].focus();
      } else {
        say(problem, "");
        choose({ targets: read.filter((row) => row.length) });
      }
    }

    function choose(change) {
      Object.assign(state, change);
      render();
    }

    // ---- The page ----

    function render() {
      const batch = makeBatch(state.targets);
      state.row = Math.min(state.row, batch.length - 1);
      const { tgtIn, tgtOut } = batch[state.row];
      state.position = Math.min(state.position, tgtIn.length - 1);
      rows.querySelectorAll("input").forEach((input, at) => {
        input.disabled = at >= batch.length;
        input.checked = at === state.row;
      });
      const states = tgtIn.map((_, query) =>
        tgtIn.map((_, key) => stateOf(tgtIn, query, key, state)));
      // What a position must predict stands one place to its right in `tgt_in`, unless it is END.
      const leaks = tgtIn.map((_, query) =>
        tgtIn[query + 1] > END && states[query][query + 1] === "may");
      renderShift(tgtIn, tgtOut);
      renderMask(tgtIn, states, leaks);
      say(reading, sentence(tgtIn, tgtOut, states, leaks));
      say(leaking, verdict(tgtIn, leaks));
    }

    function renderShift(tgtIn, tgtOut) {
      if (shift.rows[0]?.cells.length !== tgtIn.length + 1) {
        const name = parts.uniqueId("position");
        shift.replaceChildren(
          tableRow({}, words.position, tgtIn.map((_, at) => element("th", { scope: "col" },
            element("label", {}, element("input", { type: "radio", name, value: at,
              "aria-label": `${words.position} ${at}`,
              onchange: () => choose({ position: at }) }), at)))),
          tableRow({}, "tgt_in", tgtIn.map(() => element("td"))),
          tableRow({}, "tgt_out", tgtIn.map(() => element("td"))));
      }
      [...shift.rows].forEach((row, line) => [...row.cells].slice(1).forEach((cell, at) => {
        cell.classList.toggle("live-masks-chosen", at === state.position);
        if (line) cell.textContent = nameOf((line === 1 ? tgtIn : tgtOut)[at]);
        else cell.querySelector("input").checked = at === state.position;
      }));
    }

    function renderMask(tgtIn, states, leaks) {
      mask.replaceChildren(
        element("tr", {}, element("td"),
          ...tgtIn.map((key) => element("th", { scope: "col" }, nameOf(key)))),
        ...states.map((line, query) => tableRow(
          { "data-query": query, class: query === state.position ? "live-masks-chosen" : "" },
          nameOf(tgtIn[query]),
          line.map((one, key) => {
            const isUnused = one === "may" && tgtIn[query] === PAD && !isPadRead();
            const isLeak = leaks[query] && key === query + 1;
            return element("td", { "data-row": query, "data-column": key, "data-state": one,
              "data-unused": isUnused, class: isLeak && "live-masks-leak" },
            // The token that should be hidden is shown; what else a cell says, its pattern does.
            isLeak ? nameOf(tgtIn[key]) : "",
            element("span", { class: "live-masks-unseen" },
              ` ${isLeak ? words.leak : isUnused ? words.unused : words.states[one]}`));
          }))));
    }

    function tableRow(attributes, heading, cells) {
      return element("tr", attributes, element("th", { scope: "row" }, heading), ...cells);
    }

    /** What each pattern means, in the words of the figure. */
    function legend() {
      const entry = (attributes, text) => element("li", {},
        element("span", { class: "live-masks-sample", ...attributes }), text);
      return element("ul", { class: "live-masks-legend" },
        ...Object.entries(words.states).map(([one, text]) => entry({ "data-state": one }, text)),
        entry({ "data-state": "may", "data-unused": true }, words.unused),
        entry({ "data-state": "may", class: "live-masks-sample live-masks-leak" }, words.leak));
    }

    /** Either mask alone keeps real tokens from PAD, which stands on the right. */
    function isPadRead() {
      return !state.causal && !state.padding;
    }

    function nameOf(token) {
      return words.special[token] ?? String(token);
    }

    /** What the chosen position reads, whom it sees and what it must predict. */
    function sentence(tgtIn, tgtOut, states, leaks) {
      const { position } = state;
      const seen = tgtIn.filter((_, key) => states[position][key] === "may").map(nameOf);
      const list = seen.length === 1 ? seen[0]
        : fill(words.list, { most: seen.slice(0, -1).join(", "), last: seen.at(-1) });
      const text = leaks[position] ? words.reads.leak
        : tgtIn[position] !== PAD ? words.reads.token
          : isPadRead() ? words.reads.usedPad : words.reads.pad;
      return fill(text, { position, token: nameOf(tgtIn[position]), seen: list,
        next: nameOf(tgtOut[position]) });
    }

    /** Which positions see what they must predict, and who reads PAD. */
    function verdict(tgtIn, leaks) {
      const last = leaks.lastIndexOf(true);
      const leak = last < 0 ? words.leaks.none
        : fill(last ? words.leaks.many : words.leaks.one, { last, end: last + 1 });
      if (state.padding) return leak;
      const pad = !tgtIn.includes(PAD) ? words.pads.none
        : isPadRead() ? words.pads.read : words.pads.unused;
      return `${leak} ${pad}`;
    }
  };

  /** A line that has not changed is not read aloud again. */
  function say(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }
}
