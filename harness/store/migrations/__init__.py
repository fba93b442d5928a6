"""Every schema this harness has ever written, as Alembic revisions.

A change of `schema.py` brings a new file in `versions/` and a new `HEAD`; Alembic's `revision`
command drafts it from `harness.store.revisions.migration_config()`. A test compares the two.
"""
