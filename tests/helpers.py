"""Small models, batches and references that many tests share.

Sizes are unequal primes wherever they can be, so that swapped dimensions show.
"""

import itertools
from types import SimpleNamespace

import torch
from torch import nn

from transformer import PAD, START, Transformer

SRC_VOCAB, TGT_VOCAB = 11, 13
BATCH, SRC_LEN, TGT_LEN = 3, 7, 5
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def small_model(**changes):
    """A model of unequal sizes, in evaluation mode and float64."""
    sizes = {
        "d_model": 14,
        "num_heads": 2,
        "num_encoder_layers": 2,
        "num_decoder_layers": 3,
        "d_ff": 19,
        "max_len": 23,
        "dropout": 0.1,
    }
    return Transformer(SRC_VOCAB, TGT_VOCAB, **(sizes | changes)).double().eval()


def decisive_model(**changes):
    """A small model whose next-token distributions are far from uniform."""
    model = small_model(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3)
    return model


def random_tokens(vocab_size, batch, length, lowest=3):
    """Token ids without PAD, START and END."""
    return torch.randint(lowest, vocab_size, (batch, length))


def small_batch():
    """Source and target input of unequal lengths, with PAD at the end of some rows."""
    src = random_tokens(SRC_VOCAB, BATCH, SRC_LEN)
    src[1, 4:] = PAD
    src[2, 6:] = PAD
    tgt_in = random_tokens(TGT_VOCAB, BATCH, TGT_LEN)
    tgt_in[:, 0] = START
    tgt_in[0, 3:] = PAD
    return src, tgt_in


def snapshot(model):
    """A copy of all weights."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_weights(model, weights):
    """The model's state_dict holds exactly `weights`, bit for bit."""
    state = model.state_dict()
    assert list(state) == list(weights)
    assert all(torch.equal(state[name], weights[name]) for name in weights)


def copy_attention(ours, theirs):
    """Give torch's `nn.MultiheadAttention` the weights of our `MultiHeadAttention`."""
    projections = (ours.query_projection, ours.key_projection, ours.value_projection)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        theirs.out_proj.load_state_dict(ours.output_projection.state_dict())


def copy_feed_forward(ours, theirs):
    """Give a torch layer the weights of our `FeedForward`."""
    theirs.linear1.load_state_dict(ours.expand.state_dict())
    theirs.linear2.load_state_dict(ours.contract.state_dict())


def torch_encoder_layer(ours, num_heads):
    """torch's encoder layer with the weights of ours, without dropout."""
    d_model, d_ff = ours.feed_forward.d_model, ours.feed_forward.expand.out_features
    theirs = nn.TransformerEncoderLayer(
        d_model,
        num_heads,
        d_ff,
        dropout=0.0,
        batch_first=True,
        norm_first=ours.self_attention_add_norm.norm_first,
    ).to(ours.feed_forward.expand.weight.dtype)
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_feed_forward(ours.feed_forward, theirs)
    theirs.norm1.load_state_dict(ours.self_attention_add_norm.norm.state_dict())
    theirs.norm2.load_state_dict(ours.feed_forward_add_norm.norm.state_dict())
    return theirs


def torch_decoder_layer(ours, num_heads):
    """torch's decoder layer with the weights of ours, without dropout."""
    d_model, d_ff = ours.feed_forward.d_model, ours.feed_forward.expand.out_features
    theirs = nn.TransformerDecoderLayer(
        d_model,
        num_heads,
        d_ff,
        dropout=0.0,
        batch_first=True,
        norm_first=ours.self_attention_add_norm.norm_first,
    ).to(ours.feed_forward.expand.weight.dtype)
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_attention(ours.cross_attention, theirs.multihead_attn)
    copy_feed_forward(ours.feed_forward, theirs)
    theirs.norm1.load_state_dict(ours.self_attention_add_norm.norm.state_dict())
    theirs.norm2.load_state_dict(ours.cross_attention_add_norm.norm.state_dict())
    theirs.norm3.load_state_dict(ours.feed_forward_add_norm.norm.state_dict())
    return theirs


def attention_gradients(attention):
    """Gradients of our attention module, stacked the way torch stores them."""
    projections = (
        attention.query_projection,
        attention.key_projection,
        attention.value_projection,
    )
    return {
        "in_proj_weight": torch.cat([p.weight.grad for p in projections]),
        "in_proj_bias": torch.cat([p.bias.grad for p in projections]),
        "out_proj.weight": attention.output_projection.weight.grad,
        "out_proj.bias": attention.output_projection.bias.grad,
    }


def layer_gradients(layer):
    """Gradients of our encoder or decoder layer under torch's names."""
    gradients = {
        f"self_attn.{name}": gradient
        for name, gradient in attention_gradients(layer.self_attention).items()
    }
    add_norms = [layer.self_attention_add_norm]
    if hasattr(layer, "cross_attention"):
        gradients |= {
            f"multihead_attn.{name}": gradient
            for name, gradient in attention_gradients(layer.cross_attention).items()
        }
        add_norms.append(layer.cross_attention_add_norm)
    add_norms.append(layer.feed_forward_add_norm)
    for number, add_norm in enumerate(add_norms, start=1):
        gradients[f"norm{number}.weight"] = add_norm.norm.weight.grad
        gradients[f"norm{number}.bias"] = add_norm.norm.bias.grad
    for number, linear in enumerate(
        (layer.feed_forward.expand, layer.feed_forward.contract), start=1
    ):
        gradients[f"linear{number}.weight"] = linear.weight.grad
        gradients[f"linear{number}.bias"] = linear.bias.grad
    return gradients


def assert_same_gradients(gradients, theirs, tolerance):
    """Every parameter of `theirs` has the gradient stored under its name."""
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name], atol=tolerance, rtol=tolerance
        )


class TableModel(nn.Module):
    """A stand-in whose next-token probabilities are read from a table.

    The distribution depends on the row's first source token and on the newest target token:
    `table[src[row, 0], newest]`. What decoding should write can be worked out by hand.
    """

    def __init__(self, table, max_len=23, pad_token_id=PAD):
        super().__init__()
        self.table = torch.as_tensor(table, dtype=torch.float64)
        self.max_len = max_len
        self.pad_token_id = pad_token_id
        src_vocab_size, tgt_vocab_size, _ = self.table.shape
        self.config = SimpleNamespace(
            src_vocab_size=src_vocab_size, tgt_vocab_size=tgt_vocab_size
        )

    def forward(self, src, tgt_in):
        return self.table[src[:, :1], tgt_in].log()

    def start_cache(self, src, capacity):
        return TableCache(src[:, 0], capacity)

    def next_logits(self, tokens, cache):
        cache.count += 1
        assert cache.count <= cache.capacity
        return self.table[cache.source, tokens].log()


class TableCache:
    """What `TableModel` remembers: each row's source token."""

    def __init__(self, source, capacity):
        self.source = source
        self.capacity = capacity
        self.count = 0

    def select(self, rows):
        self.source = self.source[rows]


def table_of_chains(*chains, vocab_size=8):
    """A table in which source token s makes the target follow `chains[s]`, START first."""
    table = torch.full((len(chains), vocab_size, vocab_size), 1e-9)
    for source, chain in enumerate(chains):
        for token, following in itertools.pairwise(chain):
            table[source, token, following] = 1.0
    return table / table.sum(dim=-1, keepdim=True)
