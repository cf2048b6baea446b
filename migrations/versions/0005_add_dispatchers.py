"""Add what dispatchers say of themselves.

Why: the API never talks to Ray; whether somebody runs its jobs, and whether Ray answers there, stands here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "dispatchers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("evaluators", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("ray", sa.String(length=200), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dispatchers"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("dispatchers")
