"""Keep with a job how many trials it has of each status.

Why: counting the trials of every job of a list takes the longer the more trials there are. A job of before that still
runs is counted as it was until its dispatcher writes the next time.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column, and fill it for jobs that have ended: nobody will write to them again."""
    op.add_column("jobs", sa.Column("trial_counts", sa.JSON(), nullable=True))
    of_all = "json_object_agg" if op.get_bind().dialect.name == "postgresql" else "json_group_object"
    counted = "SELECT status, count(*) AS found FROM trials WHERE trials.job_id = jobs.id GROUP BY status"
    op.execute(
        f"UPDATE jobs SET trial_counts = coalesce((SELECT {of_all}(status, found) FROM ({counted}) AS counted), '{{}}')"
        " WHERE status IN ('done', 'failed', 'cancelled')"
    )


def downgrade() -> None:
    """Drop it; trials are counted for every look again."""
    op.drop_column("jobs", "trial_counts")
