"""What a pretrained Point-MAE encoder is used for: classes of clouds, and parts of objects.

Pang et al. 2022, 4.2; the heads follow the authors' released code. Both networks start from the
encoder alone (tokenizer, position MLP, blocks, norm): decoder and mask token are dropped.

Shapes: B batch, P points, G patches, D channels, L classes, S parts; coordinates (x, y, z).
"""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.points import interpolate
from gentok.shapes.point_mae.model import PRESETS as BACKBONES
from gentok.shapes.point_mae.model import PointEncoder, PointMAE, PointMAEConfig


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of the classifier; the defaults are the paper's for ModelNet40.

    Args:
        backbone: of the encoder.
        num_classes: L.
        width: of the two hidden layers of the head; ``dropout``: after each of them.
    """

    backbone: PointMAEConfig = field(default_factory=PointMAEConfig)
    num_classes: int = 40
    width: int = 256
    dropout: float = 0.5
    published_params: int | None = None


@dataclass(frozen=True)
class SegmenterConfig:
    """Sizes of the part segmenter; the defaults are the paper's for ShapeNetPart.

    Args:
        backbone: of the encoder; 2,048 points make 128 patches.
        num_categories: kinds of objects, told to the network; ``num_parts``: S, over all kinds.
        propagation: widths of the MLP that carries tokens to points.
        widths: of the two hidden layers of the head; ``label_width``: of the category's embedding.
    """

    backbone: PointMAEConfig = field(
        default_factory=lambda: PointMAEConfig(num_points=2048, num_patches=128)
    )
    num_categories: int = 16
    num_parts: int = 50
    propagation: tuple[int, int] = (1536, 1024)
    widths: tuple[int, int] = (512, 256)
    label_width: int = 64
    dropout: float = 0.5
    published_params: int | None = None


PRESETS: dict[str, ClassifierConfig | SegmenterConfig] = {
    "tiny-classifier": ClassifierConfig(BACKBONES["tiny"], num_classes=12, width=64),
    "tiny-segmenter": SegmenterConfig(
        BACKBONES["tiny"],
        num_categories=4,
        num_parts=10,
        propagation=(128, 96),
        widths=(96, 64),
        label_width=16,
    ),
    "classifier-modelnet40": ClassifierConfig(published_params=22_099_752),
    "classifier-scanobjectnn": ClassifierConfig(num_classes=15, published_params=22_093_327),
    "segmenter-shapenetpart": SegmenterConfig(),  # 27,063,730; the paper gives no count
}


class PointClassifier(nn.Module):
    """Encoder with a class token; the head reads it and the maximum over the patch tokens."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        dim = config.backbone.dim
        self.encoder = PointEncoder(config.backbone)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.class_position = nn.Parameter(torch.empty(1, 1, dim))  # it has no place in space
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.class_position, std=0.02)
        layers: list[nn.Module] = []
        for width in (2 * dim, config.width):
            layers += [nn.Linear(width, config.width), nn.BatchNorm1d(config.width)]
            layers += [nn.ReLU(), nn.Dropout(config.dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(config.width, config.num_classes))

    def features(self, points: Tensor) -> Tensor:
        """What the head reads: clouds (B, P, 3) -> (B, 2 D)."""
        patches = self.encoder.group(points)
        b = len(points)
        tokens = self.encoder.tokenizer(patches.points)
        tokens = torch.cat([self.class_token.expand(b, -1, -1), tokens], dim=1)  # (B, 1 + G, D)
        position = self.encoder.position(patches.centres)
        position = torch.cat([self.class_position.expand(b, -1, -1), position], dim=1)
        tokens = self.encoder.transformer(tokens, position)
        return torch.cat([tokens[:, 0], tokens[:, 1:].amax(1)], dim=-1)

    def forward(self, points: Tensor) -> Tensor:
        """Clouds (B, P, 3) -> logits (B, L)."""
        return self.head(self.features(points))

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy without label smoothing, nats; "points" (B, P, 3) and "label" (B,)."""
        logits = self(batch["points"])
        total = F.cross_entropy(logits, batch["label"])
        right = (logits.argmax(-1) == batch["label"]).float().mean()
        return total, {"accuracy": right.detach()}


class PointSegmenter(nn.Module):
    """Tokens of three depths, carried back to every point, name the part it belongs to."""

    def __init__(self, config: SegmenterConfig):
        super().__init__()
        self.config = config
        deep = 3 * config.backbone.dim
        a, b = config.propagation
        c, d = config.widths
        self.encoder = PointEncoder(config.backbone)
        self.category = nn.Sequential(  # a table of one row a category, then norm and activation
            nn.Linear(config.num_categories, config.label_width, bias=False),
            nn.BatchNorm1d(config.label_width),
            nn.LeakyReLU(0.2),
        )
        self.propagation = PointMlp((deep + 3, a, b))
        self.head = nn.Sequential(
            PointMlp((b + 2 * deep + config.label_width, c)),
            nn.Dropout(config.dropout),
            PointMlp((c, d)),
            nn.Linear(d, config.num_parts),
        )

    def forward(self, points: Tensor, label: Tensor) -> Tensor:
        """Clouds (B, P, 3) and categories (B,) int64 -> logits of parts (B, P, S)."""
        encoder, (b, p, _) = self.encoder, points.shape
        patches = encoder.group(points)
        tokens = encoder.tokenizer(patches.points)
        levels = encoder.transformer.levels(tokens, encoder.position(patches.centres))
        depth = len(levels)
        picked = [levels[depth * i // 3 - 1] for i in (1, 2, 3)]  # of 12 blocks: 4, 8, 12
        x = torch.cat([encoder.transformer.norm(level) for level in picked], dim=-1)  # (B, G, 3D)
        kind = F.one_hot(label, self.config.num_categories).to(x.dtype)
        whole = torch.cat([x.amax(1), x.mean(1), self.category(kind)], dim=-1)  # (B, 6D + label)
        near = torch.cat([points, interpolate(x, patches.centres, points)], dim=-1)
        near = self.propagation(near)  # (B, P, 3 + 3D) -> (B, P, b)
        return self.head(torch.cat([near, whole[:, None].expand(b, p, -1)], dim=-1))

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy over points, nats; "points", "label" (B,) and "parts" (B, P)."""
        logits = self(batch["points"], batch["label"])
        total = F.cross_entropy(logits.flatten(0, 1), batch["parts"].flatten())
        right = (logits.argmax(-1) == batch["parts"]).float().mean()
        return total, {"accuracy": right.detach()}


class PointMlp(nn.Module):
    """Linear, batch norm, ReLU on every point, layer after layer (convolutions of width 1)."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(len(widths) - 1):
            layers += [nn.Linear(widths[i], widths[i + 1]), nn.BatchNorm1d(widths[i + 1])]
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, C) -> (B, P, last width)."""
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def load_encoder(task: nn.Module, pretrained: PointMAE | PointEncoder) -> nn.Module:
    """Copy a pretrained encoder into a classifier or segmenter; the rest stays as it is.

    The number of patches may differ: no weight depends on it.

    Returns:
        ``task``.

    Raises:
        ValueError: if the two encoders differ in a size that weights depend on.
    """
    encoder = pretrained.encoder if isinstance(pretrained, PointMAE) else pretrained
    free = {"num_points": 0, "num_patches": 0, "mask_ratio": 0, "published_params": None}
    free |= {"masking": "", "shift_mask_tokens": True, "decoder_depth": 0, "patch_size": 0}
    free |= {"drop_path": 0, "init_std": 0}
    here, there = (replace(e.config, **free) for e in (task.encoder, encoder))
    if here != there:
        raise ValueError(f"encoders differ: {there} cannot be loaded into {here}")
    task.encoder.load_state_dict(encoder.state_dict())
    return task


@torch.no_grad()
def vote(
    classifier: PointClassifier, points: Tensor, generator: torch.Generator, copies: int = 10
) -> Tensor:
    """Mean logits (B, L) over augmented copies of each cloud, as in the ModelNet40 headline."""
    from gentok.data.clouds import scale_and_shift

    drawn = [classifier(scale_and_shift(points, generator)) for _ in range(copies)]
    return torch.stack(drawn).mean(0)


def part_iou(
    predicted: Tensor, parts: Tensor, label: Tensor, parts_of: tuple[tuple[int, ...], ...]
) -> Tensor:
    """Intersection over union of each cloud, averaged over the parts that its category may have.

    As ShapeNetPart is scored: a part that is absent from a cloud and from its prediction counts 1.

    Args:
        predicted, parts: part of each point, (B, P), int64.
        label: category of each cloud, (B,).
        parts_of: for each category, its parts.

    Returns:
        (B,), in [0, 1]; its mean is the instance mIoU.
    """
    scores = []
    for guess, truth, kind in zip(predicted, parts, label.tolist(), strict=True):
        own = torch.tensor(parts_of[kind], device=truth.device)[:, None]  # (s, 1)
        both, either = (guess == own) & (truth == own), (guess == own) | (truth == own)
        union = either.sum(1)
        ious = torch.where(union > 0, both.sum(1) / union.clamp_min(1), 1.0)
        scores.append(ious.mean())
    return torch.stack(scores)


def own_parts(logits: Tensor, label: Tensor, parts_of: tuple[tuple[int, ...], ...]) -> Tensor:
    """The likeliest part among those of each cloud's category: (B, P, S) -> (B, P) int64."""
    allowed = torch.zeros(len(parts_of), logits.shape[-1], dtype=torch.bool, device=logits.device)
    for kind, parts in enumerate(parts_of):
        allowed[kind, list(parts)] = True
    return logits.masked_fill(~allowed[label][:, None], -torch.inf).argmax(-1)


def build(config: ClassifierConfig | SegmenterConfig) -> PointClassifier | PointSegmenter:
    """The network of a configuration."""
    kind = PointClassifier if isinstance(config, ClassifierConfig) else PointSegmenter
    return kind(config)


def example(
    config: ClassifierConfig | SegmenterConfig, batch_size: int = 2, device: str = "meta"
) -> dict[str, Tensor]:
    """A batch that ``loss`` takes."""
    p = config.backbone.num_points
    label = torch.zeros(batch_size, dtype=torch.int64, device=device)
    batch = {"points": torch.rand(batch_size, p, 3, device=device), "label": label}
    if isinstance(config, SegmenterConfig):
        batch["parts"] = torch.zeros(batch_size, p, dtype=torch.int64, device=device)
    return batch
