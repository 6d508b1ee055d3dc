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
# Loading them would take time.
UNUSED_PLUGINS = ("cacheprovider", "hypothesispytest")


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
    # Tasks
    Mutant(
        "sums held out in one order only",
        "tasks.py",
        "held_out = torch.cat([chosen, chosen.flip(1)])",
        "held_out = shuffled[:num_held_out]",
        "test_tasks.py::test_no_held_out_pair_is_seen_in_the_other_order",
    ),
    Mutant(
        "pairs drawn together with their mirrors",
        "tasks.py",
        "distinct = torch.combinations(torch.arange(limit), with_replacement=True)",
        "distinct = self.all_pairs()",
        "test_tasks.py::test_no_two_drawn_pairs_are_the_same_in_any_order",
    ),
    Mutant(
        "pairs drawn with the smaller number always first",
        "tasks.py",
        "return torch.where(turned, pairs.flip(1), pairs)",
        "return pairs",
        "test_tasks.py::test_drawn_pairs_stand_in_random_order_and_either_number_may_be_larger",
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
        "self.dropout(x + self.rows(start, end, like=x))",
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
    Mutant(
        "a table of positions that is rounded again at every conversion",
        "position_encoding.py",
        "        if self.table is not before:\n            self._fill_table()\n",
        "",
        "test_position_encoding.py::test_the_table_is_the_formula_rounded_once_"
        "whatever_was_done_to_the_module",
    ),
    Mutant(
        "no table of positions after weights were assigned to a model on meta",
        "position_encoding.py",
        '        if self.table.is_meta:\n            self.to_empty(device="cpu")\n',
        "",
        "test_position_encoding.py::test_a_model_built_on_meta_computes_"
        "as_the_one_whose_weights_it_loads",
    ),
    Mutant(
        "positions in another type than the vectors",
        "position_encoding.py",
        "fits = self.table.dtype == like.dtype and",
        "fits =",
        "test_position_encoding.py::test_the_sum_has_the_type_of_the_vectors_"
        "whatever_the_type_of_the_table",
    ),
    Mutant(
        "sinusoids in float64 on whatever device is the default",
        "position_encoding.py",
        'exact = dict(dtype=torch.float64, device="cpu")',
        "exact = dict(dtype=torch.float64)",
        "test_position_encoding.py::"
        "test_the_sinusoids_are_made_on_the_cpu_for_not_every_device_knows_float64",
    ),
    Mutant(
        "a look at the ids while a graph is traced",
        "checks.py",
        "torch.compiler.is_compiling() or torch.jit.is_tracing()",
        "torch.jit.is_tracing()",
        "test_checks.py::test_while_a_graph_is_traced_nothing_is_computed_for_a_check",
    ),
    Mutant(
        "ids that are never looked at",
        "checks.py",
        "        return int(compute())\n",
        "        return None\n",
        "test_checks.py::test_a_value_is_seen_where_there_is_one",
    ),
    Mutant(
        "a configuration that keeps NumPy's integers",
        "checks.py",
        "        return operator.index(value)\n",
        "        operator.index(value)\n        return value\n",
        "test_transformer.py::test_numpys_integers_are_sizes_"
        "and_stand_in_the_configuration_as_plain_ints",
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
    # Your own pairs
    Mutant(
        "ids that begin at PAD",
        "vocabulary.py",
        "enumerate(self.symbols, FIRST_TASK_TOKEN)",
        "enumerate(self.symbols)",
        "test_vocabulary.py::"
        "test_ids_begin_behind_the_special_tokens_and_follow_the_order_given",
    ),
    Mutant(
        "rare symbols kept",
        "vocabulary.py",
        "if count >= min_count]",
        "if count]",
        "test_vocabulary.py::test_rare_symbols_are_left_out",
    ),
    Mutant(
        "lines found by characters instead of bytes",
        "pairs.py",
        "place += len(line)",
        "place += len(line.rstrip())",
        "test_pairs.py::test_encoded_pairs_are_what_the_vocabularies_make_of_the_lines",
    ),
    Mutant(
        "a file that changes under the reader",
        "pairs.py",
        "if _state_of_file(self.path) != self._state:",
        "if False:",
        "test_pairs.py::test_a_file_that_changes_under_the_reader_is_noticed",
    ),
    Mutant(
        "the same order in every epoch",
        "loading.py",
        "default_rng([self.seed, epoch])",
        "default_rng([self.seed])",
        "test_loading.py::"
        "test_epochs_and_seeds_differ_and_the_same_seed_gives_the_same_batches",
    ),
    Mutant(
        "batches in order of length",
        "loading.py",
        "for batch in random.permutation(len(self))[first:]:",
        "for batch in range(first, len(self)):",
        "test_loading.py::test_batches_come_in_random_order",
    ),
    Mutant(
        "the widest row of a batch forgotten",
        "loading.py",
        "widest = max(widest[0], source), max(widest[1], target)",
        "widest = source, target",
        "test_loading.py::test_every_epoch_holds_every_pair_once_within_the_budget",
    ),
    Mutant(
        "a resumed epoch that begins at its first batch",
        "loading.py",
        "epoch, first = divmod(self._step, len(self))",
        "epoch, first = self._step // len(self), 0",
        "test_loading.py::test_a_run_that_goes_on_meets_the_batches_it_would_have_met",
    ),
    Mutant(
        "a loader that takes its seeds from the global random numbers",
        "loading.py",
        "        generator=torch.Generator(),\n",
        "",
        "test_loading.py::test_loading_leaves_the_global_random_numbers_alone",
    ),
    Mutant(
        "a file written where the former one stands",
        "files.py",
        "with temporary.open(",
        "with path.open(",
        "test_files.py::test_a_full_disk_leaves_the_former_file_and_nothing_else",
    ),
    Mutant(
        "neighbours taken for what killed writes have left",
        "files.py",
        "if unfinished.fullmatch(neighbour.name):",
        "if unfinished.match(neighbour.name):",
        "test_files.py::test_what_killed_writes_left_is_cleared_and_nothing_else",
    ),
    # Training
    Mutant(
        "PAD counted in the loss",
        "loss.py",
        "tgt_out.flatten().long(), ignore_index=pad_token_id",
        "tgt_out.flatten().long()",
        "test_training.py::test_loss_leaves_pad_out_of_sum_and_count",
    ),
    Mutant(
        "PAD counted in the accuracy",
        "loss.py",
        "(is_right & is_token).sum().float() / is_token.sum()",
        "is_right.sum().float() / is_right.numel()",
        "test_training.py::test_accuracy_counts_real_tokens_only",
    ),
    Mutant(
        "every batch of an evaluation weighs the same, however long",
        "training.py",
        "tokens = int((tgt_out != pad_token_id).sum())",
        "tokens = 1",
        "test_training.py::test_evaluation_weighs_every_token_of_all_batches_alike",
    ),
    Mutant(
        "training without dropout after an evaluation",
        "step.py",
        "        _switch_to_training(model)\n",
        "        pass\n",
        "test_training.py::test_a_step_trains_with_dropout_even_after_evaluation",
    ),
    Mutant(
        "gradients of earlier steps not zeroed",
        "step.py",
        "    model.zero_grad()\n    optimizer.zero_grad()\n",
        "",
        "test_training.py::test_gradients_of_an_earlier_step_do_not_linger",
    ),
    Mutant(
        "gradients cleared of what the optimizer holds alone",
        "step.py",
        "    model.zero_grad()\n",
        "",
        "test_training.py::"
        "test_parts_that_the_optimizer_does_not_hold_neither_pile_up_nor_count",
    ),
    Mutant(
        "gradients cleared of what the model holds alone",
        "step.py",
        "    optimizer.zero_grad()\n",
        "",
        "test_training.py::"
        "test_gradients_of_parameters_outside_the_model_do_not_linger",
    ),
    Mutant(
        "a step clipped by gradients that it does not follow",
        "step.py",
        "clip_grad_norm_(parameters, limit)",
        "clip_grad_norm_(list(model.parameters()), limit)",
        "test_training.py::"
        "test_clipping_shortens_the_step_that_is_taken_and_no_other_part_counts",
    ),
    Mutant(
        "parts that were set to evaluation mode trained with dropout",
        "step.py",
        "    if not model.training:\n",
        "    if True:\n",
        "test_training.py::test_a_model_in_training_mode_keeps_the_modes_of_its_parts",
    ),
    Mutant(
        "frozen parts switched to training mode",
        "step.py",
        "if parameters and not any(parameter.requires_grad for parameter in parameters):",
        "if False:",
        "test_training.py::test_frozen_parts_of_a_model_in_evaluation_mode_stay_in_it",
    ),
    Mutant(
        "a step that Ctrl-C cuts in two",
        "training.py",
        "            with uninterrupted():\n                self._step(parts)",
        "            if True:\n                self._step(parts)",
        "test_training.py::test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end",
    ),
    Mutant(
        "a history that is lost with an interruption",
        "training.py",
        "        run.history.interrupted = True\n",
        "        raise RuntimeError from None\n",
        "test_training.py::"
        "test_an_interruption_ends_training_and_keeps_the_history_and_the_weights",
    ),
    Mutant(
        "a history that is lost with an error",
        "training.py",
        "        error.history = run.history\n",
        "        error.history = None\n",
        "test_training.py::test_an_error_carries_the_history_until_then",
    ),
    Mutant(
        "a plateau scheduler that never hears of the loss",
        "training.py",
        "                self.scheduler.step(evaluation.loss)\n",
        "                pass\n",
        "test_training.py::test_a_plateau_of_the_held_out_loss_lowers_the_rate",
    ),
    Mutant(
        "an iterator that may never end taken for held-out batches",
        "batching.py",
        "        len(batches)\n",
        "        iter(batches)\n",
        "test_errors.py::test_bad_input_is_refused_with_the_numbers",
    ),
    Mutant(
        "one batch taken for a collection of three",
        "batching.py",
        "        return [batches]\n",
        "        return batches\n",
        "test_training.py::test_one_batch_may_be_given_for_a_collection_of_one",
    ),
    Mutant(
        "gradients never clipped",
        "step.py",
        "limit = math.inf if clip_norm is None else clip_norm",
        "limit = math.inf",
        "test_training.py::test_clipping_shortens_the_gradient_to_the_norm_asked_for",
    ),
    Mutant(
        "a step taken before the gradients are clipped",
        "step.py",
        "            (goal * world_size() / num_tokens).backward()\n",
        "            (goal * world_size() / num_tokens).backward()\n"
        "            optimizer.step()\n",
        "test_training.py::test_clipping_shortens_the_gradient_to_the_norm_asked_for",
    ),
    Mutant(
        "parts of a step that weigh the same, however long",
        "step.py",
        "(goal * world_size() / num_tokens).backward()",
        "(goal * world_size() / len(parts) / (part.tgt_out != pad).sum()).backward()",
        "test_training.py::"
        "test_a_step_in_parts_weighs_every_token_alike_not_every_part",
    ),
    Mutant(
        "a reported loss that depends on smoothing",
        "step.py",
        "        if label_smoothing > 0:\n",
        "        if False:\n",
        "test_training.py::"
        "test_the_loss_that_is_reported_does_not_depend_on_smoothing_but_the_step_does",
    ),
    Mutant(
        "label smoothing forgotten",
        "step.py",
        "summed_loss(logits, part.tgt_out, pad, label_smoothing)",
        "summed_loss(logits, part.tgt_out, pad)",
        "test_training.py::"
        "test_a_step_with_smoothing_follows_the_gradient_of_the_smoothed_loss",
    ),
    Mutant(
        "an evaluation that an interruption cut off, never made up for",
        "training.py",
        "        self._evaluate(is_last=history.num_steps == num_steps)\n",
        "",
        "test_training.py::test_an_evaluation_that_ctrl_c_cuts_off_is_made_up_for",
    ),
    Mutant(
        "time that is up without a last evaluation",
        "training.py",
        "self._evaluate(is_last or history.out_of_time)",
        "self._evaluate(is_last)",
        "test_training.py::test_no_step_begins_after_the_time_is_up",
    ),
    Mutant(
        "joined histories that count their evaluations from 0 each",
        "history.py",
        "[self.num_steps + step for step in later.held_out_steps]",
        "later.held_out_steps",
        "test_training.py::test_joined_histories_are_those_of_one_run",
    ),
    # Runs that are killed, and many processes
    Mutant(
        "a resumed run without its best weights",
        "run_state.py",
        "run.best_weights = best and spread_like(model.state_dict(), best)",
        "run.best_weights = None",
        "test_run_state.py::"
        "test_the_best_weights_of_before_are_put_back_if_none_are_better",
    ),
    Mutant(
        "a resumed run with other random numbers",
        "run_state.py",
        '    _set_random_states(state["random"])\n',
        "",
        "test_run_state.py::"
        "test_a_loaded_run_has_weights_history_rate_and_random_numbers",
    ),
    Mutant(
        "a resumed schedule that begins anew",
        "run_state.py",
        '        run.scheduler.load_state_dict(state["scheduler"])\n',
        "        pass\n",
        "test_run_state.py::test_a_killed_run_comes_to_what_the_undisturbed_one_did",
    ),
    Mutant(
        "what killed writes have left, kept",
        "run_state.py",
        "        clear_unfinished(path)\n",
        "        pass\n",
        "test_run_state.py::test_a_killed_run_comes_to_what_the_undisturbed_one_did",
    ),
    Mutant(
        "tuples that come back as lists",
        "state_file.py",
        'return tuple(items) if kind == "tuple" else items',
        "return items",
        "test_state_file.py::test_what_is_read_is_what_was_written_type_for_type",
    ),
    Mutant(
        "the mean of the processes' means",
        "step.py",
        "num_tokens = int(sum_over_processes(counts.sum()))",
        "num_tokens = max(int(counts.sum()), 1) * world_size()",
        "test_parallel.py::test_two_processes_give_the_curve_and_weights_of_one",
    ),
    Mutant(
        "gradients divided by the number of processes once more",
        "step.py",
        "(goal * world_size() / num_tokens).backward()",
        "(goal / num_tokens).backward()",
        "test_parallel.py::test_two_processes_give_the_curve_and_weights_of_one",
    ),
    Mutant(
        "every process trained on all rows of a small batch",
        "batching.py",
        "return Batch(src, tgt_in, torch.full_like(tgt_out, pad_token_id))",
        "return Batch(src, tgt_in, tgt_out)",
        "test_parallel.py::"
        "test_a_batch_smaller_than_the_number_of_processes_is_trained_on_all_the_same",
    ),
    Mutant(
        "a sum that changes what it adds up",
        "parallel.py",
        "value.to(device, copy=True)",
        "value.to(device)",
        "test_parallel.py::test_sums_are_over_all_processes_and_leave_the_parts_alone",
    ),
    Mutant(
        "each process its own clock",
        "training.py",
        "torch.tensor(int(condition and rank() == 0))",
        "torch.tensor(int(condition))",
        "test_parallel.py::test_time_is_up_for_all_when_it_is_for_the_first",
    ),
    Mutant(
        "restarted processes sent to dead addresses",
        "parallel.py",
        "    _check_restarts()\n",
        "",
        "test_parallel.py::test_restarts_that_would_meet_dead_addresses_are_refused",
    ),
    Mutant(
        "linear decay to 0 before the last step",
        "schedule.py",
        "left = (num_steps + 1 - step) / (num_steps + 1 - warmup_steps)",
        "left = (num_steps - step) / (num_steps + 1 - warmup_steps)",
        "test_schedule.py::test_linear_decay_worked_out_by_hand",
    ),
    Mutant(
        "half a cosine too much",
        "schedule.py",
        "math.cos(math.pi * rest)",
        "math.cos(2 * math.pi * rest)",
        "test_schedule.py::test_cosine_decay_worked_out_by_hand",
    ),
    Mutant(
        "training that forgets to advance the schedule",
        "training.py",
        "            self.scheduler.step()\n",
        "            pass\n",
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
        "history.evaluations_since_best == self.patience",
        "history.evaluations_since_best > (self.patience or 1e9)",
        "test_training.py::"
        "test_training_stops_after_patience_evaluations_without_a_lower_loss",
    ),
    Mutant(
        "early stopping that keeps the last weights",
        "training.py",
        "                bare_model(self.model).load_state_dict(self.best_weights)\n",
        "                pass\n",
        "test_training.py::"
        "test_stopping_early_puts_the_best_weights_back_and_not_the_last",
    ),
    Mutant(
        "best weights remembered without a copy",
        "training.py",
        "self.best_weights = copy.deepcopy(weights)",
        "self.best_weights = weights",
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
        "a row is done when no prefix beats the best of several results",
        "beam_search.py",
        "> self.best_scores[:, -1:]",
        "> self.best_scores[:, :1]",
        "test_beam_search.py::test_a_poor_last_result_does_not_stop_a_better_prefix",
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
        "compiled models observed in vain and in silence",
        "checks.py",
        'if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:',
        "if False:",
        "test_observation.py::test_a_compiled_model_or_part_is_refused_by_name",
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
        "a model saved without a look at whether it can be loaded",
        "checkpoint.py",
        "    check_own_parts(model)\n",
        "",
        "test_checkpoint.py::"
        "test_what_could_not_be_loaded_is_not_saved_and_the_old_file_stays",
    ),
    Mutant(
        "a compiled model saved under the names of its wrapper",
        "checkpoint.py",
        "    model = bare_model(model)\n",
        "",
        "test_checkpoint.py::"
        "test_of_a_compiled_or_packed_model_the_model_inside_is_saved",
    ),
    Mutant(
        "tied weights that come back as two",
        "checkpoint.py",
        "    _share(model, shared)\n",
        "",
        "test_checkpoint.py::test_tied_weights_stay_tied",
    ),
    Mutant(
        "unequal weights taken for one",
        "checkpoint.py",
        "        _check_shared(shared, weights)\n",
        "",
        "test_checkpoint.py::test_a_bad_list_of_tied_weights_is_refused",
    ),
    Mutant(
        "layers built before the tensors back them up",
        "checkpoint.py",
        "if num_layers * _TENSORS_PER_LAYER > num_tensors:",
        "if False:",
        "test_checkpoint.py::test_sizes_that_no_tensor_backs_up_"
        "are_refused_before_anything_is_built",
    ),
    Mutant(
        "loading that waits for PyTorch's compiler",
        "embedding.py",
        "if torch.empty(0).is_meta:",
        "if False:",
        "test_checkpoint.py::test_saving_and_loading_do_not_wait_for_pytorchs_compiler",
    ),
    Mutant(
        "a table of positions as long as a file asks for",
        "position_encoding.py",
        "kept = min(self.max_len, MAX_TABLE_LENGTH)",
        "kept = self.max_len",
        "test_checkpoint.py::test_a_length_that_no_tensor_backs_up_costs_nothing",
    ),
    Mutant(
        "random numbers of other threads taken back by loading",
        "checkpoint.py",
        '    with torch.device("meta"):\n        return',
        "    with torch.random.fork_rng(devices=[]):\n        return",
        "test_checkpoint.py::test_loading_leaves_everybodys_random_numbers_alone",
    ),
    Mutant(
        "parts without bias taken for whole ones",
        "transformer.py",
        '    check_weights("of model", model.state_dict(), as_built.state_dict())\n',
        "",
        "test_torch_conversion.py::"
        "test_a_missing_bias_is_named_before_anything_is_converted",
    ),
    Mutant(
        "random numbers drawn to look at classes",
        "transformer.py",
        '    with torch.device("meta"):\n        as_built',
        "    if True:\n        as_built",
        "test_torch_conversion.py::"
        "test_neither_conversion_touches_anybodys_random_numbers",
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
    # What is shown and printed, and what exercises say
    Mutant(
        "labels and titles read as formulas",
        "plotting.py",
        '{"parse_math": False, "usetex": False}',
        "{}",
        "test_plotting.py::test_labels_and_titles_are_shown_as_they_are",
    ),
    Mutant(
        "a figure that a notebook shows twice",
        "plotting.py",
        "    bar.ax.tick_params(labelsize=8)\n",
        "    bar.ax.tick_params(labelsize=8)\n    return figure\n",
        "test_plotting.py::"
        "test_a_cell_shows_one_picture_whether_or_not_it_ends_with_show",
    ),
    Mutant(
        "verdicts printed as if every console knew every character",
        "notebook.py",
        "_encodable(character, encoding) for character in text",
        "character for character in text",
        "test_notebook.py::test_what_the_package_prints_can_be_printed_anywhere",
    ),
    Mutant(
        "results looked for outside the package",
        "notebook.py",
        'resources.files("transformer") / "results"',
        'resources.files("transformer").parent / "benchmarks/results"',
        "test_notebook.py::test_results_are_read_from_the_package",
    ),
    Mutant(
        "a stored model that computes in the format it is stored in",
        "notebook.py",
        "load_checkpoint(file).float()",
        "load_checkpoint(file)",
        "test_notebook.py::test_the_stored_models_do_what_their_names_say",
    ),
    Mutant(
        "an arrow that cp1252 does not have",
        "observation.py",
        '"  " if index else "->"',
        '" " if index else "→"',
        "test_observation.py::test_the_ledger_can_be_printed_where_only_ascii_can",
    ),
    Mutant(
        "SystemExit in a reader's code ends the check",
        "exercises/self_check.py",
        "except BaseException as error:",
        "except Exception as error:",
        "exercises/test_odd_answers.py::test_every_odd_answer_gets_one_line",
    ),
    Mutant(
        "an interrupt from the keyboard taken for an answer",
        "exercises/self_check.py",
        "    except KeyboardInterrupt:\n        raise\n",
        "",
        "exercises/test_odd_answers.py::"
        "test_an_interrupt_from_the_keyboard_gets_through",
    ),
    Mutant(
        "a reader's class asked whether its object is right",
        "exercises/self_check.py",
        "expected.__eq__(result) is True",
        "bool(result == expected)",
        "exercises/test_odd_answers.py::test_no_object_can_call_itself_right",
    ),
    Mutant(
        "inputs of the next try changed by a reader's function",
        "exercises/self_check.py",
        "attempt(answer, *copy.deepcopy(arguments))",
        "attempt(answer, *arguments)",
        "exercises/test_odd_answers.py::"
        "test_odd_answers_leave_the_inputs_of_the_next_try_as_they_are",
    ),
    Mutant(
        "the book's own solutions counted as a reader's",
        "exercises/grading.py",
        'if not (in_solution and cell.cell_type == "code"):',
        "if cell:",
        "exercises/test_grading.py::test_the_books_own_solution_solves_nothing",
    ),
    Mutant(
        "a wrong answer counted as solved",
        "exercises/grading.py",
        'said.startswith("✓")',
        "bool(said)",
        "exercises/test_grading.py::test_a_check_is_right_wrong_or_never_called",
    ),
    Mutant(
        "a wrong call undoes a right one before it",
        "exercises/grading.py",
        "solved[check] = is_right or bool(solved[check])",
        "solved[check] = is_right",
        "exercises/test_grading.py::"
        "test_one_right_call_is_enough_and_errors_elsewhere_do_not_matter",
    ),
    Mutant(
        "inputs made on whatever device is the default",
        "exercises/self_check.py",
        'with torch.device("cpu"):',
        "if True:",
        "exercises/test_odd_answers.py::"
        "test_inputs_are_on_the_cpu_whatever_device_is_the_default",
    ),
    Mutant(
        "odd readings compared instead of looked at",
        "exercises/troubleshooting.py",
        "if all(map(is_blank, given.values())):",
        "if all(answer in (None, ...) for answer in given.values()):",
        "exercises/test_odd_answers.py::"
        "test_odd_readings_of_every_name_get_a_line_each",
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
