"""COCO, Visual Genome and CLEVR: which pictures and objects count, and what is stated of them.

The rules are those of Johnson et al. 2018 and of the system's code. The files are the sets' own,
under GENTOK_DATA: ``coco/annotations/{instances,stuff}_train2017.json`` and ``coco/train2017/``;
``visual_genome/{objects,relationships,image_data}.json`` and ``visual_genome/images/``;
``clevr/scenes/CLEVR_train_scenes.json`` and ``clevr/images/train/``.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from gentok.data.folder import find, missing
from gentok.data.relations import PREDICATES
from gentok.tokens.sg2im.annotated import Annotated, AnnotatedSet

COCO_OBJECTS, COCO_SHARE = (3, 8), 0.02  # objects of a picture; least share of its area
OTHER = "other"  # the stuff class that is left out
VG_OBJECTS, VG_SIDE, VG_PICTURE = (3, 30), 32, 200  # objects; pixels of a box's, a picture's side
VG_NAMES, VG_PREDICATES = 2000, 500  # how often a name or a predicate occurs at least
CLEVR_PREDICATES = ("left", "right", "front", "behind")
CLEVR_FOCAL = 525  # pixels: a lens of 35 mm, a sensor of 32 mm, pictures 480 pixels wide
CLEVR_SIZES = {"large": 0.7, "small": 0.35}
Boxes = list[tuple[float, float, float, float]]


def _loaded(path: Path) -> Any:
    return json.loads(path.read_text())


def _folder(what: str, relative: str) -> Path:
    folder = find(relative)
    if folder is None:
        raise missing(what, relative)
    return folder


def centroid(polygons: list[list[float]]) -> tuple[float, float] | None:
    """Centre of area of polygons given as x, y, x, y, ...; None if they have no area."""
    total = moment_x = moment_y = 0.0
    for flat in polygons:
        corners = list(zip(flat[::2], flat[1::2], strict=True))
        area = part_x = part_y = 0.0
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            cross = x0 * y1 - x1 * y0
            area += cross / 2
            part_x += (x0 + x1) * cross / 6
            part_y += (y0 + y1) * cross / 6
        sign = 1 if area >= 0 else -1  # corners may go either way around
        total, moment_x, moment_y = (
            total + abs(area),
            moment_x + sign * part_x,
            moment_y + sign * part_y,
        )
    return (moment_x / total, moment_y / total) if total > 0 else None


def coco(folder: Path | None = None, split: str = "train2017") -> AnnotatedSet:
    """COCO with things and stuff: three to eight objects of more than 2 % of the picture.

    The centre of an object is its mask's where the mask is given as polygons, else its box's.

    Raises:
        FileNotFoundError: if the files are absent.
    """
    folder = folder or _folder("COCO", "coco")
    sizes: dict[int, tuple[str, int, int]] = {}
    objects: dict[int, list[dict]] = {}
    labels = {0: "image"}
    for kind in ("instances", "stuff"):
        read = _loaded(folder / "annotations" / f"{kind}_{split}.json")
        labels |= {entry["id"]: entry["name"] for entry in read["categories"]}
        for image in read["images"]:
            sizes[image["id"]] = (image["file_name"], image["width"], image["height"])
        for entry in read["annotations"]:
            objects.setdefault(entry["image_id"], []).append(entry)
    items = []
    for number, (name, width, height) in sorted(sizes.items()):
        kept = [
            entry
            for entry in objects.get(number, [])
            if entry["bbox"][2] * entry["bbox"][3] > COCO_SHARE * width * height
            and labels[entry["category_id"]] != OTHER
        ]
        if COCO_OBJECTS[0] <= len(kept) <= COCO_OBJECTS[1]:
            boxes = [_corners(*entry["bbox"], width, height) for entry in kept]
            centres = [
                _mask_centre(entry, box, width, height)
                for entry, box in zip(kept, boxes, strict=True)
            ]
            names = [entry["category_id"] for entry in kept]
            items.append(Annotated(folder / split / name, names, boxes, centres))
    return AnnotatedSet(items, labels, dict(enumerate(PREDICATES)))


def _corners(
    x: float, y: float, w: float, h: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """Corner and size in pixels -> corners in [0, 1]."""
    return x / width, y / height, (x + w) / width, (y + h) / height


def _middle(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _mask_centre(
    entry: dict, box: tuple[float, float, float, float], width: int, height: int
) -> tuple[float, float]:
    mask = entry.get("segmentation")
    found = centroid(mask) if isinstance(mask, list) else None  # crowds are run lengths
    return _middle(box) if found is None else (found[0] / width, found[1] / height)


def visual_genome(folder: Path | None = None) -> AnnotatedSet:
    """Visual Genome: frequent names and predicates, three to thirty objects that are not small.

    Only what annotators stated is an edge.

    Raises:
        FileNotFoundError: if the files are absent.
    """
    folder = folder or _folder("Visual Genome", "visual_genome")
    sizes = {
        entry["image_id"]: (entry["width"], entry["height"])
        for entry in _loaded(folder / "image_data.json")
        if min(entry["width"], entry["height"]) >= VG_PICTURE
    }
    objects = {
        entry["image_id"]: entry["objects"]
        for entry in _loaded(folder / "objects.json")
        if entry["image_id"] in sizes
    }
    stated = {
        entry["image_id"]: entry["relationships"]
        for entry in _loaded(folder / "relationships.json")
        if entry["image_id"] in sizes
    }
    names = _frequent((o["names"][0] for all_ in objects.values() for o in all_), VG_NAMES)
    said = _frequent((r["predicate"] for all_ in stated.values() for r in all_), VG_PREDICATES)
    items = []
    for number, found in sorted(objects.items()):
        kept = [o for o in found if o["names"][0] in names and min(o["w"], o["h"]) >= VG_SIDE]
        if not VG_OBJECTS[0] <= len(kept) <= VG_OBJECTS[1]:
            continue
        place = {o["object_id"]: i for i, o in enumerate(kept)}
        triples = []
        for entry in stated.get(number, []):
            ends = entry["subject"]["object_id"], entry["object"]["object_id"]
            if entry["predicate"] in said and ends[0] in place and ends[1] in place:
                triples.append((place[ends[0]], said[entry["predicate"]], place[ends[1]]))
        boxes = [_corners(o["x"], o["y"], o["w"], o["h"], *sizes[number]) for o in kept]
        labels = [names[o["names"][0]] for o in kept]
        path = folder / "images" / f"{number}.jpg"
        items.append(Annotated(path, labels, boxes, [_middle(box) for box in boxes], triples))
    words = [{number: word for word, number in table.items()} for table in (names, said)]
    return AnnotatedSet(items, {0: "image"} | words[0], {0: PREDICATES[0]} | words[1])


def _frequent(words: Any, least: int) -> dict[str, int]:
    """Words that occur so often, numbered from 1 up, the most frequent first."""
    counted = Counter(words).most_common()
    return {word: i + 1 for i, (word, count) in enumerate(counted) if count >= least}


def clevr(folder: Path | None = None, split: str = "train") -> AnnotatedSet:
    """CLEVR: all ordered pairs under each of four relations that hold.

    CLEVR gives no boxes. Ours are squares about an object's place, as large as its radius seen at
    its distance. A label is a kind of object: size, colour, material and shape.

    Raises:
        FileNotFoundError: if the files are absent.
    """
    folder = folder or _folder("CLEVR", "clevr")
    scenes = _loaded(folder / "scenes" / f"CLEVR_{split}_scenes.json")["scenes"]
    kinds = sorted({_kind(o) for scene in scenes for o in scene["objects"]})
    number = {kind: i + 1 for i, kind in enumerate(kinds)}
    items = []
    for scene in scenes:
        objects = scene["objects"]
        boxes = [_clevr_box(o) for o in objects]
        triples = [
            (other, 1 + CLEVR_PREDICATES.index(word), first)
            for word in CLEVR_PREDICATES
            for first, others in enumerate(scene["relationships"][word])
            for other in others
        ]
        labels = [number[_kind(o)] for o in objects]
        path = folder / "images" / split / scene["image_filename"]
        items.append(Annotated(path, labels, boxes, [_middle(box) for box in boxes], triples))
    predicates = dict(enumerate((PREDICATES[0], *CLEVR_PREDICATES)))
    return AnnotatedSet(items, {0: "image"} | {i: kind for kind, i in number.items()}, predicates)


def _kind(o: dict) -> str:
    return f"{o['size']} {o['color']} {o['material']} {o['shape']}"


def _clevr_box(o: dict) -> tuple[float, float, float, float]:
    """A square about the object's pixel, clipped to the picture, in [0, 1]."""
    x, y, distance = o["pixel_coords"]
    half = CLEVR_FOCAL * CLEVR_SIZES[o["size"]] / distance
    corners = ((x - half) / 480, (y - half) / 320, (x + half) / 480, (y + half) / 320)
    return tuple(min(max(value, 0.0), 1.0) for value in corners)


READERS = {"coco": coco, "visual-genome": visual_genome, "clevr": clevr}
