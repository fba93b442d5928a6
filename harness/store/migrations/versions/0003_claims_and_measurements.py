"""published claims, and measurements of what a network has learnt."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CLAIM_KEY = (
    "source",
    "place",
    "dataset",
    "architecture",
    "defense",
    "metric",
    "attack",
    "attack_iterations",
    "knowledge",
    "variant",
)


def upgrade() -> None:
    texts = (*CLAIM_KEY, "epsilon", "norm", "printed", "unit", "spread", "quoted_from", "note")
    op.create_table(
        "claim",
        sa.Column("id", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in texts),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claim")),
        sa.UniqueConstraint(*CLAIM_KEY, name=op.f("uq_claim_source")),
    )
    op.create_table(
        "measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("function_id", sa.Integer(), nullable=False),
        sa.Column("images_id", sa.Integer(), nullable=False),
        sa.Column("analysis", sa.Text(), nullable=False),
        sa.Column("on", sa.Text(), nullable=False),
        sa.Column("norm", sa.Text(), nullable=False),
        sa.Column("epsilon", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("examples", sa.BigInteger(), nullable=False),
        sa.Column("values", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["function_id"],
            ["function.id"],
            name=op.f("fk_measurement_function_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["images_id"], ["images.id"], name=op.f("fk_measurement_images_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurement")),
        sa.UniqueConstraint(
            "function_id",
            "images_id",
            "analysis",
            "on",
            "norm",
            "epsilon",
            name=op.f("uq_measurement_function_id"),
        ),
    )
