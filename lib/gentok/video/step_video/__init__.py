"""Step-Video-T2V: a diffusion transformer with full attention over space and time."""

from gentok.video.step_video.model import (
    PRESETS,
    StepVideo,
    StepVideoConfig,
    build,
    example,
    sampling_times,
)

__all__ = [
    "PRESETS",
    "StepVideo",
    "StepVideoConfig",
    "build",
    "example",
    "sampling_times",
]
