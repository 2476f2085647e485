"""Mechanisms broken on purpose, one line each, and the test that must notice.

`tests/test_mutations.py` applies each to a copy of the library. A line is added here with every
mechanism whose loss would leave shapes right and numbers plausible: those are the errors that only
a good test finds.
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple

UNUSED = ("xdist", "nbval", "anyio")  # plugins


class Mutation(NamedTuple):
    """One mistake: in `file`, `old` (found exactly once) becomes `new`, and `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


def run_tests(library: Path, tests: list[str], log: Path) -> None:
    """Run tests with a copy of the library, in a process of their own; exits with their status.

    What others have imported of the library is forgotten: the tests import the copy.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "gentok"]:
        del sys.modules[name]
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for variable in list(os.environ):
        if variable.startswith("PYTEST"):
            del os.environ[variable]
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(library.parent / "hypothesis")
    sys.path.insert(0, str(library))
    import pytest
    from hypothesis import Phase, settings

    # That a test fails is all that is asked: no search for the smallest example that makes it.
    settings.register_profile("once", phases=[Phase.explicit, Phase.generate])
    settings.load_profile("once")
    unused = [word for name in UNUSED for word in ("-p", f"no:{name}")]
    folder = library.parent / "tmp"
    places = [f"--basetemp={folder}", "-o", f"cache_dir={library.parent / 'cache'}"]
    status = pytest.main(["-x", "-q", *unused, *places, *tests])
    sys.stdout.flush()
    os._exit(int(status))


MUTATIONS = [
    Mutation(
        "the straight-through stop-gradient is dropped",
        "nn/quantize.py",
        "return z + (z_q - z).detach(), codes, loss",
        "return z + (z_q - z), codes, loss",
        "tests/nn/test_quantize.py::test_gradient_passes_straight_through",
    ),
    Mutation(
        "the farthest code is chosen",
        "nn/quantize.py",
        "partial_distances(z, codebook).argmin(-1)",
        "partial_distances(z, codebook).argmax(-1)",
        "tests/nn/test_quantize.py::test_codes_are_the_nearest",
    ),
    Mutation(
        "the commitment loss does not reach the encoder",
        "nn/quantize.py",
        "F.mse_loss(z, z_q)",
        "F.mse_loss(z.detach(), z_q)",
        "tests/nn/test_quantize.py::test_commitment_pulls_latents_to_their_codes",
    ),
    Mutation(
        "the moving average forgets at the wrong rate",
        "nn/quantize.py",
        "self.sums.lerp_(sums, 1 - self.decay)",
        "self.sums.lerp_(sums, self.decay)",
        "tests/nn/test_quantize.py::test_one_moving_average_step",
    ),
    Mutation(
        "dead codes stay dead",
        "nn/quantize.py",
        "self.counts < self.dead_threshold",
        "self.counts < 0",
        "tests/nn/test_quantize.py::test_dead_codes_move_onto_latents",
    ),
    Mutation(
        "residual levels all see the same latent",
        "nn/quantize.py",
        "residual = residual - step",
        "residual = z - step",
        "tests/nn/test_quantize.py::test_residual_levels_quantize_what_is_left",
    ),
    Mutation(
        "two wavelet bands are swapped",
        "nn/wavelet.py",
        "torch.cat([top - bottom, left + right,",
        "torch.cat([left + right, top - bottom,",
        "tests/nn/test_wavelet.py::test_bands_equal_pywavelets",
    ),
    Mutation(
        "the inverse wavelet gets a sign wrong",
        "nn/wavelet.py",
        "bottom.sub_(hl).add_(hh)",
        "bottom.sub_(hl).sub_(hh)",
        "tests/nn/test_wavelet.py::test_inverse_and_energy",
    ),
    Mutation(
        "the confident tokens are hidden instead of the doubtful",
        "process/masked.py",
        "return ranks < num_masked",
        "return ranks >= num_masked",
        "tests/process/test_masked.py::test_remask_hides_the_least_confident_and_never_the_certain",
    ),
    Mutation(
        "the random mask is inverted",
        "process/masked.py",
        "return order < num_masked",
        "return order >= num_masked",
        "tests/process/test_masked.py::test_random_masks_hide_exactly_so_many_and_everywhere",
    ),
    Mutation(
        "the masking schedule is a sine",
        "process/masked.py",
        "math.cos(math.pi / 2 * (step + 1) / num_steps)",
        "math.sin(math.pi / 2 * (step + 1) / num_steps)",
        "tests/process/test_masked.py::test_schedule_equals_the_published_counts",
    ),
    Mutation(
        "the sign of the KL term is flipped",
        "process/gaussian.py",
        "nats = 0.5 * (",
        "nats = -0.5 * (",
        "tests/process/test_gaussian.py::test_kl_equals_torch",
    ),
    Mutation(
        "the posterior's variance is used as its standard deviation",
        "process/gaussian.py",
        "(0.5 * self.logvar).exp()",
        "self.logvar.exp()",
        "tests/process/test_gaussian.py::test_samples_have_the_stated_moments",
    ),
    Mutation(
        "the velocity points backwards",
        "process/flow.py",
        "return x - noise",
        "return noise - x",
        "tests/process/test_flow.py::test_velocity_is_the_derivative_of_the_path",
    ),
    Mutation(
        "time runs from data to noise",
        "process/flow.py",
        "torch.lerp(noise, x, expand(t, x))",
        "torch.lerp(x, noise, expand(t, x))",
        "tests/process/test_flow.py::test_time_runs_from_noise_to_data",
    ),
    Mutation(
        "the generator helps the discriminator",
        "process/adversarial.py",
        "return -fake.mean()",
        "return fake.mean()",
        "tests/process/test_adversarial.py::test_hinge_at_known_logits",
    ),
    Mutation(
        "guidance starts from the conditional answer",
        "process/guidance.py",
        "guided = unconditional + scale",
        "guided = conditional + scale",
        "tests/process/test_adversarial.py::test_guidance_ends",
    ),
    Mutation(
        "attention reads hidden keys",
        "nn/attention.py",
        "attn_mask=mask",
        "attn_mask=None",
        "tests/nn/test_attention.py::test_a_hidden_key_cannot_be_read",
    ),
    Mutation(
        "the latents of FA-VAE are stacked in the wrong order",
        "latents/fa_vae/model.py",
        "branches = (self.low, self.high)",
        "branches = (self.high, self.low)",
        "tests/latents/test_fa_vae.py::test_latents_are_stacked_low_first",
    ),
    Mutation(
        "the low band leaves its range",
        "latents/fa_vae/model.py",
        "return low / LOW_SCALE, high",
        "return low, high",
        "tests/latents/test_fa_vae.py::test_split_and_merge_are_inverse_and_stay_in_range",
    ),
    Mutation(
        "the head of the masked transformer trains the word embeddings",
        "base/masked/nat.py",
        "F.linear(h, words.detach(), self.bias)",
        "F.linear(h, words, self.bias)",
        "tests/base/test_nat.py::test_head_reads_the_word_embeddings_without_training_them",
    ),
    Mutation(
        "one player's turn moves the others",
        "training/loop.py",
        "with alone(player, players), run.one_step():",
        "with run.one_step():",
        "tests/training/test_train.py::test_players_move_in_turn_and_alone",
    ),
    Mutation(
        "a codebook moves once a micro-batch",
        "nn/gather.py",
        "        elif _waiting is None:",
        "        elif True:",
        "tests/nn/test_gather.py::test_the_same_codebook_whole_or_in_parts",
    ),
    Mutation(
        "biases decay, too",
        "training/parameter_groups.py",
        "is_spared = parameter.ndim < 2 or",
        "is_spared =",
        "tests/training/test_parameter_groups.py::test_matrices_and_kernels_decay_and_nothing_else",
    ),
    Mutation(
        "a learning rate falls to 0 and not to its floor",
        "training/schedules.py",
        "return self.floor + (1 - self.floor) * self._fall(step, steps, warmup)",
        "return self._fall(step, steps, warmup)",
        "tests/training/test_schedules.py::test_cosine_with_a_floor_equals_torch",
    ),
    Mutation(
        "the network teaches itself",
        "tokens/enat/model.py",
        "self._teacher[0] if self._teacher else self",
        "self",
        "tests/tokens/test_enat.py::test_the_teacher_is_no_part_of_the_network",
    ),
    Mutation(
        "an interval that only touches the expected side is enough",
        "book/verdicts.py",
        "(high < 0, low > 0) if",
        "(low < 0, high > 0) if",
        "tests/book/test_verdicts.py::test_swapping_the_sides_mirrors_the_verdict",
    ),
    Mutation(
        "ENAT's earlier step is trained through the later one",
        "tokens/enat/model.py",
        "take(previous, groups.old).detach()",
        "take(previous, groups.old)",
        "tests/tokens/test_enat.py::test_no_gradient_enters_the_earlier_step",
    ),
    Mutation(
        "the variational autoencoder forgets features of negative sign",
        "interpret/vsae/model.py",
        "indices = z.detach().abs().topk(",
        "indices = z.detach().topk(",
        "tests/interpret/test_vsae.py::test_evaluation_equals_the_equations",
    ),
    Mutation(
        "the KL term of the features pays for certainty",
        "interpret/vsae/model.py",
        "(square + log_variance.exp() - 1 - log_variance)",
        "(square - log_variance.exp() + 1 + log_variance)",
        "tests/interpret/test_vsae.py::test_kl_equals_torch_distributions",
    ),
    Mutation(
        "the gradient of the dictionary keeps its length component",
        "nn/sae.py",
        "return without_parallel_gradient(self.dictionary)",
        "return self.dictionary",
        "tests/nn/test_sae.py::test_gradient_has_no_component_along_an_entry",
    ),
    Mutation(
        "CvT scales its scores by the width of a head",
        "backbones/cvt/attention.py",
        "self.scale = dim**-0.5",
        "self.scale = (dim // num_heads) ** -0.5",
        "tests/backbones/test_cvt.py::test_attention_by_its_equation",
    ),
    Mutation(
        "the label of CutMix ignores that the border clips the rectangle",
        "data/mixing.py",
        "return out, 1 - taken / (height * width)",
        "return out, weight",
        "tests/data/test_mixing.py::test_labels_say_what_the_images_hold",
    ),
    Mutation(
        "stochastic depth drops numbers and not images",
        "nn/stochastic_depth.py",
        "torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device)",
        "torch.rand(x.shape, device=x.device)",
        "tests/nn/test_stochastic_depth.py::test_whole_items_are_dropped_and_the_mean_stays",
    ),
    Mutation(
        "a level of Mogo reads its own codes alone",
        "signals/mogo/model.py",
        "return self.embedding(codes).cumsum(2)",
        "return self.embedding(codes)",
        "tests/signals/test_mogo.py::test_inputs_are_prefix_sums_of_one_table",
    ),
    Mutation(
        "distances of relative attention run the wrong way",
        "signals/mogo/relative_attention.py",
        "torch.arange(total - 1, -1, -1, device=q.device)",
        "torch.arange(total, device=q.device)",
        "tests/signals/test_mogo_relative_attention.py::test_equals_the_formula_pair_by_pair",
    ),
    Mutation(
        "codes of motion are never drawn, only the nearest taken",
        "signals/mogo/sampled_rvq.py",
        "sample_categorical(-partial_distances(flat, self.codebook) / self.temperature)",
        "(-partial_distances(flat, self.codebook) / self.temperature).argmax(-1)",
        "tests/signals/test_mogo_sampled_rvq.py::test_training_draws_codes_by_distance",
    ),
    Mutation(
        "the axial decoder's rows above include the present one",
        "tokens/axial/decoder.py",
        "return shift(u, COLUMN)",
        "return u",
        "tests/tokens/test_axial.py::test_probabilities_of_all_pictures_add_up_to_one",
    ),
    Mutation(
        "the exterior shows the plane that is to be predicted",
        "tokens/axial/model.py",
        "(order < channel[:, None])",
        "(order <= channel[:, None])",
        "tests/tokens/test_axial.py::test_probabilities_of_all_pictures_add_up_to_one",
    ),
    Mutation(
        "the axial decoder's positions name the pixel read, not the one to predict",
        "tokens/axial/decoder.py",
        "r = shift(h, ROW) + u + where\n        for",
        "r = shift(h + where, ROW) + u\n        for",
        "tests/tokens/test_axial.py::test_condition_enters_twice",
    ),
    Mutation(
        "the zero frame of the video unshuffle stands behind the frames",
        "nn/conv3d.py",
        "x = F.pad(x, (0, 0, 0, 0, factor - 1, 0))",
        "x = F.pad(x, (0, 0, 0, 0, 0, factor - 1))",
        "tests/nn/test_conv3d.py::test_phases_of_a_channel_are_neighbours_so_that_averaging_blurs_it",
    ),
    Mutation(
        "winner and loser of a preference see different noise",
        "process/preference.py",
        "loser_noise = noise if loser_noise is None else loser_noise",
        "loser_noise = torch.randn_like(noise) if loser_noise is None else loser_noise",
        "tests/process/test_preference.py::test_winner_and_loser_meet_the_same_noise_at_the_same_time",
    ),
    Mutation(
        "text attention of Step-Video reads normalised tokens",
        "video/step_video/blocks.py",
        "self.text_attention(x, text, mask)",
        "self.text_attention(self.norm2(x), text, mask)",
        "tests/video/test_step_video.py::test_block_modulates_on_top_of_affine_norms_and_text_has_neither_norm_nor_gate",
    ),
    Mutation(
        "the shift of RAE pushes time towards data",
        "latents/rae/dit.py",
        "return shift_times(t.clamp_min(LEAST_TIME), 1 / self.config.alpha)",
        "return shift_times(t.clamp_min(LEAST_TIME), self.config.alpha)",
        "tests/latents/test_rae_dit.py::test_training_times_lie_nearer_to_noise",
    ),
    Mutation(
        "the encoder of RAE keeps the affine of its last LayerNorm",
        "latents/rae/encoder.py",
        "        _drop_last_affine(backbone)\n",
        "",
        "tests/latents/test_rae_encoder.py::test_each_token_has_mean_0_and_variance_1",
    ),
    Mutation(
        "RAE's decoder sees noise of one strength for the whole batch",
        "latents/rae/model.py",
        "shape, tau = (len(z), 1, 1, 1), self.config.noise",
        "shape, tau = (1, 1, 1, 1), self.config.noise",
        "tests/latents/test_rae.py::test_noise_has_one_scale_a_sample_and_the_stated_law",
    ),
    Mutation(
        "MERT's musical target is taken from the noisy mixture",
        "signals/mert/model.py",
        "else self.musical(wave)  # (B, T, K)",
        "else self.musical(mix_in_batch(wave, 1.0, config.mixture_lengths))",
        "tests/signals/test_mert.py::test_targets_are_those_of_the_clean_sound",
    ),
    Mutation(
        "a piece of noise may come from the clip itself",
        "signals/mert/masking.py",
        "place = torch.where(place < own, place, place + length)",
        "place = torch.where(place < own, place, place)",
        "tests/signals/test_mert.py::test_pieces_come_from_other_clips_in_full_loudness",
    ),
    Mutation(
        "the code loss is averaged over the codebooks",
        "signals/mert/model.py",
        "target.flatten()) * codes.shape[-1]",
        "target.flatten())",
        "tests/signals/test_mert.py::test_uniform_predictions_cost_the_logarithm_of_all_labels",
    ),
    Mutation(
        "a nested layer takes the last columns of its second matrix",
        "efficient/matformer/nested.py",
        "return F.linear(h, self.down.weight[:, :m], self.down.bias)",
        "return F.linear(h, self.down.weight[:, -m:], self.down.bias)",
        "tests/efficient/test_matformer.py::test_nested_layer_is_the_dense_layer_of_its_prefix",
    ),
    Mutation(
        "a refused draft is replaced from the verifier's law, not the residual",
        "process/speculative.py",
        "residual = (verifier_law - F.pad(draft_law, (0, 0, 0, 1))).clamp_min(0)",
        "residual = verifier_law.clone()",
        "tests/process/test_speculative.py::test_first_token_and_the_one_after_follow_the_verifier",
    ),
    Mutation(
        "a twin starts from random numbers of its own",
        "efficient/matformer/family.py",
        "{name: extract(nested, name) for",
        "{name: build(extract(nested, name).config) for",
        "tests/efficient/test_matformer.py::test_a_family_starts_from_the_same_numbers",
    ),
    Mutation(
        "the joint loss is a sum, which multiplies the learning rate",
        "efficient/matformer/model.py",
        "return torch.stack(losses).mean(), parts",
        "return torch.stack(losses).sum(), parts",
        "tests/efficient/test_matformer.py::test_joint_loss_is_the_mean_of_the_granularities",
    ),
    Mutation(
        "blocks are told the positions once and not at every input",
        "shapes/point_mae/layers.py",
        "            x = block(x + position)\n",
        "            x = block(x if outputs else x + position)\n",
        "tests/shapes/test_point_mae.py::test_position_is_added_before_every_block",
    ),
    Mutation(
        "the two directions of the Chamfer distance are averaged",
        "measure/chamfer.py",
        "return forward + backward",
        "return (forward + backward) / 2",
        "tests/measure/test_chamfer.py::test_both_directions_count_in_full",
    ),
    Mutation(
        "farthest points keep away from the latest one only",
        "nn/points.py",
        "nearest = torch.minimum(nearest, gap)",
        "nearest = gap",
        "tests/nn/test_points.py::test_farthest_points_are_distinct_and_start_at_zero",
    ),
    Mutation(
        "the axis variances come from means",
        "latents/ard_vae/model.py",
        "z = mean if means else mean +",
        "z = mean if not means else mean +",
        "tests/latents/test_ard_vae.py::test_the_prior_is_the_second_moment_of_samples_and_a_constant",
    ),
    Mutation(
        "the prior is read off pictures that are trained on",
        "latents/ard_vae/epochs.py",
        "if self.overlap:",
        "if not self.overlap:",
        "tests/latents/test_ard_vae.py::test_an_epochs_parts_are_disjoint_and_new_in_each",
    ),
    Mutation(
        "the KL forgets the logarithm of the prior's variance",
        "process/ard.py",
        "return 0.5 * (variance.log() - logvar",
        "return 0.5 * (-logvar",
        "tests/process/test_ard.py::test_kl_is_torchs",
    ),
    Mutation(
        "slopes of either sign cancel in the relevance",
        "process/relevance.py",
        "column.abs().mean(0)",
        "column.mean(0)",
        "tests/process/test_relevance.py"
        "::test_the_mean_is_taken_of_absolute_values_before_squaring",
    ),
    Mutation(
        "all axes are drawn, not the relevant ones alone",
        "latents/ard_vae/model.py",
        "spread = self.variance.sqrt() * self.relevant",
        "spread = self.variance.sqrt()",
        "tests/latents/test_ard_vae.py::test_only_relevant_axes_are_drawn",
    ),
    Mutation(
        "the KL of a code is a sum, so that beta depends on E",
        "latents/vitok/model.py",
        "posterior.kl().mean() / posterior.mean[0].numel()",
        "posterior.kl().mean()",
        "tests/latents/test_vitok.py::test_the_loss_is_the_sheets",
    ),
    Mutation(
        "the adversary is let in at once",
        "latents/vitok/tuning.py",
        "return self.gan_weight * min(max(risen, 0.0), 1.0)",
        "return self.gan_weight",
        "tests/latents/test_vitok.py::test_the_schedule_of_the_adversary",
    ),
    Mutation(
        "axial positions have their axes swapped",
        "latents/vitok/stack.py",
        ".flip(1)[:",
        "[:",
        "tests/latents/test_vitok.py::test_axial_turns",
    ),
    Mutation(
        "weights of arriving edges are not divided by their sum",
        "tokens/sg2im/attention.py",
        "return (gathered / (total + EPSILON)).flatten(1)",
        "return gathered.flatten(1)",
        "tests/tokens/test_sg2im.py::test_attention_is_that_of_dense_masked_matrices",
    ),
    Mutation(
        "a corner counts columns first",
        "tokens/sg2im/tokens.py",
        "return y * self.sections + x",
        "return x * self.sections + y",
        "tests/tokens/test_sg2im.py::test_published_tokens",
    ),
    Mutation(
        "inside and surrounding change places",
        "data/relations.py",
        "found[within(subject, other)] = INSIDE",
        "found[within(subject, other)] = SURROUNDING",
        "tests/data/test_graph_scenes.py::test_a_box_in_a_box_is_inside_and_not_beside",
    ),
    Mutation(
        "experts take the tokens that they like least",
        "nn/experts.py",
        "self.tokens_per_expert(x.shape[1]), dim=-1)",
        "self.tokens_per_expert(x.shape[1]), dim=-1, largest=False)",
        "tests/nn/test_experts.py::test_expert_choice_is_brute_force",
    ),
    Mutation(
        "what experts say is not weighted",
        "nn/experts.py",
        "out = weights[..., None] * self.experts(rows)",
        "out = self.experts(rows)",
        "tests/nn/test_experts.py::test_expert_choice_is_the_products_with_one_hot_matrices",
    ),
    Mutation(
        "the patch mixer misses the patches that are dropped",
        "diffusion/micro_diffusion/model.py",
        "tokens = self.mixer(tokens, y, c)",
        "seen = tokens if keep is None else take_tokens(tokens, keep)\n"
        "        seen = tokens if keep is None else put_tokens(seen, keep, config.num_tokens)\n"
        "        tokens = self.mixer(seen, y, c)",
        "tests/diffusion/test_micro_diffusion.py::"
        "test_a_dropped_patch_speaks_through_the_mixer_and_not_without_it",
    ),
    Mutation(
        "dropped patches carry a loss",
        "diffusion/micro_diffusion/model.py",
        "(patches if keep is None else patches.gather(1, keep)).mean(1)",
        "patches.mean(1)",
        "tests/diffusion/test_micro_diffusion.py::test_the_loss_is_that_of_kept_patches_alone",
    ),
    Mutation(
        "masking ends a step too late",
        "diffusion/micro_diffusion/model.py",
        "(end is None or step < end)",
        "(end is None or step <= end)",
        "tests/diffusion/test_micro_diffusion.py::test_the_schedule_of_the_mask",
    ),
    Mutation(
        "latents keep a deviation of one",
        "diffusion/micro_diffusion/model.py",
        "return self.normalize(z) * self.config.sigma_data",
        "return self.normalize(z)",
        "tests/diffusion/test_micro_diffusion.py::"
        "test_a_published_autoencoders_factor_is_used_as_it_is",
    ),
    Mutation(
        "the last block has experts, too",
        "diffusion/micro_diffusion/config.py",
        "i % 2 == 1 and i < self.depth - 1",
        "i % 2 == 1",
        "tests/diffusion/test_micro_diffusion.py::test_layer_wise_widths_are_the_published_ones",
    ),
    Mutation(
        "positions are not squeezed",
        "diffusion/micro_diffusion/layers.py",
        "sincos_1d(axis.flatten() / scale, dim // 2)",
        "sincos_1d(axis.flatten(), dim // 2)",
        "tests/diffusion/test_micro_diffusion.py::"
        "test_positions_are_those_of_numpy_and_squeezed_by_the_scale",
    ),
    Mutation(
        "the norm of a caption stands before the activation",
        "diffusion/micro_diffusion/layers.py",
        "self.fc2(self.norm(self.act(self.fc1(x))))",
        "self.fc2(self.act(self.norm(self.fc1(x))))",
        "tests/diffusion/test_micro_diffusion.py::"
        "test_captions_pass_norm_after_activation_and_all_places_are_averaged",
    ),
    Mutation(
        "top and bottom change places",
        "data/placed_shapes.py",
        "position=(towards * out + shake)[:, None]",
        "position=(shake - towards * out)[:, None]",
        "tests/data/test_placed_shapes.py::test_places_are_the_detectors",
    ),
    Mutation(
        "a refused picture is learned",
        "tokens/atvc/stream.py",
        "else obeyed",
        "else torch.ones_like(obeyed)",
        "tests/tokens/test_atvc.py::test_nothing_is_learned_at_a_refused_image",
    ),
    Mutation(
        "outputs are cut one place too far right",
        "tokens/atvc/stream.py",
        "hidden[:, first - 1 : end - 1]",
        "hidden[:, first:end]",
        "tests/tokens/test_atvc.py::test_losses_are_softmax_over_the_places_own_words",
    ),
    Mutation(
        "padding is read",
        "tokens/atvc/stream.py",
        "keys[:, first:end] = tokens[:, first:end] != PAD",
        "keys[:, first:end] = True",
        "tests/tokens/test_atvc.py::test_padding_is_neither_read_nor_learned",
    ),
    Mutation(
        "an impossible order is no longer forbidden",
        "tokens/atvc/orders.py",
        "named = torch.where(self.type == FORBIDDEN, self.a, self.absent)",
        "named = self.absent",
        "tests/tokens/test_atvc.py::test_the_three_answers_follow_the_rules",
    ),
]
