"""Every schema this harness has ever written, as Alembic revisions."""
