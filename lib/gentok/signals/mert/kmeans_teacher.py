"""The teacher before MERT's: clusters of MFCCs (HuBERT, Hsu et al. 2021, II-A and IV-B).

HuBERT's first targets are the cluster numbers of 39 numbers a frame: thirteen mel-frequency
cepstral coefficients and their first and second differences in time. They describe the outline of a
spectrum, the timbre, and hardly the notes. MERT's ablation starts from them.

Shapes: N clips, L samples, T = 1 + L // hop frames, C = 3 * 13 numbers a frame, K clusters.
"""

import torch
from torch import Tensor

from gentok.nn.spectrogram import MelSpectrogram, log_mel

COEFFICIENTS = 13
BANDS = 40  # mel bands below the cosine transform
FLOOR = 1e-3  # energy of a band below which it is silent


def differences(x: Tensor, reach: int = 2) -> Tensor:
    """Slopes over time, by least squares through ``2 reach + 1`` frames: (N, T, C) -> (N, T, C).

    sum_n n (x[t + n] - x[t - n]) / (2 sum_n n^2), n from 1 to ``reach`` (Young et al., The HTK
    Book, 5.9); the first and last frames are repeated beyond the ends.
    """
    ends = torch.cat([x[:, :1].expand(-1, reach, -1), x, x[:, -1:].expand(-1, reach, -1)], 1)
    frames, total = x.shape[1], torch.zeros_like(x)
    for n in range(1, reach + 1):
        ahead, behind = ends[:, reach + n :][:, :frames], ends[:, reach - n :][:, :frames]
        total = total + n * (ahead - behind)
    return total / (2 * sum(n * n for n in range(1, reach + 1)))


def mfcc(wave: Tensor, rate: int, hop: int, window: int = 512) -> Tensor:
    """Mel-frequency cepstral coefficients with two orders of differences.

    The cosine transform (type II, orthonormal) of a frame's logarithmic mel energies tells slow
    changes along the frequency axis, in the first coefficients, from fast ones, which are dropped.

    Args:
        wave: (N, L); ``rate``: samples a second.
        hop: samples between frames; ``window``: of the mel spectrogram, samples.

    Returns:
        (N, T, 39) float32.
    """
    from scipy.fft import dct  # slow to import

    energy = MelSpectrogram(rate, window, hop, BANDS).to(wave.device)(wave)  # (N, M, T)
    bands = log_mel(energy, FLOOR).transpose(1, 2).cpu()  # (N, T, M)
    cepstrum = torch.from_numpy(dct(bands.numpy(), type=2, norm="ortho"))[..., :COEFFICIENTS]
    slope = differences(cepstrum)
    return torch.cat([cepstrum, slope, differences(slope)], dim=-1)


class KMeansTeacher:
    """Numbers every frame by the nearest of K centres of MFCCs.

    Args:
        wave: clips to find the centres on, (N, L); ``rate``, ``hop``: as for :func:`mfcc`.
        num_clusters: K; HuBERT starts with 100.
        seed: of the first centres and of the batches.

    Raises:
        ValueError: if there are fewer frames than clusters.
    """

    def __init__(self, wave: Tensor, rate: int, hop: int, num_clusters: int = 100, seed: int = 0):
        from sklearn.cluster import MiniBatchKMeans  # slow to import

        self.rate, self.hop = rate, hop
        frames = mfcc(wave, rate, hop).flatten(0, 1)  # (N T, 39)
        if len(frames) < num_clusters:
            raise ValueError(f"need at least {num_clusters} frames, got {len(frames)}")
        # Coefficients differ a hundredfold in spread; unscaled, loudness alone would decide.
        self.mean, self.scale = frames.mean(0), frames.std(0).clamp_min(1e-6)
        self.clusters = MiniBatchKMeans(
            num_clusters, batch_size=4096, max_iter=50, n_init=3, random_state=seed
        ).fit(self._standard(frames))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Waveforms (N, L) -> cluster of each frame, (N, T, 1), int64."""
        features = mfcc(x, self.rate, self.hop)
        found = self.clusters.predict(self._standard(features.flatten(0, 1)))
        return torch.from_numpy(found).long().view(*features.shape[:2], 1)

    def _standard(self, frames: Tensor):
        return ((frames - self.mean) / self.scale).numpy()
