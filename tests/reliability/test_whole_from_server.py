"""A PostgreSQL store as one SQLite file: the same rows, found by the same keys."""

from __future__ import annotations

from test_postgresql import record

from harness.claims import claims
from harness.store.finished import is_finished
from harness.store.store import Store


def test_a_server_gives_the_same_rows_as_one_finished_file(postgresql, tmp_path):
    file = tmp_path / "whole.db"
    with Store.open(postgresql) as store:
        store.add_checkpoint(record("one"))
        store.add_claims(claims()[:20])
        file.write_bytes(store.whole_file())
        assert store.whole_size() > 0
        expected = store.checkpoints(), store.claims(), store.stamps()
    assert is_finished(file)
    with Store.open(file, create=False, read_only=True) as store:
        assert (store.checkpoints(), store.claims(), store.stamps()) == expected
