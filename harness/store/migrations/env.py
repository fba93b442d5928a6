"""Run revisions on the connection that `harness.store.database` hands over, in its transaction."""

from typing import Any, Literal

from alembic import context

from harness.store.schema import Json, metadata


def render_item(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Write our JSON as the text it is: an old revision must not depend on today's code."""
    return "sa.Text()" if kind == "type" and isinstance(item, Json) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
