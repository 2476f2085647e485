"""How well trained weights of Mogo do: a spectator's eye on samples, millimetres of the tokenizer.

Shapes: n clips, T frames, F features, J joints.
"""

import torch
from torch import Tensor

from gentok.data import sample_motions
from gentok.data.motion import ACTIONS
from gentok.data.motion_features import feature_slices, features_to_positions, motion_features
from gentok.measure.motion import see_motion, sides_of
from gentok.signals.mogo.system import TextToMotion

HELD_OUT = 99_991  # the seed of motions that no training draws
SEEN = 64  # frames that are judged at a time; those of a training clip
LATE = 128  # the first of the late ones
MARGIN = 20  # frames after the end, for encoder and decoder to look at
PACES, SIDES = ("slowly", "quickly"), ("left", "right")
ASKED: dict[str, list[str]] = {  # every sentence that a procedural motion may have
    "walk": [f"walks forward {p} with {s} steps" for p in PACES for s in ("long", "short")],
    "turn": [f"walks {p} and turns to the {s}" for p in PACES for s in SIDES],
    "wave": [f"stands and waves {p} with the {s} hand" for p in PACES for s in SIDES],
    "squat": [f"squats {p}" for p in PACES],
    "jump": ["jumps on the spot"],
}


def asked(n: int) -> tuple[list[str], Tensor]:
    """n captions, actions in turn, and their actions, (n,) int64."""
    action = torch.arange(n) % len(ACTIONS)
    captions = []
    for i, name in enumerate(ACTIONS[k] for k in action.tolist()):
        sentences = ASKED[name]
        captions.append(f"a person {sentences[i // len(ACTIONS) % len(sentences)]}")
    return captions, action


def obeys(positions: Tensor, captions: list[str] | tuple[str, ...], action: Tensor) -> float:
    """Share of clips (n, T, J, 3) that show the action and the side that was asked for."""
    seen = see_motion(positions)
    return float(seen.agrees(action, sides_of(captions)).float().mean())


def joint_error(features: Tensor, other: Tensor) -> float:
    """Mean distance of a joint from where it should be, the root's path left out, millimetres.

    Args:
        features, other: (..., F).
    """
    columns = feature_slices((features.shape[-1] + 1) // 12)["positions"]
    apart = (features - other)[..., columns].unflatten(-1, (-1, 3))  # (..., J - 1, 3)
    return 1000 * float(apart.norm(dim=-1).mean())


def held_out(n: int, frames: int = SEEN) -> tuple[Tensor, list[str], Tensor]:
    """Features (n, frames + 20, F), captions and actions of motions that no training draws."""
    motion = sample_motions(n, frames + MARGIN + 1, HELD_OUT)
    return motion_features(motion), list(motion.captions), motion.labels


def measure(system: TextToMotion, n: int) -> dict[str, float]:
    """Reconstruct ``n`` held-out clips, and sample ``n`` clips three times as long as those seen.

    Returns:
        ``joint_error_mm`` of the tokenizer; the share of clips that show what was asked for:
        ``judge_accuracy`` in the first 64 frames, ``judge_accuracy_late`` in frames 128 to 192,
        ``judge_accuracy_on_data``.
    """
    features, captions, action = held_out(n)
    device = next(system.parameters()).device
    decoded = system.decode(system.encode(features.to(device))).cpu()
    metrics = {
        "joint_error_mm": joint_error(features[:, :SEEN], decoded[:, :SEEN]),
        "judge_accuracy_on_data": obeys(
            features_to_positions(features[:, :SEEN]), captions, action
        ),
    }
    captions, action = asked(n)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HELD_OUT)
        drawn = system.sample(n, captions, LATE + SEEN).cpu()
    metrics["judge_accuracy"] = obeys(drawn[:, :SEEN], captions, action)
    metrics["judge_accuracy_late"] = obeys(drawn[:, LATE:], captions, action)
    return metrics
