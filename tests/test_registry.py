"""A file dropped into a package is found; two things of one name are not."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.registry import Registry

REGISTER = "import sys\nsys.modules['registries'].{registry}.add({name!r}, {entry!r})\n"


class Found:
    """What `sys.modules["registries"]` is while a test runs."""

    things: Registry[str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`package(MODULE=NAME)` writes modules of `dropped_in` that register NAME."""
    folder = tmp_path / "dropped_in"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    Found.things = Registry("thing", "dropped_in", "robust_harness.tests")
    monkeypatch.setitem(sys.modules, "registries", Found)  # type: ignore[arg-type]

    def write(**modules: str) -> None:
        for module, name in modules.items():
            text = REGISTER.format(registry="things", name=name, entry=f"entry of {name}")
            (folder / f"{module}.py").write_text(text)

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "dropped_in"]:
        del sys.modules[name]


def test_whatever_lies_in_the_package_is_found_in_alphabetical_order(package):
    package(one="zebra", two="ant")

    assert [*Found.things] == ["ant", "zebra"]
    assert Found.things["zebra"] == "entry of zebra"
    assert "ant" in Found.things
    assert "bee" not in Found.things


def test_nothing_is_imported_before_somebody_looks(package):
    package(one="zebra")

    assert "dropped_in" not in sys.modules
    assert "zebra" in Found.things
    assert "dropped_in.one" in sys.modules


def test_an_unknown_name_is_told_with_the_nearest(package):
    package(one="zebra")

    with pytest.raises(HarnessError, match=r"no thing named 'zebr'. Did you mean 'zebra'\?"):
        Found.things["zebr"]


def test_two_of_one_name_are_refused_every_time(package):
    package(one="zebra", two="zebra")

    for _ in range(2):
        with pytest.raises(HarnessError, match="two things are named 'zebra'"):
            list(Found.things)


def test_a_module_that_cannot_be_imported_is_tried_again(package, tmp_path):
    package(one="ant")
    broken = tmp_path / "dropped_in" / "two.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        list(Found.things)
    broken.write_text(REGISTER.format(registry="things", name="bee", entry="mended"))

    assert [*Found.things] == ["ant", "bee"]


def test_other_distributions_add_theirs_through_an_entry_point(package, tmp_path):
    package(one="ant")
    elsewhere = REGISTER.format(registry="things", name="wasp", entry="from elsewhere")
    (tmp_path / "other_distribution.py").write_text(elsewhere)
    information = tmp_path / "other-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[robust_harness.tests]\nwasp = other_distribution\n"
    )
    try:
        assert importlib.metadata.version("other") == "1.0"
        assert [*Found.things] == ["ant", "wasp"]
    finally:
        sys.modules.pop("other_distribution", None)


@pytest.mark.parametrize("registry", ["defense", "attack", "dataset", "architecture"])
def test_every_registry_of_the_harness_is_complete_whoever_asks_first(registry):
    from harness.attacks.attack import ATTACKS
    from harness.catalogue import DEFENSES
    from harness.data.datasets import DATASETS
    from harness.models.architectures import ARCHITECTURES

    (found,) = (r for r in (ATTACKS, DATASETS, DEFENSES, ARCHITECTURES) if r.kind == registry)

    assert [*found] == sorted(found)
    assert all(found[name].name == name for name in found)
