"""Trunks: sizes, features, the spread of rows over maps, and the gate of a pre-activation net."""

import pytest
import torch
from torch import nn

from harness.errors import HarnessError
from harness.models.architectures import ARCHITECTURES

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)]

THIN = {"resnet18": 4, "preactresnet18": 4, "small_preactresnet": 8, "wrn_28_10": 1}


def thin(name, shape):
    torch.manual_seed(0)
    return ARCHITECTURES[name].build(shape, width=THIN[name]).eval()


@pytest.mark.parametrize(
    ("name", "with_ten_classes"),
    [
        ("resnet18", 11_173_962),
        ("preactresnet18", 11_172_170),
        ("wrn_28_10", 36_479_194),
        ("wrn_34_10", 46_160_474),
        ("wrn_34_20", 184_531_674),
        ("small_preactresnet", 38_490),
    ],
)
def test_parameter_counts_are_the_published_ones(name, with_ten_classes):
    with torch.device("meta"):
        trunk = ARCHITECTURES[name].build((3, 32, 32))
    head = 10 * trunk.features + 10
    assert sum(parameter.numel() for parameter in trunk.parameters()) + head == with_ten_classes


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("resnet18", [32, 32, 32, 128]),
        ("preactresnet18", [32, 32, 32, 128]),
        ("wrn_28_10", [40, 40, 40, 160]),
        ("small_preactresnet", [16, 16, 16, 16]),
    ],
)
def test_features_have_the_announced_width_for_every_image_size(name, features):
    for shape, width in zip(SHAPES, features, strict=True):
        trunk = thin(name, shape)
        with torch.no_grad():
            assert trunk(torch.rand(2, *shape)).shape == (2, width)
        assert trunk.features == width


def test_full_width_heads_are_as_wide_as_in_the_papers():
    with torch.device("meta"):
        assert ARCHITECTURES["resnet18"].build((3, 32, 32)).features == 512
        assert ARCHITECTURES["wrn_34_10"].build((3, 32, 32)).features == 640
        assert ARCHITECTURES["preactresnet18"].build((3, 64, 64)).features == 2048
        assert ARCHITECTURES["small_preactresnet"].build((1, 8, 8)).features == 32


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", 2), ("wrn_28_10", 4), ("wrn_34_10", 5)])
def test_the_last_stage_has_its_blocks_apart(name, blocks):
    with torch.device("meta"):
        trunk = ARCHITECTURES[name].build((3, 32, 32), width=1)
    assert len(trunk.blocks) == blocks


@pytest.mark.parametrize("name", THIN)
def test_forward_is_stem_blocks_finish_and_pool(name):
    trunk = thin(name, (3, 32, 32))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        maps = nn.Sequential(*trunk.blocks)(trunk.stem(images))
        assert torch.equal(trunk.pool(trunk.finish(maps)), trunk(images))


@pytest.mark.parametrize("name", THIN)
def test_features_are_never_negative(name):
    trunk = thin(name, (1, 28, 28))
    with torch.no_grad():
        assert trunk(torch.rand(4, 1, 28, 28)).min() >= 0


@pytest.mark.parametrize("name", THIN)
@pytest.mark.parametrize("shape", SHAPES)
def test_weighting_the_map_is_weighting_the_features(name, shape):
    trunk = thin(name, shape).double()
    with torch.no_grad():
        maps = trunk.finish(trunk.blocks[0](trunk.stem(torch.rand(3, *shape).double())))
        rows = torch.randn(3, trunk.features).double()
        weighted = trunk.pool(maps * trunk.spread(rows, maps))
        torch.testing.assert_close(weighted, trunk.pool(maps) * rows, rtol=1e-12, atol=1e-14)


def test_spread_of_two_by_two_values_is_nearest_neighbour_upsampling():
    trunk = thin("preactresnet18", (3, 64, 64))
    maps = torch.zeros(1, 32, 8, 8)
    rows = torch.tensor([1.0, 2.0, 3.0, 4.0]).repeat(32)[None]
    expected = torch.zeros(8, 8)
    expected[:4, :4], expected[:4, 4:], expected[4:, :4], expected[4:, 4:] = 1, 2, 3, 4
    assert torch.equal(trunk.spread(rows, maps), expected.expand(1, 32, 8, 8))


def test_spread_passes_the_gradient_of_every_window_to_its_row():
    trunk = thin("preactresnet18", (3, 64, 64)).double()
    maps = torch.rand(2, 32, 8, 8, dtype=torch.float64)
    rows = torch.randn(2, 128, dtype=torch.float64, requires_grad=True)
    trunk.pool(maps * trunk.spread(rows, maps)).sum().backward()
    torch.testing.assert_close(rows.grad, trunk.pool(maps))


def test_maps_that_the_public_window_does_not_tile_are_averaged_whole():
    trunk = thin("wrn_28_10", (1, 28, 28))
    maps = torch.rand(2, 40, 7, 7)
    torch.testing.assert_close(trunk.pool(maps), maps.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", THIN)
def test_an_empty_batch_gives_no_features_and_no_error(name):
    trunk = thin(name, (1, 28, 28))
    with torch.no_grad():
        maps = trunk.stem(torch.zeros(0, 1, 28, 28))
        assert trunk(torch.zeros(0, 1, 28, 28)).shape == (0, trunk.features)
        last = nn.Sequential(*trunk.blocks)(maps)
        assert trunk.spread(torch.zeros(0, trunk.features), last).shape == last.shape


def test_images_of_another_shape_are_refused():
    trunk = thin("resnet18", (3, 32, 32))
    with pytest.raises(HarnessError, match=r"\(3, 36, 36\).*built for \(3, 32, 32\)"):
        trunk(torch.rand(1, 3, 36, 36))


def test_only_pre_activation_nets_normalise_after_the_last_block():
    maps = torch.randn(2, 32, 4, 4)
    assert torch.equal(thin("resnet18", (3, 32, 32)).finish(maps), maps)
    finished = thin("preactresnet18", (3, 32, 32)).finish(maps)
    torch.testing.assert_close(finished, maps.clamp(min=0), rtol=1e-4, atol=1e-4)


def test_wide_resnets_start_with_the_public_variance():
    torch.manual_seed(0)
    trunk = ARCHITECTURES["wrn_28_10"].build((3, 32, 32), width=4)
    weight = trunk.blocks[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (9 * weight.shape[0])) ** 0.5, rel=0.02)
