"""How ARD-VAE and the models it is held against are trained, preset by preset."""

from dataclasses import dataclass, replace

from gentok.latents.ard_vae.model import PRESETS, ARDVAEConfig
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile

BLOBS = 20_000  # pictures of the chapter's sets
# Data, pictures that train (X_alpha included), pictures that validate, epochs of the authors' code.
PUBLISHED = {
    "mnist": ("mnist", 50_000, 10_000, 50),
    "mnist-16": ("mnist", 50_000, 10_000, 50),
    "cifar10": ("cifar10", 40_000, 10_000, 100),
    "celeba": ("celeba", 162_700, 19_800, 50),
    "celeba-128": ("celeba", 162_700, 19_800, 50),
}
PRIOR_IMAGES = 10_000  # N_alpha of the published configurations


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"blobs"`` (procedural, four factors), ``"digits"`` (scikit-learn's), ``"mnist"``,
            ``"cifar10"``, or ``"celeba"``: pictures under ``GENTOK_DATA/celeba/<folder>/``.
        pictures: how many train, X_alpha included.
        held_out: how many validate and steer the learning rate; 0: the rate is constant.
        size: of the model; ``model``: how it is trained.
        prior_images: N_alpha, pictures of an epoch that the prior is read off.
        beside: further models of the same training, by name: those that the chapter compares.
    """

    data: str
    pictures: int
    held_out: int
    size: ARDVAEConfig
    model: Stage
    prior_images: int
    beside: dict[str, ARDVAEConfig]


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return _published(size, profile, *PUBLISHED[preset])
    if preset == "tiny":
        stage = Stage(
            steps=profile.pick(smoke=4, cpu=1500),
            batch_size=profile.pick(smoke=8, cpu=50),
            lr=2e-3,
            clip=None,
        )
        pictures, prior = profile.pick(smoke=64, cpu=1500), profile.pick(smoke=32, cpu=300)
        return Plan("digits", pictures, 0, size, stage, prior, {})
    return _blobs(preset, size, profile)


def _blobs(preset: str, size: ARDVAEConfig, profile: Profile) -> Plan:
    """Twelve epochs of 160 steps: seconds on one core. The book's weights take twice as many.

    The weights hold a model of each number of axes, and a plain VAE of each.
    """
    stage = Stage(
        steps=profile.pick(smoke=4, cpu=1920, long=3840),
        batch_size=profile.pick(smoke=8, cpu=100),
        lr=1e-3,
        clip=None,
    )
    beside = {}
    if preset == "blobs-12" and profile.name in ("smoke", "probe", "long"):
        beside = family()
        del beside["ard_12"]
    pictures, prior = profile.pick(smoke=64, cpu=BLOBS), profile.pick(smoke=32, cpu=4000)
    return Plan("blobs", pictures, 0, size, stage, prior, beside)


def family() -> dict[str, ARDVAEConfig]:
    """ARD-VAE and the plain VAE, each with 6, 12 and 24 axes."""
    ours = {axes: PRESETS[f"blobs-{axes}"] for axes in (6, 12, 24)}
    plain = {f"vae_{axes}": replace(size, prior="normal") for axes, size in ours.items()}
    return {f"ard_{axes}": size for axes, size in ours.items()} | plain


def _published(
    size: ARDVAEConfig, profile: Profile, data: str, pictures: int, held_out: int, epochs: int
) -> Plan:
    """Adam at 5e-4 with Keras's epsilon, batches of 100; the rate is halved on a plateau."""
    prior = profile.pick(smoke=16, cpu=PRIOR_IMAGES)
    batch_size = profile.pick(smoke=8, cpu=100)
    per_epoch = (pictures - prior) // batch_size
    stage = Stage(
        steps=profile.pick(smoke=4, cpu=per_epoch, gpu=epochs * per_epoch),
        batch_size=batch_size,
        lr=5e-4,
        eps=1e-7,
        clip=None,
    )
    return Plan(data, pictures, held_out, size, stage, prior, {})
