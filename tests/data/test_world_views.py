"""Views: cameras, depth, owners and the flat plan agree about where things are."""

import math

import pytest
import torch

from gentok.data import (
    SHAPES,
    look_at,
    orbit,
    render_masks,
    render_views,
    sample_scenes,
    signed_distance,
)
from gentok.data.world_views import object_centres

SOLID_AT_CENTRE = [s for s in SHAPES if s not in ("ring", "moon")]


@pytest.fixture(scope="module")
def seen():
    scenes = sample_scenes(16, seed=3)
    return scenes, render_views(scenes, 48, orbit(16, views=3))


def test_shapes_and_ranges(seen):
    scenes, views = seen
    assert views.images.shape == (16, 3, 3, 48, 48) and views.images.dtype == torch.float32
    assert float(views.images.abs().max()) <= 1
    assert views.depth.shape == views.owner.shape == (16, 3, 48, 48)
    shown = views.owner[views.owner >= 0]
    assert len(shown) > 0 and float(views.depth[views.owner >= -1].max()) < 50
    places = torch.arange(scenes.shape.shape[1])
    for i in range(16):
        for k in places[~scenes.present[i]]:
            assert not bool((views.owner[i] == k).any())


def test_depth_leads_to_the_surface_of_the_owner(seen):
    scenes, views = seen
    points = views.cameras.unproject(views.depth)  # (n, V, H, W, 3)
    assert float(points[views.owner == -1][:, 2].abs().max()) < 1e-4  # the floor
    centres = object_centres(scenes)
    for i in range(len(scenes)):
        for k in scenes.present[i].nonzero()[:, 0].tolist():
            mine = points[i][views.owner[i] == k] - centres[i, k]
            if len(mine) == 0:
                continue
            c, s = math.cos(scenes.angle[i, k]), math.sin(scenes.angle[i, k])
            turn = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])
            local = mine @ turn.T / scenes.radius[i, k]
            distance = signed_distance(SHAPES[int(scenes.shape[i, k])], local)
            assert float(distance.abs().max()) < 1e-3


def test_projection_undoes_unprojection(seen):
    _, views = seen
    points = views.cameras.unproject(views.depth)
    pixels, depth = views.cameras.project(points[:, 0].flatten(1, 2), 48)  # those of view 0
    centres = torch.arange(48) + 0.5
    wanted = torch.stack([centres.expand(48, 48), centres[:, None].expand(48, 48)], -1)
    assert torch.allclose(
        pixels[:, 0].view(16, 48, 48, 2), wanted.expand(16, -1, -1, -1), atol=1e-2
    )
    assert torch.allclose(depth[:, 0].view(16, 48, 48), views.depth[:, 0], rtol=1e-4)


@pytest.mark.parametrize("elevation", [20.0, 50.0, 90.0])
def test_an_object_shows_where_the_camera_projects_its_centre(elevation):
    scenes = sample_scenes(30, seed=5, max_objects=1)
    full = torch.tensor([SHAPES[int(k)] in SOLID_AT_CENTRE for k in scenes.shape[:, 0]])
    scenes = scenes[full]
    cameras = orbit(len(scenes), views=2, elevation=elevation)
    views = render_views(scenes, 64, cameras)
    pixels, _ = cameras.project(object_centres(scenes), 64)  # (n, V, 1, 2)
    column, row = pixels[:, :, 0].long().clamp(0, 63).unbind(-1)
    n, v = torch.meshgrid(torch.arange(len(scenes)), torch.arange(2), indexing="ij")
    assert bool((views.owner[n, v, row, column] == 0).all())


def test_seen_from_straight_above_far_away_the_view_is_the_plan():
    scenes = sample_scenes(12, seed=8)
    high = torch.tensor([0.0, 0.0, 60.0]).expand(12, 1, 3)
    cameras = look_at(high, torch.zeros(12, 1, 3), focal=30.0)  # 60 / 30 = 2 units wide
    views = render_views(scenes, 64, cameras)
    plan = render_masks(scenes, 64) > 0.5
    for k in range(3):
        shown = views.owner[:, 0] == k
        both, either = (shown & plan[:, k]).sum((1, 2)), (shown | plan[:, k]).sum((1, 2))
        share = (both / either)[scenes.present[:, k]]
        assert float(share.min()) > 0.9, "a view from above differs from the flat picture"


def test_a_point_at_a_known_place():
    """One unit to the right, 4 ahead, focal length 2 pictures of 100 pixels: 50 pixels right."""
    cameras = look_at(torch.tensor([[[0.0, -4.0, 1.0]]]), torch.tensor([[[0.0, 0.0, 1.0]]]), 2.0)
    points = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.5], [0.0, 4.0, 1.0]]])
    pixels, depth = cameras.project(points, 100)
    assert torch.allclose(pixels[0, 0], torch.tensor([[100.0, 50], [50, 25], [50, 50]]), atol=1e-4)
    assert torch.allclose(depth[0, 0], torch.tensor([4.0, 4.0, 8.0]))


def test_rotations_are_rotations():
    rotation = orbit(1, views=7, elevation=40.0).rotation
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand(1, 7, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(1, 7), atol=1e-5)


def test_views_of_one_scene_do_not_depend_on_the_batch():
    scenes = sample_scenes(5, seed=1)
    alone = render_views(scenes[2:3], 24)
    together = render_views(scenes, 24)
    assert torch.allclose(alone.images[0], together.images[2], atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: orbit(1, elevation=0.0),
        lambda: orbit(1, views=0),
        lambda: render_views(sample_scenes(3), 16, orbit(2)),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError, match="got"):
        call()
