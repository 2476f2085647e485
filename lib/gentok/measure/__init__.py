"""Instruments: what the book measures with. They know data and networks, but no system."""

from gentok.measure.ablation import scr, tpp
from gentok.measure.chamfer import chamfer_distance
from gentok.measure.codes import code_usage
from gentok.measure.cost import count_flops, count_parameters, peak_memory
from gentok.measure.embed import tsne
from gentok.measure.features import (
    SmallClassifier,
    accuracy,
    embeddings,
    load_classifier,
    perceptual_distance,
    train_classifier,
)
from gentok.measure.fixed import fixed_masks, fixed_noise, fixed_times, mean_over_times
from gentok.measure.frechet import frechet_distance
from gentok.measure.images import psnr, ssim
from gentok.measure.latency import latencies
from gentok.measure.memory import peak_rise, saved_bytes
from gentok.measure.probes import sparse_probe
from gentok.measure.sae import (
    alive_fraction,
    cosine,
    explained_variance,
    l0,
    loss_recovered,
    nearest_neighbour_cosines,
)
from gentok.measure.spectrum import (
    band_energy,
    band_errors,
    octave_power,
    power_spectrum,
    radial_power_spectrum,
    spectrum_distance,
)

__all__ = [
    "SmallClassifier",
    "accuracy",
    "alive_fraction",
    "band_energy",
    "band_errors",
    "chamfer_distance",
    "code_usage",
    "cosine",
    "count_flops",
    "count_parameters",
    "embeddings",
    "explained_variance",
    "fixed_masks",
    "fixed_noise",
    "fixed_times",
    "frechet_distance",
    "l0",
    "latencies",
    "load_classifier",
    "loss_recovered",
    "mean_over_times",
    "nearest_neighbour_cosines",
    "octave_power",
    "peak_memory",
    "peak_rise",
    "perceptual_distance",
    "power_spectrum",
    "psnr",
    "radial_power_spectrum",
    "saved_bytes",
    "scr",
    "sparse_probe",
    "spectrum_distance",
    "ssim",
    "tpp",
    "train_classifier",
    "tsne",
]
