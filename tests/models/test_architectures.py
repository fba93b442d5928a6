"""Architectures by name: what is registered, and what their settings may be."""

import pytest
import torch

from harness.errors import HarnessError
from harness.models import architectures
from harness.models.architectures import ARCHITECTURES, architecture
from harness.models.trunk import Trunk
from harness.registry import Registry


@pytest.fixture
def registry(monkeypatch):
    own = Registry("architecture", "harness.models", "robust_harness.none")
    monkeypatch.setattr(architectures, "ARCHITECTURES", own)
    return own


def test_the_architectures_of_the_papers_are_found_by_name():
    names = {"resnet18", "preactresnet18", "wrn_28_10", "wrn_34_10", "wrn_34_20"}
    assert names | {"small_preactresnet"} <= set(ARCHITECTURES)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_architecture_says_what_it_is_and_builds(name):
    entry = ARCHITECTURES[name]
    assert entry.name == name
    assert entry.description.endswith(".")
    assert entry.source
    assert set(entry.settings) == {"width"}
    with torch.device("meta"):
        assert isinstance(entry.build((3, 32, 32)), Trunk)


def test_settings_are_the_keywords_with_their_defaults():
    assert ARCHITECTURES["resnet18"].settings == {"width": 64}
    assert ARCHITECTURES["wrn_34_10"].settings == {"width": 16}


def test_the_default_width_is_the_one_of_the_signature():
    with torch.device("meta"):
        explicit = ARCHITECTURES["resnet18"].build((3, 32, 32), width=64)
        implicit = ARCHITECTURES["resnet18"].build((3, 32, 32))
    assert explicit.features == implicit.features


def test_a_misspelt_architecture_is_answered_with_the_nearest():
    with pytest.raises(HarnessError, match=r"no architecture named 'resnet19'.*'resnet18'"):
        ARCHITECTURES["resnet19"]


def test_a_misspelt_setting_is_answered_with_the_nearest():
    with pytest.raises(HarnessError, match=r"no setting of resnet18 named 'widht'.*'width'"):
        ARCHITECTURES["resnet18"].build((3, 32, 32), widht=8)


@pytest.mark.parametrize("width", [8.0, "8", True, None])
def test_a_setting_of_another_type_is_refused(width):
    with pytest.raises(HarnessError, match="width of resnet18 must be of type int"):
        ARCHITECTURES["resnet18"].build((3, 32, 32), width=width)


@pytest.mark.parametrize("width", [0, -1, 1025])
def test_a_width_outside_its_range_is_refused(width):
    with pytest.raises(HarnessError, match=f"between 1 and 1024 but is {width}"):
        ARCHITECTURES["resnet18"].build((3, 32, 32), width=width)


@pytest.mark.parametrize("shape", [(3, 32), (3, 0, 32), (3, 32.0, 32), (1, 3, 32, 32)])
def test_a_shape_that_no_image_has_is_refused(shape):
    with pytest.raises(HarnessError, match="channels, height, width"):
        ARCHITECTURES["resnet18"].build(shape)


def test_a_new_architecture_is_one_decorated_function(registry):
    @architecture(source="a paper")
    def tiny(shape, *, width: int = 2, gain: float = 1.0):
        """A tiny net.

        With a second paragraph.
        """
        return ARCHITECTURES["small_preactresnet"].build(shape, width=width)

    entry = registry["tiny"]
    assert (entry.name, entry.source, entry.description) == ("tiny", "a paper", "A tiny net.")
    assert entry.settings == {"width": 2, "gain": 1.0}
    assert entry.build((1, 8, 8), gain=0.5).features == 4


def test_a_setting_without_default_is_refused(registry):
    def tiny(shape, *, width):
        """A tiny net."""

    with pytest.raises(HarnessError, match="'width' of tiny needs a default"):
        architecture(source="a paper")(tiny)


def test_two_architectures_of_one_name_are_refused(registry):
    def tiny(shape, *, width: int = 2):
        """A tiny net."""

    architecture(source="a paper")(tiny)
    with pytest.raises(HarnessError, match="two architectures are named 'tiny'"):
        architecture(source="a paper")(tiny)
