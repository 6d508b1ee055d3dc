// The package's Transformer in JavaScript, for one source and one target at a time: only the
// forward pass, with its names. A worker receives the text of this function, so it must not
// use anything from outside.
function defineTransformer() {
  "use strict";
  const PAD = 0, START = 1, END = 2;

  // ---- Checkpoints (transformer/checkpoint.py): a safetensors file of float16 numbers ----

  function readCheckpoint(buffer) {
    const headerLength = Number(new DataView(buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, headerLength)));
    const { __metadata__: metadata, ...tensors } = header;
    const weights = {};
    for (const [name, { dtype, data_offsets: [begin, end] }] of Object.entries(tensors)) {
      if (dtype !== "F16") throw new TypeError(`${name} must be F16, got ${dtype}`);
      const bytes = buffer.slice(8 + headerLength + begin, 8 + headerLength + end);
      weights[name] = Float32Array.from(new Uint16Array(bytes), fromFloat16);
    }
    return { config: JSON.parse(metadata["transformer.config"]), weights };
  }

  function fromFloat16(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  // ---- Parts. A sequence is an array of vectors, one array for each position ----

  class Linear {
    constructor(weights, name) {
      this.weight = weights[`${name}.weight`];
      this.bias = weights[`${name}.bias`];
    }

    forward(x) {
      const { weight, bias } = this, width = x.length, out = new Array(bias.length);
      for (let row = 0, at = 0; row < out.length; row++, at += width) {
        let sum = 0;
        for (let column = 0; column < width; column++) sum += weight[at + column] * x[column];
        out[row] = sum + bias[row];
      }
      return out;
    }
  }

  class LayerNorm {
    constructor(weights, name) {
      this.weight = weights[`${name}.weight`];
      this.bias = weights[`${name}.bias`];
    }

    forward(x) {
      let mean = 0, variance = 0;
      for (const entry of x) mean += entry / x.length;
      for (const entry of x) variance += (entry - mean) ** 2 / x.length;
      const scale = 1 / Math.sqrt(variance + 1e-5);
      return x.map((entry, i) => (entry - mean) * scale * this.weight[i] + this.bias[i]);
    }
  }

  const add = (x, y) => x.map((entry, i) => entry + y[i]);

  // Equation 1 of the paper, a head at a time. `mayAttend(head, query, key)` is the mask.
  class MultiHeadAttention {
    constructor(weights, name, numHeads) {
      this.name = name;
      this.numHeads = numHeads;
      for (const part of ["query", "key", "value", "output"]) {
        this[part] = new Linear(weights, `${name}.${part}_projection`);
      }
    }

    forward(x, memory, mayAttend) {
      const queries = x.map((vector) => this.query.forward(vector));
      const keys = memory.map((vector) => this.key.forward(vector));
      const values = memory.map((vector) => this.value.forward(vector));
      const width = queries[0].length / this.numHeads;
      const merged = queries.map((query) => query.map(() => 0));
      const weights = [];
      for (let head = 0; head < this.numHeads; head++) {
        const from = head * width, to = from + width;
        weights.push(queries.map((query, row) => {
          const scores = keys.map((key, column) => {
            if (!mayAttend(head, row, column)) return -Infinity;
            let sum = 0;
            for (let i = from; i < to; i++) sum += query[i] * key[i];
            return sum / Math.sqrt(width);
          });
          const shares = softmax(scores);
          for (let column = 0; column < shares.length; column++) {
            for (let i = from; i < to; i++) merged[row][i] += shares[column] * values[column][i];
          }
          return shares;
        }));
      }
      return { output: merged.map((vector) => this.output.forward(vector)), weights };
    }
  }

  // A query that may attend to nothing gets zeros.
  function softmax(scores) {
    const largest = Math.max(...scores);
    if (largest === -Infinity) return scores.map(() => 0);
    const powers = scores.map((score) => Math.exp(score - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  class FeedForward {
    constructor(weights, name) {
      this.expand = new Linear(weights, `${name}.expand`);
      this.contract = new Linear(weights, `${name}.contract`);
    }

    forward(x) {
      return this.contract.forward(this.expand.forward(x).map((entry) => Math.max(0, entry)));
    }
  }

  class AddNorm {
    constructor(weights, name, normFirst) {
      this.norm = new LayerNorm(weights, `${name}.norm`);
      this.normFirst = normFirst;
    }

    // `sublayer` maps a whole sequence.
    forward(x, sublayer) {
      const norm = (vector) => this.norm.forward(vector);
      const residual = (change) => x.map((vector, position) => add(vector, change[position]));
      return this.normFirst ? residual(sublayer(x.map(norm))) : residual(sublayer(x)).map(norm);
    }
  }

  class Layer {
    constructor(weights, name, config, attentions) {
      this.attentions = attentions.map((part) => ({
        isCross: part === "cross_attention",
        attention: new MultiHeadAttention(weights, `${name}.${part}`, config.num_heads),
        addNorm: new AddNorm(weights, `${name}.${part}_add_norm`, config.norm_first),
      }));
      this.feedForward = new FeedForward(weights, `${name}.feed_forward`);
      this.addNorm = new AddNorm(weights, `${name}.feed_forward_add_norm`, config.norm_first);
    }

    // `attend(attention, x, memory, isCross)` computes and records one attention.
    forward(x, memory, attend) {
      for (const { attention, addNorm, isCross } of this.attentions) {
        x = addNorm.forward(x, (y) => attend(attention, y, isCross ? memory : y, isCross));
      }
      return this.addNorm.forward(x, (y) => y.map((vector) => this.feedForward.forward(vector)));
    }
  }

  class Stack {
    constructor(weights, name, numLayers, config, attentions) {
      this.layers = Array.from({ length: numLayers }, (_, layer) =>
        new Layer(weights, `${name}.layers.${layer}`, config, attentions));
      this.norm = config.final_norm ? new LayerNorm(weights, `${name}.norm`) : null;
    }

    forward(x, memory, attend) {
      for (const layer of this.layers) x = layer.forward(x, memory, attend);
      return this.norm ? x.map((vector) => this.norm.forward(vector)) : x;
    }
  }

  class Transformer {
    constructor({ config, weights }) {
      this.config = config;
      this.positions = sinusoids(config.max_len, config.d_model);
      this.srcEmbedding = weights["src_embedding.weight"];
      this.tgtEmbedding = weights["tgt_embedding.weight"];
      this.encoder = new Stack(
        weights, "encoder", config.num_encoder_layers, config, ["self_attention"]);
      this.decoder = new Stack(
        weights, "decoder", config.num_decoder_layers, config,
        ["self_attention", "cross_attention"]);
      this.outputProjection = new Linear(weights, "output_projection");
    }

    embed(tokens, embedding) {
      const width = this.config.d_model;
      return tokens.map((token, position) => this.positions[position].map((sinusoid, i) =>
        embedding[token * width + i] * Math.sqrt(width) + sinusoid));
    }

    // What `edits` hide, `{module name: (head, query, key) => is it hidden}`, nobody sees;
    // the weights of every attention are written into `maps`, by the module's name.
    attending(tokens, isCausal, src, edits, maps) {
      return (attention, x, memory, isCross) => {
        const isHidden = edits[attention.name] ?? (() => false);
        const { output, weights } = attention.forward(x, memory, (head, query, key) =>
          (isCross ? src[key] !== PAD : tokens[key] !== PAD && (!isCausal || key <= query))
          && !isHidden(head, query, key));
        maps[attention.name] = weights;
        return output;
      };
    }

    encode(src, edits = {}, maps = {}) {
      const x = this.embed(src, this.srcEmbedding);
      return this.encoder.forward(x, null, this.attending(src, false, src, edits, maps));
    }

    // Logits at every target position.
    decode(memory, src, tgtIn, edits = {}, maps = {}) {
      const x = this.embed(tgtIn, this.tgtEmbedding);
      const attend = this.attending(tgtIn, true, src, edits, maps);
      return this.decoder.forward(x, memory, attend)
        .map((vector) => this.outputProjection.forward(vector));
    }

    forward(src, tgtIn, edits = {}, maps = {}) {
      return this.decode(this.encode(src, edits, maps), src, tgtIn, edits, maps);
    }

    // Tokens with START, END included; `choose` picks from the logits of a position.
    write(memory, src, maxLength, choose = likeliest, edits = {}) {
      const tokens = [START];
      while (tokens.length < maxLength && tokens.at(-1) !== END) {
        tokens.push(choose(this.decode(memory, src, tokens, edits).at(-1), tokens.length));
      }
      return tokens;
    }

    greedyDecode(src, maxLength, edits = {}) {
      return this.write(this.encode(src, edits), src, maxLength, likeliest, edits);
    }
  }

  // Rounded once, as the package's table is.
  function sinusoids(maxLength, width) {
    return Array.from({ length: maxLength }, (_, position) => Array.from({ length: width }, (_, i) => {
      const angle = position * Math.exp((-Math.log(10000) * (i - (i % 2))) / width);
      return Math.fround(i % 2 ? Math.cos(angle) : Math.sin(angle));
    }));
  }

  // PAD is never written.
  function likeliest(logits) {
    let best = START;
    logits.forEach((logit, token) => {
      if (token !== PAD && logit > logits[best]) best = token;
    });
    return best;
  }

  const withoutPad = (logits) =>
    Array.from(logits, (logit, token) => (token === PAD ? -Infinity : logit));

  // ---- transformer/sampling.py ----

  // The distribution to draw from. `logits` may hold -Infinity for what is ruled out.
  function probabilities(logits, { temperature = 1, topK = null, topP = null } = {}) {
    const largest = Math.max(...logits);
    const scaled = Array.from(logits, (logit) => (logit - largest) / temperature);
    return softmax(filterLogits(scaled, topK, topP));
  }

  function filterLogits(logits, topK, topP) {
    const ids = logits.map((_, id) => id).sort((a, b) => logits[b] - logits[a] || a - b);
    const kept = new Set(ids.slice(0, topK ?? ids.length));
    if (topP !== null && topP < 1) {
      const shares = softmax(logits.map((logit, id) => (kept.has(id) ? logit : -Infinity)));
      let reachedBefore = 0;
      ids.forEach((id, rank) => {
        if (rank > 0 && reachedBefore >= topP - 1e-5) kept.delete(id);
        reachedBefore += shares[id];
      });
    }
    return logits.map((logit, id) => (kept.has(id) ? logit : -Infinity));
  }

  // `random` is a number in [0, 1).
  function draw(shares, random) {
    let reached = 0;
    for (let token = 0; token < shares.length; token++) {
      reached += shares[token];
      if (random < reached) return token;
    }
    return shares.lastIndexOf(Math.max(...shares));
  }

  // ---- transformer/beam_search.py: the best result by log-probability per token ----

  function beamSearch(model, src, maxLength, beamSize, lengthPenalty = 1) {
    const memory = model.encode(src);
    const perLength = ({ tokens, score }) => score / (tokens.length - 1) ** lengthPenalty;
    const byScore = (a, b) => b.score - a.score;
    let alive = [{ tokens: [START], score: 0 }], best = null, numEnded = 0;
    const remember = (result) => {
      if (best === null || perLength(result) > perLength(best)) best = result;
    };
    while (alive.length && alive[0].tokens.length < maxLength) {
      const all = alive.flatMap(({ tokens, score }) => {
        const shares = softmax(withoutPad(model.decode(memory, src, tokens).at(-1)));
        return shares.map((share, token) =>
          ({ tokens: [...tokens, token], score: score + Math.log(share) }));
      }).filter(({ score }) => score > -Infinity);
      const ends = ({ tokens }) => tokens.at(-1) === END;
      const live = all.filter((one) => !ends(one)).sort(byScore).slice(0, beamSize);
      const ended = all.filter(ends);
      const last = [...ended, ...live].sort(byScore).slice(0, beamSize).at(-1);
      for (const one of ended.filter((result) => result.score >= last.score)) {
        numEnded += 1;
        remember(one);
      }
      const isDone = numEnded >= beamSize && !(live.length && perLength(live[0]) > perLength(best));
      alive = isDone ? [] : live;
    }
    alive.forEach(remember);
    return { tokens: best.tokens, score: perLength(best) };
  }

  return {
    PAD, START, END, Transformer, readCheckpoint, likeliest, withoutPad, probabilities, draw,
    beamSearch,
  };
}
