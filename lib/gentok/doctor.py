"""What `gentok doctor` reports: the first thing to look at when something does not work."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch

import gentok
from gentok import data
from gentok.book.records import results_folder
from gentok.training.profiles import accelerator_device

PACKAGES = ("accelerate", "datasets", "numpy", "safetensors", "transformers", "jupyter-book")
GIB = 2**30


def report() -> dict[str, dict[str, Any]]:
    """Versions, device, memory, data and folders; None stands for what is not there."""
    return {
        "versions": {
            "gentok": gentok.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: _version(name) for name in PACKAGES},
        },
        "device": _device(),
        "memory": {
            "total_gib": round(psutil.virtual_memory().total / GIB, 1),
            "available_gib": round(psutil.virtual_memory().available / GIB, 1),
        },
        "data": {"GENTOK_DATA": os.environ.get("GENTOK_DATA"), **data.available()},
        "book": {"results": _results()},
    }


def _device() -> dict[str, Any]:
    facts = {
        "kind": accelerator_device(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        facts[f"gpu {index}"] = f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB"
    return facts


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _results() -> str | None:
    try:
        return str(results_folder())
    except FileNotFoundError:
        return None
