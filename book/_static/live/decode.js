// Chapter 7's hardly trained copier: the chances of the next token, what temperature, top-k and
// top-p make of them, and the answers that come of it.
"use strict";
{
  const parts = Live.parts;
  const { element, fill, percent, START, END } = parts;

  const LONGEST = 8, MAX_LENGTH = 10, NUM_BEAMS = 4, NUM_DRAWN = 5;
  /** By token, for the bars. PAD is never written. */
  const LABELS = [undefined, "S", "E", ...Array.from({ length: 12 }, (_, at) => 3 + at)];
  const NUM_CHOICES = LABELS.length - 1;

  const nameOf = (token) => ({ [START]: "START", [END]: "END" })[token] ?? String(token);
  const asText = (tokens) => tokens.map(nameOf).join(" ");
  const isWhole = (tokens) => tokens.at(-1) === END || tokens.length === MAX_LENGTH - 1;

  Live.widgets.decode = async (container) => {
    const words = Live.texts.decode;
    const model = await parts.model("unsure");
    const state = {
      source: [5, 9, 12, 7, 3, 10, 4, 8],
      /** What follows START; `rules` says of each token which rule chose it. */
      tokens: [],
      rules: [],
      /** How many of the tokens stand before the one whose chances are shown. */
      at: 0,
      temperature: 1,
      topK: NUM_CHOICES,
      topP: 1,
      /** Answers, `{name, tokens}`: what greedy decoding and the beams write, what was drawn. */
      searched: [],
      drawn: [],
      /** The answer that `tokens` are. */
      chosen: null,
      said: words.begin,
    };

    // ---- What the model says ----

    let memory;
    const logitsOf = (tokens) =>
      model.decode(memory, state.source, [START, ...tokens]).map(parts.withoutPad);
    const chances = (logits) => parts.probabilities(logits, { temperature: state.temperature,
      topK: state.topK < NUM_CHOICES ? state.topK : null, topP: state.topP });

    /** The log-probability, as a whole and per token. */
    function scoresOf(tokens) {
      const logits = logitsOf(tokens.slice(0, -1));
      const logs = tokens.map((token, at) => Math.log(parts.probabilities(logits[at])[token]));
      const whole = logs.reduce((sum, log) => sum + log, 0);
      return { whole, perToken: whole / tokens.length };
    }

    function verdictOn(tokens) {
      const right = [...state.source, END];
      const count = right.filter((token, at) => tokens[at] === token).length;
      return fill(count === right.length ? words.right : words.wrong,
        { count, total: right.length });
    }

    function ruleName() {
      const { temperature, topK, topP } = state;
      return [fill(words.rules.temperature, { value: temperature }),
        topK < NUM_CHOICES && fill(words.rules.topK, { value: topK }),
        topP < 1 && fill(words.rules.topP, { value: topP })].filter(Boolean).join(", ");
    }

    // ---- What the reader does ----

    function take(source) {
      if (String(source) === String(state.source) && memory) return;
      memory = model.encode(source);
      const beams = parts.beamSearch(model, source, MAX_LENGTH, NUM_BEAMS);
      Object.assign(state, { source, drawn: [], searched: [
        { name: words.rules.greedy, tokens: model.greedyDecode(source, MAX_LENGTH).slice(1) },
        { name: words.rules.beams, tokens: beams.tokens.slice(1) },
      ] });
      startAgain();
    }

    function startAgain() {
      Object.assign(state, { tokens: [], rules: [], at: 0, chosen: null, said: words.begin });
      render();
    }

    /** Goes on from the chosen prefix. What was written behind it is dropped. */
    function drawToken() {
      const prefix = state.tokens.slice(0, state.at);
      const logits = logitsOf(prefix).at(-1), shares = chances(logits);
      const token = parts.draw(shares, Math.random());
      state.tokens = [...prefix, token];
      state.rules = [...state.rules.slice(0, state.at), ruleName()];
      state.at = state.tokens.length;
      state.chosen = null;
      state.said = fill(words.drawn, { token: nameOf(token), share: percent(shares[token]),
        own: percent(parts.probabilities(logits)[token]) });
      if (isWhole(state.tokens)) keepAnswer();
    }

    /** Nothing follows a whole answer, so the next draw begins a new one. */
    function keepAnswer() {
      const { tokens } = state, rules = [...new Set(state.rules)];
      const answer = { tokens, name: rules.length > 2 ? words.rules.many : rules.join(words.then) };
      state.drawn = [answer, ...state.drawn].slice(0, NUM_DRAWN);
      state.chosen = answer;
      state.at = 0;
      state.said = `${verdictOn(tokens)} ${words.complete}`;
    }

    function drawRest() {
      do drawToken(); while (state.at > 0);
      render();
    }

    function load(answer) {
      const { name, tokens } = answer;
      Object.assign(state, { tokens, rules: tokens.map(() => name), at: 0, chosen: answer,
        said: `${verdictOn(tokens)} ${words.loaded}` });
      render();
    }

    // ---- The page ----

    const form = parts.sourceForm({ words, value: state.source, longest: LONGEST, take,
      refuse: () => { written.textContent = said.textContent = ""; } });
    const tiles = Array.from({ length: MAX_LENGTH }, (_, at) => {
      const name = element("strong"), share = element("small");
      const button = element("button", { type: "button",
        onclick: () => { state.at = at; render(); } }, name, share);
      return { button, name, share };
    });
    const written = element("span", { "data-answer": true });
    const said = element("span");
    const heading = element("p", { class: "live-heading" });
    const bars = parts.bars();
    const kept = element("p");
    const rows = Array.from({ length: 2 + NUM_DRAWN }, () => answerRow(words, load));

    const onClick = (label, change) =>
      element("button", { type: "button", onclick: change }, label);
    const slider = (name, key, min, max, step, show) => parts.slider({ name, label: words[name],
      min, max, step, value: state[key], show,
      change: (value) => { state[key] = value; render(); } });
    const orAll = (most) => (value) =>
      (value < most ? String(value) : fill(words.all, { value }));
    parts.mount(container, form,
      element("div", {}, element("p", { class: "live-heading" }, words.prefix),
        element("div", { class: "live-prefix", role: "group", "aria-label": words.prefix },
          ...tiles.map(({ button }) => button))),
      element("div", { class: "live-row" },
        onClick(words.drawToken, () => { drawToken(); render(); }),
        onClick(words.drawRest, drawRest), onClick(words.startAgain, startAgain)),
      element("p", { class: "live-message", role: "status" }, written, " ", said),
      element("div", {}, heading, bars.node, kept,
        element("p", { class: "live-hint" }, words.legend)),
      element("div", {},
        slider("temperature", "temperature", 0.2, 3, 0.1, String),
        slider("top_k", "topK", 1, NUM_CHOICES, 1, orAll(NUM_CHOICES)),
        slider("top_p", "topP", 0.05, 1, 0.05, orAll(1))),
      element("table", { class: "live-answers" }, element("caption", {}, words.answers),
        element("thead", {}, element("tr", {},
          ...words.columns.map((name) => element("th", { scope: "col" }, name)))),
        element("tbody", {}, ...rows.map(({ node }) => node))),
      parts.tries(words.tries));
    take(state.source);

    function render() {
      const logits = logitsOf(state.tokens);
      const own = logits.map((row) => parts.probabilities(row));
      renderPrefix(own);
      renderBars(own[state.at], chances(logits[state.at]));
      const answers = [...state.searched, ...state.drawn];
      rows.forEach((row, at) => {
        const answer = answers[at];
        row.update(answer && { answer, ...scoresOf(answer.tokens), right: [...state.source, END],
          verdict: verdictOn(answer.tokens), isChosen: answer === state.chosen });
      });
    }

    function renderPrefix(own) {
      const tokens = [START, ...state.tokens], isEnded = isWhole(state.tokens);
      tiles.forEach(({ button, name, share }, at) => {
        button.hidden = at >= tokens.length;
        if (button.hidden) return;
        button.disabled = isEnded && at === tokens.length - 1;
        button.classList.toggle("live-later", at > state.at);
        if (at === state.at) button.setAttribute("aria-current", "true");
        else button.removeAttribute("aria-current");
        name.textContent = nameOf(tokens[at]);
        share.textContent = at > 0 ? percent(own[at - 1][tokens[at]]) : "\u00a0";
      });
      written.textContent = asText(state.tokens.filter((token) => token > END));
      said.textContent = state.said;
    }

    function renderBars(own, shares) {
      const prefix = asText([START, ...state.tokens.slice(0, state.at)]);
      const isKept = (token) => shares[token] > 0;
      const keptShares = own.filter((_, token) => isKept(token));
      const likely = shares.map((share, token) => ({ share, token }))
        .filter(({ share }) => share > 0).sort((a, b) => b.share - a.share).slice(0, 3)
        .map(({ share, token }) => `${nameOf(token)} ${percent(share)}`).join(", ");
      heading.textContent = fill(words.chances, { prefix });
      kept.textContent = fill(words.kept, { count: keptShares.length, total: NUM_CHOICES,
        share: percent(keptShares.reduce((sum, share) => sum + share, 0)) });
      bars.update(shares, { labels: LABELS, before: own, cut: (token) => !isKept(token),
        chosen: state.tokens[state.at],
        label: `${fill(words.chancesSay, { prefix, likely })} ${kept.textContent}` });
    }
  };

  const withMinus = (score) => score.toFixed(3).replace("-", "\u2212");

  /** A row of the table, empty as long as there is no answer for it. */
  function answerRow(words, load) {
    let shown = null;
    const button = element("button", { type: "button", onclick: () => load(shown) });
    const cells = [element("td"), element("td")];
    const node = element("tr", {}, element("th", { scope: "row" }, button), ...cells);

    function update(row) {
      shown = row?.answer;
      button.disabled = !row;
      button.textContent = row ? shown.name : words.empty;
      button.setAttribute("aria-pressed", Boolean(row?.isChosen));
      cells[0].replaceChildren(...(row ? [
        ...shown.tokens.flatMap((token, at) => [
          element(token === row.right[at] ? "span" : "u", {}, nameOf(token)), " "]),
        ...row.right.slice(shown.tokens.length).flatMap(() => [element("u", {}, "–"), " "]),
        element("small", {}, row.verdict)] : []));
      cells[1].replaceChildren(...(row ? [withMinus(row.perToken), element("small", {},
        fill(words.whole, { score: withMinus(row.whole) }))] : []));
    }
    return { node, update };
  }
}
