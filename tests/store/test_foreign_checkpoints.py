"""What a merged checkpoint may be called and may say of its training."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.cli.options import check_new_name
from harness.errors import HarnessError
from harness.store.store import Store


@pytest.fixture
def theirs(tmp_path: Path, record_of: Callable[..., Any]) -> Path:
    path = tmp_path / "theirs.db"
    with Store.open(path) as store:
        store.add_checkpoint(record_of("mine", scale="smoke", training={"collapsed_at": 3}))
    return path


def merged(theirs: Path, column: str, value: object) -> list[str]:
    with closing(sqlite3.connect(theirs)) as connection:
        connection.execute(f"UPDATE checkpoint SET {column}=?", (value,))  # noqa: S608
        connection.commit()
    with Store.open(theirs.with_name("ours.db")) as store:
        try:
            store.merge(theirs, check_new_name=check_new_name)
        finally:
            names = [record.name for record in store.checkpoints()]
        return names


@pytest.mark.parametrize("name", ["trades", "trades+awp"])
def test_a_merged_checkpoint_is_not_named_like_a_defense(theirs, name):
    with pytest.raises(
        HarnessError, match=rf"nothing was changed: '{name.replace('+', '.')}' is a"
    ):
        merged(theirs, "name", name)


@pytest.mark.parametrize("scale", ["Full", "huge", "<b>full</b>", "full ", "none"])
def test_a_merged_checkpoint_has_a_known_scale(theirs, scale):
    with pytest.raises(HarnessError, match="nothing was changed: scale is"):
        merged(theirs, "scale", scale)


@pytest.mark.parametrize("scale", ["full", "reduced", "smoke", ""])
def test_every_known_scale_is_merged(theirs, scale):
    assert merged(theirs, "scale", scale) == ["mine"]


@pytest.mark.parametrize("epoch", ["never", "3", True, -1, 1.5, None, [3]])
def test_a_merged_checkpoint_collapsed_at_a_number(theirs, epoch):
    with pytest.raises(HarnessError, match="nothing was changed: collapsed_at is"):
        merged(theirs, "training", json.dumps({"collapsed_at": epoch}))
