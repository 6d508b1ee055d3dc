// Chapter 9's model: a sum, its answer, the chances of every token, and every head's map.
"use strict";
{
  const parts = Live.parts;
  const { element, fill, percent, LAYERS, HEADS, moduleOf, PAD, END } = parts;

  const MOMENTS = [100, 200, 300, 400, 800, 1800];
  const PLUS = 3, ZERO = 4, MAX_LENGTH = 5;
  const LABELS = ["P", "S", "E", "+", ..."0123456789"];
  /** What may be written: all but PAD. */
  const BARS = LABELS.map((label, token) => (token === PAD ? undefined : label));
  const ROWS = { cross: 4, encoder: 5, decoder: 4 }, COLUMNS = { cross: 5, encoder: 5, decoder: 4 };

  const withCommas = (number) => number.toLocaleString("en");
  const digits = (number) => [Math.floor(number / 10), number % 10];
  const sourceOf = (a, b) => {
    const [first, second] = [a, b].map((number) => digits(number).map((digit) => ZERO + digit));
    return [...first, PLUS, ...second];
  };
  const written = (tokens) => tokens.slice(1).filter((token) => token !== END)
    .map((token) => LABELS[token]).join("");
  const asText = (a, b) => [a, b].map((number) => String(number).padStart(2, "0")).join(" + ");
  const rightAnswer = (a, b) => String(a + b).padStart(3, "0");
  const readNumber = (field) =>
    (/^0*\d{1,2}$/.test(field.value.trim()) ? Number(field.value) : null);

  /** The two fields of a sum. `read()` gives whole numbers from 0 to 99, else `null`. */
  function sumFields(labels, names, numbers) {
    const fields = labels.map((label, at) =>
      element("input", { class: "live-number", name: names[at], "aria-label": label,
        type: "text", inputmode: "numeric", autocomplete: "off", maxlength: 3,
        value: numbers[at], onfocus: ({ target }) => target.select() }));
    const read = () => {
      const numbers = fields.map(readNumber);
      fields.forEach((field, at) => {
        if (numbers[at] === null) field.setAttribute("aria-invalid", "true");
        else field.removeAttribute("aria-invalid");
      });
      return numbers.includes(null) ? null : numbers;
    };
    const write = (numbers) => {
      fields.forEach((field, at) => { field.value = numbers[at]; });
      read();
    };
    const isFocused = () => fields.includes(document.activeElement);
    return { fields, read, write, isFocused };
  }

  Live.widgets.sum = async (container) => {
    const words = Live.texts.sum;
    if (container.dataset.size === "small") return small(container, words);

    const state = {
      sum: [57, 26],
      moment: MOMENTS.length - 1,
      hidden: new parts.HiddenCells(),
      forced: {},
      /** How many tokens are shown; the others are not written yet. */
      shown: Infinity,
      place: 0,
      view: "cross",
      scope: "cell",
      inAllHeads: true,
      other: [12, 49],
      transplanted: new Set(),
    };
    let model = await parts.model(`sum-${MOMENTS[state.moment]}`);

    // ---- What the model says ----

    /** The answer of `state`, or of the same model and sum with nothing changed. */
    function answer(isPlain = false) {
      const src = sourceOf(...state.sum), edits = isPlain ? {} : state.hidden.edits(), maps = {};
      let memory = model.encode(src, edits, maps);
      if (!isPlain && state.transplanted.size) {
        const other = model.encode(sourceOf(...state.other), edits);
        memory = memory.map((vector, at) => (state.transplanted.has(at) ? other[at] : vector));
      }
      const choose = (logits, position) =>
        (isPlain ? undefined : state.forced[position]) ?? parts.likeliest(logits);
      const tokens = model.write(memory, src, MAX_LENGTH, choose, edits);
      const logits = model.decode(memory, src, tokens.slice(0, -1), edits, maps);
      const shares = logits.map((row) => parts.probabilities(parts.withoutPad(row)));
      return { tokens, shares, maps };
    }

    // ---- The page ----

    const fields = sumFields([words.first, words.second], ["a", "b"], state.sum);
    const message = element("p", { class: "live-message", role: "status" });
    const result = element("output", { "data-answer": true, class: "live-answer" });
    const step = element("button", { type: "button", onclick: writeOne }, words.step);
    const undo = element("button", { type: "button", onclick: undoAll }, words.undo);
    const form = element("form", { class: "live-row", onsubmit: submit, onchange: submit },
      fields.fields[0], "+", fields.fields[1],
      element("button", { type: "submit" }, words.ask), "=", result, step, undo);
    const tokens = element("div", { class: "live-tokens" });
    const moment = parts.slider({ name: "moment", label: words.moment, min: 0,
      max: MOMENTS.length - 1, step: 1, value: state.moment,
      show: (at) => fill(words.steps, { steps: withCommas(MOMENTS[at]) }), change: changeMoment });
    const chancesHeading = element("p", { class: "live-heading" });
    const chances = parts.bars();
    const line = parts.lookLine(words.look);
    const maps = LAYERS.flatMap((layer) => HEADS.map((head) => ({ layer, head, map: null })));
    const mapBox = element("div", { class: "live-maps" });
    const transplants = words.places.map((place, at) => element("input", {
      type: "checkbox", name: `place${at}`, onchange: ({ target }) => {
        if (target.checked) state.transplanted.add(at);
        else state.transplanted.delete(at);
        render();
      } }));
    const allSums = sumsMap(words, { ask: (a, b) => ask([a, b]), model: () => state.moment,
      hidden: state.hidden });

    parts.mount(container, element("div", { class: "live-top" }, form, message), tokens, moment,
      element("div", {}, chancesHeading, chances.node),
      parts.choice(words.view, words.views, state.view, (view) => {
        state.view = view;
        line.clear();
        buildMaps();
        render();
      }),
      element("div", { class: "live-row" },
        element("span", {}, words.choose), chooser(words.choose, words.scopes, "scope"),
        element("span", {}, words.where),
        chooser(words.where, { all: words.heads.all, one: words.heads.one }, "inAllHeads",
          (value) => value === "all")),
      mapBox, line.node, transplant(), allSums.node, parts.tries(words.tries),
      element("p", { class: "live-look" }, words.stored));
    // The workers are not part of what is removed with the widget.
    container.querySelector(".live-panel").addEventListener("close", allSums.stop);
    buildMaps();
    render();

    function chooser(label, options, name, read = (value) => value) {
      return element("select", { "aria-label": label,
        onchange: (event) => { state[name] = read(event.target.value); } },
      ...Object.entries(options).map(([value, text]) => element("option", { value }, text)));
    }

    function transplant() {
      const other = sumFields([words.otherFirst, words.otherSecond], ["c", "d"], state.other);
      const wrong = element("p", { class: "live-look", role: "status" });
      const change = () => {
        const numbers = other.read();
        wrong.textContent = numbers === null ? words.wrongInput : "";
        if (numbers === null) return;
        state.other = numbers;
        render();
      };
      other.fields.forEach((field) => field.addEventListener("input", change));
      return element("details", {}, element("summary", {}, words.transplant),
        element("p", {}, words.transplantExplain),
        element("div", { class: "live-row" },
          ...words.places.map((place, at) => element("label", {}, transplants[at], ` ${place}`)),
          words.other, other.fields[0], "+", other.fields[1]), wrong);
    }

    function submit(event) {
      event.preventDefault();
      const numbers = fields.read();
      if (numbers === null) refuse();
      else ask(numbers);
    }

    function refuse(reason = words.wrongInput) {
      message.textContent = reason;
      result.textContent = "";
    }

    function ask(numbers) {
      Object.assign(state, { sum: numbers, forced: {}, shown: Infinity, place: 0 });
      render();
    }

    function writeOne() {
      if (!model || fields.read() === null) return;
      const isWhole = state.shown >= answer().tokens.length - 1;
      state.shown = isWhole ? 0 : state.shown + 1;
      if (isWhole) state.forced = {};
      state.place = Math.min(state.shown, MAX_LENGTH - 2);
      render();
    }

    async function changeMoment(at) {
      state.moment = at;
      const loaded = await parts.model(`sum-${MOMENTS[at]}`).catch(() => null);
      // The slider may have moved on while these weights came.
      if (at !== state.moment) return;
      model = loaded;
      render();
    }

    function press(layer, head, row, column) {
      const { view, scope, inAllHeads } = state;
      if (isFuture(row, column)) return;
      const all = (length) => Array.from({ length }, (_, at) => at);
      const queries = scope === "map" ? all(ROWS[view]) : [row];
      const keys = scope === "cell" ? [column] : all(COLUMNS[view]);
      const places = (inAllHeads ? LAYERS : [layer]).flatMap((one) =>
        (inAllHeads ? HEADS : [head]).flatMap((other) => queries.flatMap((query) =>
          keys.filter((key) => !isFuture(query, key))
            .map((key) => [moduleOf(view, one), other, query, key]))));
      state.hidden.toggle(places);
      render();
    }

    function undoAll() {
      state.hidden.clear();
      state.transplanted.clear();
      state.forced = {};
      transplants.forEach((box) => { box.checked = false; });
      render();
    }

    /** What the reader has changed, in phrases. */
    function changes() {
      const forced = Object.keys(state.forced).map((position) => words.written[position - 1]);
      const taken = [...state.transplanted].sort().map((at) => words.places[at]);
      return [
        ...state.hidden.describe(words),
        ...(taken.length ? [fill(words.taken, { places: taken.join(", "),
          sum: asText(...state.other) })] : []),
        ...(forced.length ? [fill(words.forced, { places: forced.join(", ") })] : []),
      ];
    }

    function isFuture(row, column) {
      return state.view === "decoder" && column > row;
    }

    function buildMaps() {
      mapBox.replaceChildren(...maps.map((one) => {
        const { layer, head } = one;
        one.map = parts.headMap({ kind: state.view, layer, head,
          title: fill(words.mapTitle, { layer, head }),
          press: (row, column) => press(layer, head, row, column),
          look: (row, column) => line.look(one.map, row, column) });
        return one.map.node;
      }));
    }

    function render() {
      undo.disabled = changes().length === 0;
      // Another moment's answer would be taken for this one's.
      if (!model) {
        refuse(Live.texts.open.failed);
        return;
      }
      const now = answer();
      const isWhole = state.shown >= now.tokens.length - 1;
      const shown = now.tokens.slice(0, isWhole ? undefined : state.shown + 1);
      state.place = Math.min(state.place, now.shares.length - 1);
      renderTokens(now, shown);
      renderMessage(now, shown, isWhole);
      renderChances(now);
      renderMaps(now, isWhole ? Infinity : state.shown);
      line.render();
      // What was typed and refused is not what is shown. Weights may come while one types.
      if (!fields.isFocused()) fields.write(state.sum);
      allSums.update();
    }

    function renderTokens({ tokens: all, shares }, shown) {
      const controls = () => [...tokens.querySelectorAll("button, select")];
      const focused = controls().indexOf(document.activeElement);
      tokens.replaceChildren(...shares.map((share, at) => {
        const token = all[at + 1], position = at + 1, isShown = position < shown.length;
        const name = token === END ? "END" : LABELS[token];
        return element("div", { class: `live-token ${state.forced[position] ? "live-forced" : ""}` },
          element("button", { type: "button", "aria-current": at === state.place && "true",
            "aria-label": fill(isShown ? words.tokenSay : words.unwritten,
              { place: words.written[at], token: name, share: percent(share[token]) }),
            onclick: () => { state.place = at; render(); } },
          element("strong", {}, isShown ? name : "?"),
          element("small", {}, isShown ? percent(share[token]) : " ")),
          at < 3 && isShown ? insteadOf(position) : "");
      }));
      controls()[focused]?.focus();
    }

    /** Lets the reader write another digit than the model. */
    function insteadOf(position) {
      const place = words.written[position - 1];
      const select = element("select", { "aria-label": fill(words.instead, { place }),
        onchange: () => {
          if (select.value === "") delete state.forced[position];
          else state.forced[position] = Number(select.value);
          // What was written behind it was written for another prefix.
          for (const later of Object.keys(state.forced)) {
            if (later > position) delete state.forced[later];
          }
          state.place = Math.min(position, MAX_LENGTH - 2);
          render();
        } },
      element("option", { value: "" }, words.own),
      ...[..."0123456789"].map((digit) => element("option", { value: ZERO + Number(digit) }, digit)));
      select.value = state.forced[position] ?? "";
      return select;
    }

    function renderMessage(now, shown, isWhole) {
      const sum = `${asText(...state.sum)} = ${written(shown)}`;
      result.textContent = written(shown);
      const said = [];
      if (isWhole) {
        const right = rightAnswer(...state.sum);
        said.push(fill(written(shown) === right && shown.length === MAX_LENGTH
          ? words.right : words.wrong, { sum, right }));
      } else {
        const share = now.shares[state.shown], best = parts.likeliest(share);
        said.push(fill(state.shown ? words.unfinished : words.begin,
          { sum, next: best === END ? "END" : LABELS[best], share: percent(share[best]) }));
      }
      const changed = changes();
      if (changed.length) {
        said.push(fill(words.edited,
          { changes: changed.join("; "), plain: written(answer(true).tokens) }));
      }
      message.textContent = said.join(" ");
      step.textContent = isWhole ? words.step : words.next;
    }

    function renderChances({ tokens: all, shares }) {
      const prefix = ["START", ...all.slice(1, state.place + 1).map((token) => LABELS[token])].join(" ");
      const share = shares[state.place];
      const best = share.map((value, token) => [value, token])
        .filter(([value]) => value >= 0.0005).sort((a, b) => b[0] - a[0]).slice(0, 3)
        .map(([value, token]) => `${LABELS[token]} ${percent(value)}`).join(", ");
      chancesHeading.textContent = fill(words.chances, { prefix });
      chances.update(share, { labels: BARS, chosen: all[state.place + 1],
        label: fill(words.chancesSay, { prefix, best }) });
    }

    function renderMaps(now, shown) {
      const { view } = state, src = sourceOf(...state.sum);
      const queryTokens = view === "encoder" ? src : now.tokens.slice(1);
      const keyTokens = view === "decoder" ? now.tokens.slice(0, -1) : src;
      const nameOf = (token) => (token === END ? "E" : LABELS[token]);
      const query = (row) => (view === "encoder"
        ? fill(words.reading, { place: words.places[row], token: LABELS[src[row]] })
        : fill(words.writing, { place: words.written[row], token: nameOf(queryTokens[row]) }));
      const key = (column) => (view === "decoder" ? words.read[column]
        : fill(words.reading, { place: words.places[column], token: LABELS[src[column]] }));
      const numRows = view === "encoder" ? src.length : Math.min(queryTokens.length, Math.max(shown, 1));
      const numColumns = view === "decoder" ? numRows : src.length;
      // What is not written yet, or never, keeps its room, so that nothing moves or loses the focus.
      const padded = (tokens, shownOnes, length) =>
        Array.from({ length }, (_, at) => (at < shownOnes ? nameOf(tokens[at]) : ""));
      const isEmpty = (row, column) => row >= numRows || column >= numColumns;
      for (const { layer, head, map } of maps) {
        const module = moduleOf(view, layer);
        const isHidden = (row, column) => state.hidden.has(module, head, row, column);
        map.update(now.maps[module][head].slice(0, numRows), {
          queries: padded(queryTokens, numRows, ROWS[view]),
          keys: padded(keyTokens, numColumns, COLUMNS[view]), isHidden,
          isFuture: (row, column) => isFuture(row, column) || isEmpty(row, column),
          current: view === "encoder" ? -1 : state.place,
          label: fill(words.mapSay, { layer, head, view: words.views[view] }),
          say: (row, column, weight, hidden) => fill(isEmpty(row, column) ? words.cellEmpty
            : isFuture(row, column) ? words.cellFuture : hidden ? words.cellHidden : words.cell,
            { query: query(row), key: key(column), weight: weight.toFixed(2) }),
        });
      }
    }
  };

  /** All 10,000 sums, asked by workers, so that the page stays usable. */
  function sumsMap(words, { ask, model, hidden }) {
    const SIZE = 100, NUM_KEPT = 5;
    const verdicts = new Uint8Array(SIZE * SIZE); // 0: not asked, 1: right, 2: wrong
    let workers = [], point = [57, 26], asked = null, run = null, finished = [];
    const button = element("button", { type: "button", onclick: () => (run ? stop() : start()) });
    const right = element("strong", { "data-right": true }), total = element("span");
    const summary = element("p", {}, right, " ", total);
    const log = element("ul", { class: "live-finished" });
    const said = element("p", { class: "live-look", role: "status" });
    const canvas = element("canvas", { width: SIZE, height: SIZE, tabindex: 0, role: "application",
      "aria-label": words.allMap, onclick: choose, onmousemove: hover, onkeydown: move,
      onfocus: () => show() });
    const results = element("div", { class: "live-all", hidden: true }, canvas,
      element("div", {}, summary, element("p", { class: "live-look" }, words.allLegend), said));
    const node = element("div", {}, button, results, log);
    button.textContent = words.all;

    const key = () => JSON.stringify([model(), hidden.list()]);

    async function start() {
      const own = run = {};
      asked = key();
      verdicts.fill(0);
      results.hidden = false;
      button.textContent = words.stop;
      const buffer = await parts.checkpoint(`sum-${MOMENTS[model()]}`).catch(() => null);
      // Stopped, or begun anew, while the weights came.
      if (own !== run) return;
      if (!buffer) {
        stop();
        said.textContent = Live.texts.open.failed;
        return;
      }
      const cells = hidden.list();
      const code = `(${askAll})((${defineTransformer})())`;
      const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
      const number = Math.min(4, Math.max(1, (navigator.hardwareConcurrency ?? 2) - 1));
      workers = Array.from({ length: number }, (_, index) => {
        const worker = new Worker(url);
        worker.onmessage = ({ data }) => {
          verdicts.set(data.verdicts, data.a * SIZE);
          draw();
          if (verdicts.every((verdict) => verdict)) finish();
        };
        worker.postMessage({ buffer, cells, index, number });
        return worker;
      });
      URL.revokeObjectURL(url);
      draw();
    }

    function finish() {
      stop();
      said.textContent = words.allDone;
      const conditions = [fill(words.steps, { steps: withCommas(MOMENTS[model()]) }),
        ...hidden.describe(words)];
      const count = withCommas(Number(right.textContent));
      finished = [`${count} – ${conditions.join("; ")}`, ...finished].slice(0, NUM_KEPT);
      log.replaceChildren(...finished.map((one) => element("li", {}, one)));
    }

    function stop() {
      workers.forEach((worker) => worker.terminate());
      workers = [];
      run = null;
      button.textContent = words.all;
    }

    /** What was asked of another model, or with other cells hidden, says nothing any more. */
    function update() {
      if (asked === null || asked === key()) return;
      stop();
      asked = null;
      verdicts.fill(0);
      results.hidden = true;
    }

    function draw() {
      const context = canvas.getContext("2d");
      const picture = context.createImageData(SIZE, SIZE);
      const style = getComputedStyle(canvas);
      const colors = ["--live-line", "--live-empty", "--live-orange"].map((name) =>
        style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16)));
      verdicts.forEach((verdict, at) => picture.data.set([...colors[verdict], 255], 4 * at));
      context.putImageData(picture, 0, 0);
      right.textContent = verdicts.filter((verdict) => verdict === 1).length;
      total.textContent = fill(words.allRight,
        { asked: withCommas(verdicts.filter((verdict) => verdict).length) });
    }

    function show() {
      const [a, b] = point;
      const verdict = ["unknown", "right", "wrong"][verdicts[a * SIZE + b]];
      said.textContent = fill(words.point, { sum: asText(a, b), verdict: words.verdicts[verdict] });
    }

    function pointAt(event) {
      const box = canvas.getBoundingClientRect();
      const at = (offset, length) =>
        Math.min(SIZE - 1, Math.max(0, Math.floor((SIZE * offset) / length)));
      point = [at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width)];
    }

    function hover(event) {
      pointAt(event);
      show();
    }

    function choose(event) {
      pointAt(event);
      show();
      ask(...point);
    }

    function move(event) {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (event.key === "Enter") ask(...point);
      else if (step) point = point.map((at, axis) => Math.min(SIZE - 1, Math.max(0, at + step[axis])));
      else return;
      event.preventDefault();
      show();
    }

    return { node, update, stop };
  }

  /**
   * Runs in a worker. As long as what has been written is right, the next input is known:
   * one pass over the right answer tells whether greedy decoding writes it.
   */
  function askAll(library) {
    onmessage = ({ data: { buffer, cells, index, number } }) => {
      const model = new library.Transformer(library.readCheckpoint(buffer));
      const edits = Object.fromEntries(cells.map(([name, list]) => {
        const set = new Set(list);
        return [name, (head, query, key) => set.has(`${head},${query},${key}`)];
      }));
      const ZERO = 4, PLUS = 3, tokens = (n) => [ZERO + Math.floor(n / 10), ZERO + (n % 10)];
      for (let a = index; a < 100; a += number) {
        const verdicts = new Uint8Array(100);
        for (let b = 0; b < 100; b++) {
          const sum = a + b;
          const due = [ZERO + Math.floor(sum / 100), ...tokens(sum % 100), library.END];
          const logits = model.forward([...tokens(a), PLUS, ...tokens(b)],
            [library.START, ...due.slice(0, 3)], edits);
          verdicts[b] = logits.every((row, at) => library.likeliest(row) === due[at]) ? 1 : 2;
        }
        postMessage({ a, verdicts });
      }
    };
  }

  /** The preface: a sum, its answer, and one map. */
  async function small(container, words) {
    const model = await parts.model(`sum-${MOMENTS.at(-1)}`);
    const fields = sumFields([words.first, words.second], ["a", "b"], [57, 26]);
    const result = element("output", { "data-answer": true, class: "live-answer" });
    const message = element("p", { class: "live-message", role: "status" });
    const map = parts.headMap({ kind: "cross", layer: "mean", head: "mean", title: words.meanMap });
    const submit = (event) => {
      event?.preventDefault();
      const numbers = fields.read();
      if (numbers) return answer(numbers);
      message.textContent = words.wrongInput;
      result.textContent = "";
    };
    parts.mount(container,
      element("form", { class: "live-row", onsubmit: submit, onchange: submit },
        fields.fields[0], "+", fields.fields[1],
        element("button", { type: "submit" }, words.ask), "=", result),
      message, map.node, element("p", {}, words.about), parts.linked(words.more));
    submit();

    function answer([a, b]) {
      const src = sourceOf(a, b), maps = {};
      const tokens = model.greedyDecode(src, MAX_LENGTH);
      model.forward(src, tokens.slice(0, -1), {}, maps);
      const text = written(tokens), right = rightAnswer(a, b);
      result.textContent = text;
      message.textContent = fill(text === right ? words.right : words.wrong,
        { sum: `${asText(a, b)} = ${text}`, right });
      map.update(parts.meanOfHeads(maps), { queries: tokens.slice(1).map((token) => LABELS[token]),
        keys: src.map((token) => LABELS[token]), isHidden: () => false, isFuture: () => false,
        label: words.meanMap });
    }
  }
}
