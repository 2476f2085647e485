"""An examination of frozen features: key and instrument of a clip, bass and melody of a frame.

MERT's evaluation asks shallow probes on frozen features for tags, keys, pitches, instruments
(MARBLE). Here are four questions about the book's procedural music, on clean clips and on the same
clips with pieces of others mixed in, always the same items and the same noise.

Shapes: n clips, T frames of them, D channels; every layer of the student is asked.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gentok.data import Music
from gentok.nn.spectrogram import ConstantQ
from gentok.signals.mert.masking import mix_in_batch
from gentok.signals.mert.model import MERT, MERTConfig, build
from gentok.signals.mert.probing import probe_layers
from gentok.signals.mert.spectral_codec import SpectralCodec, kept_levels

QUESTIONS = ("key", "instrument", "bass", "melody")
PITCH, TONAL = ("bass", "melody"), ("key", "bass", "melody")
EVERY = 16  # frames between two that are asked about
NOISE_SEED = 5


class Exam:
    """Fixed clips, their labels, and the noise that is mixed into some of them.

    The last clips are the test; of the others three in four train the probes, and the rest chooses
    the layer.

    Args:
        music, wave: n clips, and their sound (n, L).
        config: of the students; rate, stride and the lengths of the pieces that are mixed in.
        test: clips of the test; a third if None.
    """

    def __init__(self, music: Music, wave: Tensor, config: MERTConfig, test: int | None = None):
        n, frames = len(wave), config.num_frames(wave.shape[1])
        last = n - (n // 3 if test is None else test)
        self.wave, self.at = wave, torch.arange(EVERY // 2, frames, EVERY)
        self.cuts = slice(0, 3 * last // 4), slice(3 * last // 4, last), slice(last, n)
        seconds = self.at * config.stride / config.rate
        eighth = (seconds / music.step[:, None]).long().clamp_max(music.pitch.shape[2] - 1)
        self.labels = {
            "key": music.key,
            "instrument": music.instrument,
            "bass": music.pitch[:, 0].gather(1, eighth) % 12,  # (n, frames asked)
            "melody": music.pitch[:, 3].gather(1, eighth) % 12,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(NOISE_SEED)
            self.noisy = mix_in_batch(wave[self.cuts[2]], 1.0, config.mixture_lengths)

    @torch.no_grad()
    def features(self, student: MERT, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Means over time, (n, layers, D), and single frames, (n, frames asked, layers, D)."""
        states = torch.cat([student.encode(part) for part in wave.split(50)])
        return states.mean(2), states[:, :, self.at].transpose(1, 2)

    def ask(self, student: MERT) -> dict[str, float | list[float]]:
        """Test accuracies, all in [0, 1].

        Returns:
            of each question its accuracy, ``noisy_<question>`` by the same probe on noisy clips,
            and ``<question>_layers``; ``pitch``, ``tonal`` and ``noisy``: means of bass and melody,
            of these and the key, and of all four on noisy clips.
        """
        student = student.eval()
        clean = [self.features(student, self.wave[cut]) for cut in self.cuts]
        loud = self.features(student, self.noisy)
        found: dict[str, float | list[float]] = {}
        for name in QUESTIONS:
            parts = [self._items(x, name, cut) for x, cut in zip(clean, self.cuts, strict=True)]
            probed = probe_layers(*parts)
            x, label = self._items(loud, name, self.cuts[2])
            found[name] = probed.accuracy
            found[f"noisy_{name}"] = probed.probe.accuracy(x[:, probed.best], label)
            found[f"{name}_layers"] = probed.layers
        means = {"pitch": PITCH, "tonal": TONAL, "noisy": [f"noisy_{name}" for name in QUESTIONS]}
        return found | {name: _mean(found, names) for name, names in means.items()}

    def _items(self, features: tuple[Tensor, Tensor], name: str, cut: slice):
        """Features and labels of one question; where single frames are asked, each is an item."""
        clips, frames = features
        label = self.labels[name][cut]
        if label.ndim == 1:
            return clips, label
        return frames.flatten(0, 1), label.flatten()


def _mean(found: dict, names: Sequence[str]) -> float:
    return sum(found[name] for name in names) / len(names)


@torch.no_grad()
def spectral_errors(codec: SpectralCodec, wave: Tensor, constant_q: ConstantQ) -> Tensor:
    """What the sound of the first 1, 2, ... Q codes a frame lacks, semitone by semitone.

    Args:
        wave: clean clips, (n, L).
        constant_q: the instrument that measures; its bins need not be the codec's.

    Returns:
        (Q, K): squared error of the magnitudes in a bin, as a share of the energy of all bins; the
        sum over bins is 0 for the clean sound and 1 for silence.
    """
    energy, wrong = 0.0, torch.zeros(codec.config.num_codebooks, constant_q.num_bins)
    for part in wave.split(32):  # the search for phases is greedy for memory
        truth, codes = constant_q(part), codec.encode(part)  # (n, K, T)
        energy += float(truth.square().sum())
        for level in range(len(wrong)):
            heard = constant_q(codec.decode(kept_levels(codes, level + 1)))
            frames = min(heard.shape[2], truth.shape[2])
            wrong[level] += (heard[..., :frames] - truth[..., :frames]).square().sum((0, 2))
    return wrong / energy


def untrained(config: MERTConfig, seed: int = 0) -> MERT:
    """The network before its first step: what its features know, they owe to their shape."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config).eval()
