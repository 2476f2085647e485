"""Mechanisms broken on purpose, one line each, and the test that must notice.

`tests/test_mutations.py` applies each to a copy of the library. A line is added here with every
mechanism whose loss would leave shapes right and numbers plausible: those are the errors that only
a good test finds.
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple


class Mutation(NamedTuple):
    """One mistake: in `file`, `old` (found exactly once) becomes `new`, and `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


def run_tests(library: Path, tests: list[str], log: Path) -> None:
    """Run tests with a copy of the library, in a process of their own; exits with their status.

    This module imports nothing of the library, so that the copy is the one the tests import.
    """
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for variable in list(os.environ):
        if variable.startswith("PYTEST"):
            del os.environ[variable]
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(library.parent / "hypothesis")
    sys.path.insert(0, str(library))
    import pytest

    cache = library.parent / "cache"
    status = pytest.main(["-x", "-q", "-p", "no:xdist", "-o", f"cache_dir={cache}", *tests])
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
        "alpha=-2).argmin(-1)",
        "alpha=-2).argmax(-1)",
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
        "low - lh - hl + hh",
        "low - lh - hl - hh",
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
        "return unconditional + scale",
        "return conditional + scale",
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
        "latents/fa_vae.py",
        "branches = (self.low, self.high)",
        "branches = (self.high, self.low)",
        "tests/latents/test_fa_vae.py::test_latents_are_stacked_low_first",
    ),
    Mutation(
        "the low band leaves its range",
        "latents/fa_vae.py",
        "return low / LOW_SCALE, high",
        "return low, high",
        "tests/latents/test_fa_vae.py::test_split_and_merge_are_inverse_and_stay_in_range",
    ),
    Mutation(
        "the head of the masked transformer trains the word embeddings",
        "tokens/nat.py",
        "F.linear(h, words.detach(), self.bias)",
        "F.linear(h, words, self.bias)",
        "tests/tokens/test_nat.py::test_head_reads_the_word_embeddings_without_training_them",
    ),
    Mutation(
        "one player's turn moves the others",
        "train.py",
        "with alone(player, players):",
        "with nullcontext():",
        "tests/test_train.py::test_players_move_in_turn_and_alone",
    ),
    Mutation(
        "an interval that only touches the expected side is enough",
        "claims.py",
        "agrees, disagrees = high < 0, low > 0",
        "agrees, disagrees = low < 0, high > 0",
        "tests/test_claims.py::test_swapping_the_sides_mirrors_the_verdict",
    ),
    Mutation(
        "ENAT's earlier step is trained through the later one",
        "tokens/enat.py",
        "take(previous, groups.old).detach()",
        "take(previous, groups.old)",
        "tests/tokens/test_enat.py::test_no_gradient_enters_the_earlier_step",
    ),
    Mutation(
        "the variational autoencoder forgets features of negative sign",
        "interpret/vsae.py",
        "indices = z.detach().abs().topk(",
        "indices = z.detach().topk(",
        "tests/interpret/test_vsae.py::test_evaluation_equals_the_equations",
    ),
    Mutation(
        "the KL term of the features pays for certainty",
        "interpret/vsae.py",
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
]
