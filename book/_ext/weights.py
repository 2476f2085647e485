"""The directive `weights`: the trained weights that come with the book, as a table.

    ```{weights}
    ```

Rows come from the headers of weights/**/*.safetensors, so the page changes when a file does.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from tables import table

from gentok.book import registry
from gentok.book.weights import system_of
from gentok.training.weights import read_header

HEADERS = ("weights", "learned from", "cost", "quality on held-out data", "made")
METRICS = {
    "judge_accuracy": ("judge agrees with the class", "{:.1%}"),
    "judge_accuracy_on_data": ("judge on data", "{:.1%}"),
    "psnr": ("reconstruction", "{:.1f} dB"),
    "decoupled_psnr": ("FA-VAE's reconstruction", "{:.1f} dB"),
    "decoupled_high_mse": ("its error of the high bands", "{:.4f}"),
    "pixel_high_mse": ("the pixel rival's", "{:.4f}"),
    "coupled_high_mse": ("the coupled rival's", "{:.4f}"),
    "slice_S": ("loss of S", "{:.3f} nats"),
    "slice_XL": ("of XL", "{:.3f} nats"),
    "excess": ("worst cut against its twin", "{:+.1%}"),
    "chamfer_80": ("Chamfer x 1000, 80 % hidden", "{:.1f}"),
    "constant_80": ("of the constant patch", "{:.1f}"),
    "bits_per_dim": ("exact likelihood", "{:.3f} bits a number"),
    "legible_accuracy": ("two judges see one digit", "{:.1%}"),
    "completed_accuracy": ("given the upper half", "{:.1%}"),
    "legible_accuracy_on_data": ("in data", "{:.1%}"),
    "accuracy": ("named right, ten labels a class", "{:.1%}"),
    "part_iou": ("IoU of parts", "{:.2f}"),
    "network_accuracy_at_64": ("named right at 64 pixels", "{:.1%}"),
    "network_accuracy_at_80": ("at 80", "{:.1%}"),
    "tables_accuracy_at_80": ("with position tables", "{:.1%}"),
    "error_1": ("energy lost with one code a frame", "{:.0%}"),
    "error_4": ("with four", "{:.0%}"),
    "key_accuracy": ("key named right", "{:.0%}"),
    "untrained_key_accuracy": ("by the untrained network", "{:.0%}"),
    "melody_accuracy": ("melody", "{:.0%}"),
    "untrained_melody_accuracy": ("by the untrained network", "{:.0%}"),
    "joint_error_mm": ("joints off by", "{:.1f} mm"),
    "judge_accuracy_late": ("beyond the length of training", "{:.1%}"),
    "shape_accuracy": ("shape as asked", "{:.1%}"),
    "colour_accuracy": ("colour", "{:.1%}"),
    "direction_accuracy": ("direction", "{:.1%}"),
    "turbo_all_accuracy": ("all three in four steps", "{:.1%}"),
    "named_vsae": ("features with a name: vSAE", "{:.0f}"),
    "named_topk": ("top-k", "{:.0f}"),
    "named_control": ("at other places", "{:.0f}"),
    "ard_6_ratio": ("variance of the fourth axis over the fifth: of 6", "{:.1f}"),
    "ard_12_ratio": ("of 12", "{:.1f}"),
    "ard_24_ratio": ("of 24", "{:.1f}"),
    "vae_12_ratio": ("of a plain VAE's 12", "{:.1f}"),
    "p16c4_psnr": ("reconstruction from 16 floats", "{:.1f} dB"),
    "p8c4_psnr": ("from 64", "{:.1f} dB"),
    "p8c16_psnr": ("from 256", "{:.1f} dB"),
    "drawn_relations": ("relations that hold in what is drawn", "{:.1%}"),
    "decoded_relations": ("in decoded scenes", "{:.1%}"),
    "drawn_shape": ("shape as the caption says", "{:.1%}"),
    "drawn_colour": ("colour", "{:.1%}"),
    "drawn_place": ("place", "{:.1%}"),
    "drawn_all": ("all three", "{:.1%}"),
    "decoded_all": ("in decoded pictures", "{:.1%}"),
    "tuned_psnr": ("from 64, decoder tuned against an adversary", "{:.1f} dB"),
}


class Weights(SphinxDirective):
    """One row a file: data, cost and quality, as its header states them."""

    def run(self):
        folder = Path(self.env.srcdir) / "weights"
        self.env.note_dependency(__file__)
        paths = sorted(folder.rglob("*.safetensors"))
        if not paths:
            return [nodes.paragraph(text="The files are being trained; make them as said below.")]
        for path in paths:
            self.env.note_dependency(str(path))
        rows = [self.row(path, read_header(path)) for path in paths]
        return [table(HEADERS, rows, classes=["weights"])]

    def row(self, path, header):
        data = "; ".join(
            f"{set_['items']:,} x {set_['source']}" for set_ in header["data"].values()
        )
        stages = header["stages"].values()
        steps, seconds = (sum(stage[key] for stage in stages) for key in ("step", "seconds"))
        made = header["made"]
        return [
            self.name_of(header["name"]),
            data,
            f"{steps:,} steps, {seconds / 60:.0f} min, {path.stat().st_size / 1e6:.1f} MB",
            ", ".join(self.measured(header["metrics"])),
            f"{made['date']}, {made['machine']}, commit {(made['commit'] or 'unknown')[:7]}",
        ]

    def measured(self, metrics):
        for name, (words, form) in METRICS.items():
            if name in metrics:
                yield f"{words} {form.format(metrics[name])}"
        yield f"{metrics['items']} items"

    def name_of(self, name):
        """A link to the chapter; base tokenizers have none."""
        if "/" not in name:
            slug = system_of(name)
            page = f"notebooks/{registry.get(slug).part}/{slug}"
            if page in self.env.found_docs:
                found, messages = self.parse_inline(f"{{doc}}`{name} </{page}>`")
                return [*found, *messages]
        return [nodes.literal(text=name)]


def setup(app):
    app.add_directive("weights", Weights)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
