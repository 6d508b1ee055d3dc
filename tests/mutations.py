"""Deliberate bugs, each of which a test must catch: `python -m tests.mutations`.

Every bug is injected into a copy of the package of its own, and the one test that is named
with it runs there. A bug that this test lets pass is a hole in the tests.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("transformer", "tests", "pyproject.toml")
WORKERS = 2
# Loading the last two would take a quarter of the time.
UNUSED_PLUGINS = ("cacheprovider", "nbval", "hypothesispytest")


class Mutant(NamedTuple):
    """One bug: in `transformer/file`, `old`, which occurs once, becomes `new`."""

    bug: str
    file: str
    old: str
    new: str
    test: str
    """What must catch it, as pytest names it, within `tests/`."""


MUTANTS = [
    # Attention
    Mutant(
        "weights without the division by √d_k",
        "attention.py",
        "key.transpose(-2, -1) / math.sqrt(query.size(-1))",
        "key.transpose(-2, -1)",
        "test_attention.py::test_weights_of_toy_vectors_match_the_arithmetic",
    ),
    Mutant(
        "output without the division by √d_k",
        "attention.py",
        "value, attn_mask=mask)",
        "value, attn_mask=mask, scale=1.0)",
        "test_attention.py::test_output_of_toy_vectors_matches_the_arithmetic",
    ),
    Mutant(
        "softmax over the queries instead of the keys",
        "attention.py",
        "-torch.inf).softmax(dim=-1)",
        "-torch.inf).softmax(dim=-2)",
        "test_attention.py::test_a_masked_key_leaves_its_weight_to_the_others",
    ),
    Mutant(
        "NaN for a query that may attend to nothing",
        "attention.py",
        "return weights.masked_fill(~mask, 0.0)",
        "return weights",
        "test_attention.py::test_a_query_that_may_attend_to_nothing_"
        "gets_zeros_and_finite_gradients",
    ),
    Mutant(
        "weights that show masked keys as attended",
        "attention.py",
        "weights = attention_weights(queries, keys, mask) if",
        "weights = attention_weights(queries, keys) if",
        "test_observation.py::test_recorded_weights_are_zero_at_pad_and_in_the_future",
    ),
    Mutant(
        "heads split by cutting rows instead of vectors",
        "attention.py",
        "x.unflatten(-1, (self.num_heads, self.d_head)).transpose(1, 2)",
        "x.reshape(len(x), self.num_heads, -1, self.d_head)",
        "test_attention.py::"
        "test_split_heads_gives_each_head_its_own_slice_of_every_vector",
    ),
    Mutant(
        "heads merged without the transposition",
        "attention.py",
        "x.transpose(1, 2).flatten(start_dim=2)",
        "x.reshape(len(x), x.size(2), -1)",
        "test_attention.py::test_merge_heads_undoes_split_heads",
    ),
    Mutant(
        "values projected by the keys' matrix",
        "attention.py",
        "self.split_heads(self.value_projection(value))",
        "self.split_heads(self.key_projection(value))",
        "test_attention.py::"
        "test_each_head_attends_with_its_own_slice_of_the_projections",
    ),
    Mutant(
        "an output that is computed another way when somebody looks",
        "attention.py",
        "weights = attention_weights(queries, keys, mask) if observed else None\n",
        "weights = attention_weights(queries, keys, mask) if observed else None\n"
        "        output = weights @ values if observed else output\n",
        "test_properties.py::test_observing_changes_no_logit_bit_for_bit",
    ),
    # Masks
    Mutant(
        "causal mask that shows the next token",
        "masks.py",
        ".tril()",
        ".tril(1)",
        "test_properties.py::test_future_target_tokens_cannot_change_earlier_logits",
    ),
    Mutant(
        "causal mask that hides the token itself",
        "masks.py",
        ".tril()",
        ".tril(-1)",
        "test_masks.py::test_causal_mask_shows_the_past_and_the_present",
    ),
    Mutant(
        "padding mask inverted",
        "masks.py",
        "(tokens != pad_token_id)",
        "(tokens == pad_token_id)",
        "test_masks.py::test_padding_mask_is_true_at_real_tokens",
    ),
    Mutant(
        "padding of the first row taken for that of all rows",
        "masks.py",
        "(tokens != pad_token_id)[:, None, None, :]",
        "(tokens != pad_token_id)[:1, None, None, :]",
        "test_properties.py::test_batch_rows_do_not_influence_each_other",
    ),
    Mutant(
        "target mask without PAD",
        "masks.py",
        "return padding_mask(tokens, pad_token_id) & causal_mask(",
        "return padding_mask(tokens, -1) & causal_mask(",
        "test_masks.py::test_target_mask_hides_both_the_future_and_pad",
    ),
    Mutant(
        "encoder that reads PAD",
        "transformer.py",
        "embed(src, self.src_embedding, self.position_encoding), mask",
        "embed(src, self.src_embedding, self.position_encoding)",
        "test_transformer.py::test_padding_inside_the_source_is_never_read",
    ),
    Mutant(
        "cross-attention that reads PAD",
        "transformer.py",
        "memory, tgt_mask, padding_mask(src, self.pad_token_id))",
        "memory, tgt_mask)",
        "test_transformer.py::test_padding_inside_the_source_is_never_read",
    ),
    Mutant(
        "decoding that reads PAD in the source",
        "transformer.py",
        "memory_mask = None if mask.all() else mask",
        "memory_mask = None if mask.any() else mask",
        "test_transformer.py::test_next_logits_equal_the_last_logits_of_the_whole_prefix",
    ),
    # Embeddings and positions
    Mutant(
        "embeddings without the factor √d_model",
        "embedding.py",
        "embedding(tokens) * math.sqrt(embedding.embedding_dim)",
        "embedding(tokens)",
        "test_embedding.py::"
        "test_tokens_are_scaled_by_the_root_of_the_width_and_positions_are_not",
    ),
    Mutant(
        "positions left out",
        "position_encoding.py",
        "self.dropout(x + self.table[start:end])",
        "self.dropout(x)",
        "test_encoder.py::test_with_positions_the_order_of_tokens_matters",
    ),
    Mutant(
        "the 2 of 10000^(2i / d_model) counted twice",
        "position_encoding.py",
        "-math.log(10_000) * even / d_model",
        "-math.log(10_000) * 2 * even / d_model",
        "test_position_encoding.py::test_every_entry_follows_the_formula",
    ),
    Mutant(
        "sine and cosine exchanged",
        "position_encoding.py",
        "table[:, 0::2] = angle.sin()\n    table[:, 1::2] = angle[:, : d_model // 2].cos()",
        "table[:, 0::2] = angle.cos()\n    table[:, 1::2] = angle[:, : d_model // 2].sin()",
        "test_position_encoding.py::test_position_zero_is_zeros_and_ones",
    ),
    # Layers
    Mutant(
        "post-norm without the residual connection",
        "add_norm.py",
        "self.norm(x + self.dropout(sublayer(x)))",
        "self.norm(self.dropout(sublayer(x)))",
        "test_add_norm.py::test_dropout_drops_the_sublayer_and_never_the_residual",
    ),
    Mutant(
        "pre-norm without the residual connection",
        "add_norm.py",
        "x + self.dropout(sublayer(self.norm(x)))",
        "self.dropout(sublayer(self.norm(x)))",
        "test_add_norm.py::test_pre_norm_normalises_only_what_the_sublayer_reads",
    ),
    Mutant(
        "post-norm that normalises before the addition",
        "add_norm.py",
        "self.norm(x + self.dropout(sublayer(x)))",
        "x + self.norm(self.dropout(sublayer(x)))",
        "test_add_norm.py::test_post_norm_normalises_the_sum",
    ),
    Mutant(
        "pre-norm that adds to the normalised vector",
        "add_norm.py",
        "x + self.dropout(sublayer(self.norm(x)))",
        "self.norm(x) + self.dropout(sublayer(self.norm(x)))",
        "test_add_norm.py::test_pre_norm_normalises_only_what_the_sublayer_reads",
    ),
    Mutant(
        "dropout on the residual connection too",
        "add_norm.py",
        "self.norm(x + self.dropout(sublayer(x)))",
        "self.norm(self.dropout(x + sublayer(x)))",
        "test_add_norm.py::test_dropout_drops_the_sublayer_and_never_the_residual",
    ),
    Mutant(
        "feed-forward network without ReLU",
        "feed_forward.py",
        "self.contract(self.expand(x).relu())",
        "self.contract(self.expand(x))",
        "test_feed_forward.py::test_toy_numbers_match_the_arithmetic",
    ),
    Mutant(
        "cross-attention that reads the target itself",
        "decoder.py",
        "x, memory, memory, memory_mask, cache=cached_memory",
        "x, x, x, cache=cached_memory",
        "test_transformer.py::test_every_source_token_changes_every_logit_row",
    ),
    Mutant(
        "pre-norm encoder without its final norm",
        "encoder.py",
        "return self.norm(x)",
        "return x",
        "test_encoder.py::"
        "test_layers_run_one_after_the_other_and_only_pre_norm_ends_in_a_norm",
    ),
    Mutant(
        "pre-norm decoder without its final norm, step by step",
        "decoder.py",
        "cache=layer_cache)\n        return self.norm(x)",
        "cache=layer_cache)\n        return x",
        "test_decoder.py::test_step_by_step_equals_all_at_once",
    ),
    Mutant(
        "pre-norm model built without final norms",
        "transformer.py",
        "final_norm = norm_first if final_norm is None else final_norm",
        "final_norm = bool(final_norm)",
        "test_transformer.py::"
        "test_the_final_norm_follows_the_kind_of_norm_unless_it_is_said",
    ),
    # Batches
    Mutant(
        "target not shifted: the decoder reads what it must predict",
        "batching.py",
        "[[*t, end_token_id] for t in targets]",
        "[[start_token_id, *t] for t in targets]",
        "test_batching.py::test_what_is_predicted_is_what_is_read_one_position_later",
    ),
    Mutant(
        "START missing from what the decoder reads",
        "batching.py",
        "[[start_token_id, *t] for t in targets]",
        "[[*t, end_token_id] for t in targets]",
        "test_batching.py::test_an_empty_target_is_start_and_end",
    ),
    Mutant(
        "END missing from what the decoder must predict",
        "batching.py",
        "[[*t, end_token_id] for t in targets]",
        "[[*t, pad_token_id] for t in targets]",
        "test_batching.py::test_an_empty_target_is_start_and_end",
    ),
    Mutant(
        "sums not shifted",
        "tasks.py",
        "tgt_out=torch.cat([total, END * column], dim=1)",
        "tgt_out=torch.cat([START * column, total], dim=1)",
        "test_tasks.py::test_a_sum_is_written_with_leading_zeros",
    ),
    Mutant(
        "the longest sequences of the copy task never drawn",
        "tasks.py",
        "self.min_length, self.max_length + 1,",
        "self.min_length, self.max_length,",
        "test_tasks.py::test_copying_draws_every_symbol_and_every_length_and_no_other",
    ),
    # Training
    Mutant(
        "PAD counted in the loss",
        "training.py",
        "tgt_out.flatten().long(), ignore_index=pad_token_id",
        "tgt_out.flatten().long()",
        "test_training.py::test_loss_leaves_pad_out_of_sum_and_count",
    ),
    Mutant(
        "PAD counted in the accuracy",
        "training.py",
        "(is_right & is_token).sum() / is_token.sum()",
        "is_right.sum() / is_right.numel()",
        "test_training.py::test_accuracy_counts_real_tokens_only",
    ),
    Mutant(
        "every batch of an evaluation weighs the same, however long",
        "training.py",
        "tokens = int((batch.tgt_out != model.pad_token_id).sum())",
        "tokens = 1",
        "test_training.py::test_evaluation_weighs_every_token_of_all_batches_alike",
    ),
    Mutant(
        "training without dropout after an evaluation",
        "training.py",
        "    model.train()\n",
        "",
        "test_training.py::test_a_step_trains_with_dropout_even_after_evaluation",
    ),
    Mutant(
        "gradients of earlier steps not zeroed",
        "training.py",
        "    optimizer.zero_grad()\n",
        "",
        "test_training.py::test_gradients_of_an_earlier_step_do_not_linger",
    ),
    Mutant(
        "gradients never clipped",
        "training.py",
        'limit = float("inf") if clip_norm is None else clip_norm',
        'limit = float("inf")',
        "test_training.py::test_clipping_shortens_the_gradient_to_the_norm_asked_for",
    ),
    Mutant(
        "a step taken before the gradients are clipped",
        "training.py",
        "    loss.backward()\n",
        "    loss.backward()\n    optimizer.step()\n",
        "test_training.py::test_clipping_shortens_the_gradient_to_the_norm_asked_for",
    ),
    Mutant(
        "training that forgets to advance the schedule",
        "training.py",
        "        if scheduler is not None:\n            scheduler.step()\n",
        "",
        "test_training.py::test_the_scheduler_advances_once_a_step_"
        "and_the_first_step_has_its_first_rate",
    ),
    Mutant(
        "warm-up with another exponent",
        "schedule.py",
        "step * warmup_steps**-1.5)",
        "step * warmup_steps**-0.5)",
        "test_schedule.py::test_rates_for_width_4_and_100_warm_up_steps",
    ),
    Mutant(
        "warm-up that falls before it rises",
        "schedule.py",
        "d_model**-0.5 * min(",
        "d_model**-0.5 * max(",
        "test_schedule.py::test_the_rate_peaks_exactly_when_warm_up_ends",
    ),
    Mutant(
        "warm-up one step late",
        "schedule.py",
        "warmup_rate(done + 1,",
        "warmup_rate(max(done, 1),",
        "test_schedule.py::test_the_schedule_gives_the_optimizer_the_rate_of_each_step",
    ),
    Mutant(
        "patience one evaluation too long",
        "training.py",
        "history.evaluations_since_best == patience",
        "history.evaluations_since_best > patience",
        "test_training.py::"
        "test_training_stops_after_patience_evaluations_without_a_lower_loss",
    ),
    Mutant(
        "early stopping that keeps the last weights",
        "training.py",
        "    if best_weights is not None:\n"
        "        model.load_state_dict(best_weights)\n",
        "",
        "test_training.py::"
        "test_stopping_early_puts_the_best_weights_back_and_not_the_last",
    ),
    Mutant(
        "best weights remembered without a copy",
        "training.py",
        "best_weights = copy.deepcopy(model.state_dict())",
        "best_weights = model.state_dict()",
        "test_training.py::"
        "test_stopping_early_puts_the_best_weights_back_and_not_the_last",
    ),
    # Decoding
    Mutant(
        "dropout on while decoding",
        "decoding.py",
        "with evaluation_mode(model), torch.no_grad():\n        cache =",
        "with torch.no_grad():\n        cache =",
        "test_decoding.py::"
        "test_decoding_in_training_mode_ignores_dropout_and_restores_the_mode",
    ),
    Mutant(
        "targets that do not begin with START",
        "decoding.py",
        "(src.size(0), 1), start, dtype",
        "(src.size(0), 1), end, dtype",
        "test_decoding.py::"
        "test_rows_begin_with_start_and_are_filled_with_pad_after_end",
    ),
    Mutant(
        "END ignored",
        "decoding.py",
        "self.ended | (chosen == self.end)",
        "self.ended | (chosen == self.pad)",
        "test_decoding.py::"
        "test_rows_begin_with_start_and_are_filled_with_pad_after_end",
    ),
    Mutant(
        "one token more than max_len",
        "decoding.py",
        "rows.length < max_len:\n            logits = model.next_logits",
        "rows.length <= max_len:\n            logits = model.next_logits",
        "test_decoding.py::test_max_len_counts_start_and_end",
    ),
    Mutant(
        "PAD that may be written",
        "decoding.py",
        "logits[..., token_id] = -torch.inf",
        "logits[..., token_id] = 0.0",
        "test_decoding.py::test_pad_is_never_chosen_however_likely",
    ),
    Mutant(
        "NaN and infinity pass for a prediction",
        "decoding.py",
        "is_odd = ~largest.isfinite()",
        "is_odd = torch.zeros_like(largest, dtype=torch.bool)",
        "test_decoding.py::"
        "test_a_prediction_that_is_no_number_is_an_error_that_says_where",
    ),
    Mutant(
        "rows that have ended can stop the others",
        "decoding.py",
        "wrong = (is_odd & is_live).nonzero()",
        "wrong = is_odd.nonzero()",
        "test_decoding.py::"
        "test_what_is_predicted_for_a_row_that_has_ended_does_not_matter",
    ),
    Mutant(
        "cached positions off by one",
        "transformer.py",
        "start=cache.length,",
        "start=cache.length + 1,",
        "test_transformer.py::"
        "test_next_logits_equal_the_last_logits_of_the_whole_prefix",
    ),
    Mutant(
        "cached keys stored one place too early",
        "kv_cache.py",
        "self._keys[:, :, self.length : end] = keys",
        "self._keys[:, :, self.length - 1 : end - 1] = keys",
        "test_kv_cache.py::test_appended_positions_stand_behind_the_earlier_ones",
    ),
    Mutant(
        "rows selected in self-attention but not in cross-attention",
        "kv_cache.py",
        "            layer.cross_attention.select(rows)\n",
        "",
        "test_kv_cache.py::"
        "test_selecting_rows_of_the_decoders_cache_equals_starting_with_these_rows",
    ),
    Mutant(
        "rows selected for keys but not for values",
        "kv_cache.py",
        "        self._values = self._values.index_select(0, rows)\n",
        "",
        "test_kv_cache.py::test_select_repeats_reorders_and_drops_rows",
    ),
    Mutant(
        "a thread that is done switches dropout on for the others",
        "runtime.py",
        "                if not _num_blocks[module]:\n",
        "                if True:\n",
        "test_runtime.py::"
        "test_a_thread_that_is_done_does_not_switch_dropout_on_for_another",
    ),
    # Sampling
    Mutant(
        "temperature multiplied instead of divided",
        "sampling.py",
        "logits / max(self.temperature,",
        "logits * max(self.temperature,",
        "test_sampling.py::test_temperature_is_a_power_of_the_probabilities",
    ),
    Mutant(
        "top-k that keeps k + 1",
        "sampling.py",
        "ranked[:, top_k:]",
        "ranked[:, top_k + 1 :]",
        "test_sampling.py::test_top_k_keeps_the_k_likeliest",
    ),
    Mutant(
        "top-p that drops the likeliest",
        "sampling.py",
        "ruled_out[:, 0] = False",
        "ruled_out[:, 0] = True",
        "test_sampling.py::test_top_p_keeps_the_fewest_that_reach_p",
    ),
    Mutant(
        "top-p that drops the token which reaches p",
        "sampling.py",
        "probabilities.cumsum(dim=-1) - probabilities",
        "probabilities.cumsum(dim=-1)",
        "test_sampling.py::test_top_p_keeps_the_fewest_that_reach_p",
    ),
    Mutant(
        "top-p that takes a rounded sum at its word",
        "sampling.py",
        "top_p - 1e-5",
        "top_p",
        "test_sampling.py::"
        "test_top_p_is_reached_by_a_sum_that_misses_it_by_rounding_alone",
    ),
    Mutant(
        "probabilities in 16 bits",
        "sampling.py",
        "        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))\n",
        "",
        "test_sampling.py::test_probabilities_of_16_bit_logits_are_computed_in_32_bits",
    ),
    Mutant(
        "the caller's generator not used",
        "sampling.py",
        "multinomial(1, generator=self.generator)",
        "multinomial(1)",
        "test_sampling.py::test_a_generator_of_ones_own_leaves_the_global_one_alone",
    ),
    # Beam search
    Mutant(
        "all beams alive at the start",
        "beam_search.py",
        "self.scores = torch.full((batch, beam_size), -torch.inf, device=device)",
        "self.scores = torch.zeros(batch, beam_size, device=device)",
        "test_beam_search.py::test_two_beams_find_what_greedy_misses",
    ),
    Mutant(
        "beams that continue in the cache of another beam",
        "beam_search.py",
        "return (first_row + parent).flatten()",
        "return (first_row + torch.arange(beam_size)).flatten()",
        "test_properties.py::test_beam_search_is_the_same_cached_packed_and_uncached",
    ),
    Mutant(
        "beams that continue in the cache of another source",
        "beam_search.py",
        "return (first_row + parent).flatten()",
        "return parent.flatten()",
        "test_properties.py::test_one_beam_equals_greedy",
    ),
    Mutant(
        "END ignored by beam search",
        "beam_search.py",
        "with_end.masked_fill(with_end < last, -torch.inf)",
        "torch.full_like(with_end, -torch.inf)",
        "test_beam_search.py::test_rows_end_at_their_own_time_and_are_filled_with_pad",
    ),
    Mutant(
        "scores not divided by the length",
        "beam_search.py",
        "return scores / max(tokens.size(2) - 1, 1) ** self.length_penalty",
        "return scores",
        "test_beam_search.py::"
        "test_the_score_is_divided_by_the_length_after_start_to_the_penalty",
    ),
    Mutant(
        "the length of a hypothesis counts START",
        "beam_search.py",
        "max(tokens.size(2) - 1, 1)",
        "tokens.size(2)",
        "test_beam_search.py::"
        "test_the_score_is_divided_by_the_length_after_start_to_the_penalty",
    ),
    Mutant(
        "prefixes cut off at max_len do not compete",
        "beam_search.py",
        "        beams.end_live_prefixes()\n",
        "",
        "test_beam_search.py::test_a_length_penalty_favours_longer_results",
    ),
    Mutant(
        "a prefix ends however unlikely its END",
        "beam_search.py",
        "with_end.masked_fill(with_end < last, -torch.inf)",
        "with_end",
        "test_beam_search.py::"
        "test_an_end_that_is_not_among_the_likeliest_makes_no_result",
    ),
    Mutant(
        "the place of a result stays empty",
        "beam_search.py",
        "self.scores = scores.masked_fill(is_done, -torch.inf)",
        "self.scores = scores.masked_fill(is_done, -torch.inf).masked_fill("
        "torch.arange(beam_size) >= beam_size - self.num_ended[:, None], -torch.inf)",
        "test_beam_search.py::test_the_place_of_a_result_is_filled_by_another_prefix",
    ),
    Mutant(
        "a row is done with its first result",
        "beam_search.py",
        "self.num_ended >= beam_size",
        "self.num_ended >= 1",
        "test_beam_search.py::"
        "test_a_row_is_done_when_no_prefix_beats_as_many_results_as_beams",
    ),
    Mutant(
        "poor results stop a better prefix",
        "beam_search.py",
        "(self.num_ended >= beam_size)[:, None] & ~is_better",
        "(self.num_ended >= beam_size)[:, None]",
        "test_beam_search.py::test_poor_results_do_not_stop_a_better_prefix",
    ),
    # Observation, packed weights, checkpoints, other runtimes
    Mutant(
        "recorded shapes without what is passed by keyword",
        "observation.py",
        "inputs = (*inputs, *options.values())",
        "inputs = (*inputs,)",
        "test_observation.py::"
        "test_shapes_of_tensors_passed_by_keyword_are_recorded_behind_the_others",
    ),
    Mutant(
        "packed step with key and value exchanged",
        "packed.py",
        "query, key, value = stacked",
        "query, value, key = stacked",
        "test_packed.py::test_the_logits_of_every_step_are_those_of_the_model",
    ),
    Mutant(
        "packed step that reads PAD in the source",
        "packed.py",
        "query, memory.keys, memory.values, mask)",
        "query, memory.keys, memory.values)",
        "test_packed.py::test_the_logits_of_every_step_are_those_of_the_model",
    ),
    Mutant(
        "packed weights that never learn of a change",
        "packed.py",
        "if product is None or not product.holds(linears):",
        "if product is None:",
        "test_packed.py::test_training_the_model_further_is_seen_at_the_next_decoding",
    ),
    Mutant(
        "packed weights compared, but not their biases",
        "packed.py",
        "            and _equal(self.bias, _stacked_biases(linears))\n",
        "",
        "test_packed.py::test_only_what_has_changed_is_packed_again",
    ),
    Mutant(
        "packed blocks of 32 bits under autocast",
        "packed.py",
        'if self.has_blocks and not torch.is_autocast_enabled("cpu"):',
        "if self.has_blocks:",
        "test_packed.py::test_under_autocast_it_predicts_what_the_model_predicts",
    ),
    Mutant(
        "one missing bias takes the others away",
        "packed.py",
        "if all(linear.bias is None for",
        "if any(linear.bias is None for",
        "test_packed.py::test_projections_without_bias_are_packed_too",
    ),
    Mutant(
        "packed decoding that never calls a hook and does not say so",
        "packed.py",
        "if module._forward_hooks or module._forward_pre_hooks:",
        "if module._forward_hooks:",
        "test_packed.py::test_a_hook_that_would_never_be_called_is_refused_by_name",
    ),
    Mutant(
        "packed weights read row by row as if they were columns",
        "packed.py",
        "return self.weight.t().contiguous()",
        "return self.weight.reshape(self.weight.t().shape)",
        "test_packed.py::"
        "test_every_layout_of_the_weights_gives_the_logits_of_the_model",
    ),
    Mutant(
        "packed product of several rows without its bias",
        "packed.py",
        'x, self.blocks, self.bias, "none", [], ""',
        'x, self.blocks, None, "none", [], ""',
        "test_packed.py::"
        "test_every_layout_of_the_weights_gives_the_logits_of_the_model",
    ),
    Mutant(
        "checkpoint without norm_first",
        "checkpoint.py",
        "json.dumps(asdict(model.config))",
        'json.dumps(asdict(model.config) | {"norm_first": False})',
        "test_checkpoint.py::"
        "test_a_model_of_any_configuration_is_rebuilt_from_the_file_alone",
    ),
    Mutant(
        "checkpoint without pad_token_id",
        "checkpoint.py",
        "json.dumps(asdict(model.config))",
        'json.dumps(asdict(model.config) | {"pad_token_id": 0})',
        "test_checkpoint.py::"
        "test_a_model_of_any_configuration_is_rebuilt_from_the_file_alone",
    ),
    Mutant(
        "query and key exchanged on the way to torch",
        "torch_conversion.py",
        "torch.cat([weights[name] for name in ours])",
        "torch.cat([weights[name] for name in sorted(ours)])",
        "test_torch_conversion.py::"
        "test_logits_loss_and_every_gradient_agree_with_torch",
    ),
    Mutant(
        "query and key exchanged on the way from torch",
        "torch_conversion.py",
        "weights |= zip(ours, theirs.chunk(len(ours)), strict=True)",
        "weights |= zip(sorted(ours), theirs.chunk(len(ours)), strict=True)",
        "test_torch_conversion.py::"
        "test_torchs_model_as_it_is_built_by_default_gives_the_same_logits",
    ),
    Mutant(
        "exported model that may write PAD",
        "export.py",
        "    spec.decoder.projection.bias[model.pad_token_id] = _NEVER\n",
        "",
        "test_export.py::test_end_may_come_first_and_pad_never_comes",
    ),
    Mutant(
        "exported model that is always pre-norm",
        "export.py",
        "stack_spec.pre_norm = config.norm_first",
        "stack_spec.pre_norm = True",
        "test_export.py::test_greedy_tokens_are_those_of_the_model",
    ),
    Mutant(
        "exported model with the norms of fresh layers",
        "export.py",
        "spec.gamma = _numbers(norm.weight)",
        "spec.gamma = _numbers(torch.ones_like(norm.weight))",
        "test_export.py::test_greedy_tokens_are_those_of_the_model",
    ),
]


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the package and its tests, which vanishes at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        tree = Path(directory).resolve()
        for name in COPIED:
            if (ROOT / name).is_dir():
                without = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, tree / name, ignore=without)
            else:
                shutil.copy(ROOT / name, tree)
        yield tree


def run_python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `tree`, whose package then comes before the installed one."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def run_tests(tree: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    options = ["-x", "-q", *(f"-pno:{plugin}" for plugin in UNUSED_PLUGINS)]
    paths = (f"tests/{test}" for test in tests)
    return run_python(tree, "-m", "pytest", *options, *paths)


def check_setting() -> None:
    """Exit unless a copy imports its own package and all tests pass without a bug."""
    with copied_tree() as tree:
        where = "import transformer; print(transformer.__file__)"
        package = Path(run_python(tree, "-c", where).stdout.strip())
        print(f"Tests of a copy import {package}.\n", flush=True)
        if not package.is_relative_to(tree):
            sys.exit(f"That is not the package of the copy in {tree}.")
        result = run_tests(tree, *sorted({mutant.test for mutant in MUTANTS}))
    if result.returncode or "skipped" in result.stdout:
        sys.exit(f"Without a bug all tests must pass:\n{result.stdout}{result.stderr}")


def inject(mutant: Mutant, tree: Path) -> None:
    path = tree / "transformer" / mutant.file
    source = path.read_text("utf-8")
    if source.count(mutant.old) != 1:
        sys.exit(f"{mutant.file} must contain {mutant.old!r} exactly once")
    path.write_text(source.replace(mutant.old, mutant.new), "utf-8")


def verdict(mutant: Mutant) -> str:
    """Whether the test that is named with the bug fails because of it."""
    with copied_tree() as tree:
        inject(mutant, tree)
        result = run_tests(tree, mutant.test)
    if result.returncode == 0:
        return "SURVIVED"
    # A test that cannot even be run catches nothing.
    is_failure = result.returncode == 1 and "1 failed" in result.stdout
    return "caught" if is_failure else "NOT RUN"


def main() -> int:
    check_setting()
    print("| bug | where | caught by | verdict |")
    print("|-----|-------|-----------|---------|")
    caught = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for mutant, result in zip(MUTANTS, pool.map(verdict, MUTANTS), strict=True):
            caught += result == "caught"
            row = (mutant.bug, mutant.file, mutant.test, result)
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{caught} of {len(MUTANTS)} caught")
    return int(caught < len(MUTANTS))


if __name__ == "__main__":
    sys.exit(main())
