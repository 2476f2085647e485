"""What MERT does to its input: spans of hidden frames, and noise from the rest of the batch.

Span masking: HuBERT (Hsu et al. 2021, II-C) as fairseq computes it. In-batch noise mixture: MERT
(Li et al. 2023), with the ranges of the released configurations.

Shapes: B clips, L samples, T frames, S spans, M hidden frames, P pieces.
"""

import torch
from torch import Tensor


def span_mask(
    num_clips: int, num_frames: int, share: float = 0.8, length: int = 5
) -> tuple[Tensor, Tensor]:
    """Hide spans that may overlap, equally many frames in every clip.

    floor(share * T / length + u) spans, u uniform in [0, 1) and shared by the batch, at least two,
    begin at different random frames. Overlaps make the hidden share smaller than ``share``: about
    1 - (1 - share / length)^length, 0.58 for 0.8 and 5. Then the clips give back random frames
    until all hide as many as the one that hides fewest.

    Args:
        num_clips: B; ``num_frames``: T, more than ``length``.
        share: of the frames that would be hidden if no spans overlapped; ``length``: of a span.

    Returns:
        mask: (B, T), bool, True where hidden, on the CPU.
        index: the hidden frames in rising order, (B, M), int64, on the CPU.

    Raises:
        ValueError: if ``share`` is not in (0, 1], or T does not exceed ``length``.
    """
    if not 0 < share <= 1 or not 1 <= length < num_frames:
        raise ValueError(
            f"need 0 < share <= 1 and 1 <= length < {num_frames}, got {share} and {length}"
        )
    with torch.device("cpu"):  # M depends on the values drawn
        spans = max(2, int(share * num_frames / length + torch.rand(()).item()))
        spans = min(spans, num_frames - length)
        starts = torch.rand(num_clips, num_frames - length).argsort(-1)[:, :spans]  # (B, S)
        covered = (starts[..., None] + torch.arange(length)).flatten(1)  # (B, S * length)
        mask = torch.zeros(num_clips, num_frames, dtype=torch.bool).scatter(1, covered, True)
        kept = int(mask.sum(1).min())  # M
        # Visible frames have a negative lot, so the M highest are hidden ones.
        lots = torch.rand(num_clips, num_frames).masked_fill(~mask, -1.0)
        index = lots.topk(kept, dim=1).indices.sort(dim=1).values  # (B, M)
        mask = torch.zeros_like(mask).scatter(1, index, True)
    return mask, index


def mix_in_batch(
    wave: Tensor, probability: float, lengths: tuple[int, int], most_pieces: int = 3
) -> Tensor:
    """Add pieces of other clips of the batch to some clips.

    With ``probability`` a clip receives 1 to ``most_pieces`` pieces. A piece has a uniform length
    and is cut anywhere from the other clips laid end to end, so it may run from one into the next.
    It is added at its full loudness at a uniform place. All pieces are cut from the clean batch.
    (The released code mixes clip by clip in place, so later clips can receive noise with noise in
    it, and draws "mix" with probability 1 - p, which at its p = 0.5 is the same.)

    Args:
        wave: clean clips, (B, L).
        lengths: shortest and longest piece, samples.

    Returns:
        A new tensor (B, L); a batch of one clip is returned as it is.

    Raises:
        ValueError: if ``probability`` is not in [0, 1] or a piece could be longer than a clip.
    """
    clips, length = wave.shape
    low, high = lengths
    if not 0 <= probability <= 1 or not 1 <= low <= high <= length:
        raise ValueError(
            "need 0 <= probability <= 1 and 1 <= shortest <= longest <= "
            f"{length} samples, got {probability} and {lengths}"
        )
    if clips == 1 or probability == 0:
        return wave
    device, slots = wave.device, (clips, most_pieces)
    size = torch.randint(low, high + 1, slots, device=device)  # (B, P) samples
    source = torch.randint((clips - 1) * length - high + 1, slots, device=device)
    room = (length - size + 1).to(torch.float64)
    target = (torch.rand(slots, device=device, dtype=torch.float64) * room).long()
    number = torch.randint(1, most_pieces + 1, (clips, 1), device=device)
    number = number * (torch.rand(clips, 1, device=device) < probability)
    used = torch.arange(most_pieces, device=device) < number  # (B, P)
    # Sample j of a piece stands at place source + j of the other clips laid end to end.
    j = torch.arange(length, device=device) - target[..., None]  # (B, P, L)
    inside = (j >= 0) & (j < size[..., None]) & used[..., None]
    place = source[..., None] + j.clamp_min(0)
    own = torch.arange(clips, device=device)[:, None, None] * length
    place = torch.where(place < own, place, place + length)  # jump over the clip itself
    noise = wave.flatten()[place.clamp_max(clips * length - 1)]  # (B, P, L)
    return wave + (noise * inside).sum(1)
