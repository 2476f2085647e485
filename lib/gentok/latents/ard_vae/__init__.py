"""ARD-VAE: a VAE whose prior, estimated axis by axis, shows how many axes the data need."""

from gentok.latents.ard_vae.epochs import Epochs, each_epoch
from gentok.latents.ard_vae.model import (
    ARDVAE,
    PRESETS,
    ARDVAEConfig,
    Autoencoder,
    build,
    example,
)
from gentok.latents.ard_vae.networks import NetworkConfig, build_decoder, build_encoder
from gentok.latents.ard_vae.readout import elbow, evaluate, in_order
from gentok.latents.ard_vae.rivals import RIVALS, RegularizedAE, WassersteinAE

__all__ = [
    "ARDVAE",
    "PRESETS",
    "RIVALS",
    "ARDVAEConfig",
    "Autoencoder",
    "Epochs",
    "NetworkConfig",
    "RegularizedAE",
    "WassersteinAE",
    "build",
    "build_decoder",
    "build_encoder",
    "each_epoch",
    "elbow",
    "evaluate",
    "example",
    "in_order",
]
