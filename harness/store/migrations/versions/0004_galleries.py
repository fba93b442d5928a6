"""pictures: the first test images, and what the worst attack made of them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gallery",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("images_id", sa.Integer(), nullable=False),
        sa.Column("indices", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("pixels", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["images_id"], ["images.id"], name=op.f("fk_gallery_images_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gallery")),
        sa.UniqueConstraint("images_id", name=op.f("uq_gallery_images_id")),
    )
    op.create_table(
        "adversarial",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("function_id", sa.Integer(), nullable=False),
        sa.Column("images_id", sa.Integer(), nullable=False),
        sa.Column("norm", sa.Text(), nullable=False),
        sa.Column("epsilon", sa.Text(), nullable=False),
        sa.Column("attack", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("indices", sa.Text(), nullable=False),
        sa.Column("broken", sa.Text(), nullable=False),
        sa.Column("predicted", sa.Text(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("pixels", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["function_id"],
            ["function.id"],
            name=op.f("fk_adversarial_function_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["images_id"], ["images.id"], name=op.f("fk_adversarial_images_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adversarial")),
        sa.UniqueConstraint(
            "function_id",
            "images_id",
            "norm",
            "epsilon",
            name=op.f("uq_adversarial_function_id"),
        ),
    )
