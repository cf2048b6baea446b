"""Keep fronts as trials arrive.

Why: a front that is computed from all trials for every look takes the longer the more trials there are. Jobs of before
have no rows here and are computed as they were, until a dispatcher takes them up again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the two tables, and an index to find the few verified trials and baselines among many."""
    op.create_table(
        "front_points",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("axis", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_front_points_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "device", "axis", "number", name="pk_front_points"),
    )
    op.create_table(
        "front_totals",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("measured", sa.Integer(), nullable=False),
        sa.Column("feasible", sa.Integer(), nullable=False),
        sa.Column("dearest", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_front_totals_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "device", name="pk_front_totals"),
    )
    op.create_index("ix_trials_job_id_origin", "trials", ["job_id", "origin"], unique=False)
    op.create_index("ix_trials_job_id_verified", "trials", ["job_id", "verified"], unique=False)


def downgrade() -> None:
    """Drop them; fronts are computed from all trials again."""
    op.drop_index("ix_trials_job_id_verified", table_name="trials")
    op.drop_index("ix_trials_job_id_origin", table_name="trials")
    op.drop_table("front_totals")
    op.drop_table("front_points")
