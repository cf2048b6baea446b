"""Count the uses of artefacts.

Why: an artefact goes with the last thing that names it, and an owner's quota counts what their things take. Uploads of
before are counted with the length 0, which is not known without reading them.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table and fill it from what names artefacts."""
    uses = op.create_table(
        "artifact_uses",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "holder", name="pk_artifact_uses"),
    )
    op.create_index("ix_artifact_uses_holder", "artifact_uses", ["holder"], unique=False)
    op.create_index("ix_artifact_uses_owner", "artifact_uses", ["owner"], unique=False)
    connection = op.get_bind()
    rows: dict[tuple[str, str], dict[str, Any]] = {}

    def add(digest: str, holder: str, owner: str, length: int) -> None:
        rows[digest, holder] = {"digest": digest, "holder": holder, "owner": owner, "bytes": length}

    names = ("source_artifact", "graph_artifact", "weights_artifact")
    models = sa.table("models", *(sa.column(name, sa.String) for name in ("id", "owner", *names)))
    for row in connection.execute(sa.select(models)):
        for name in names:
            add(getattr(row, name), row.id, row.owner, 0)
    datasets = sa.table("datasets", *(sa.column(name, sa.String) for name in ("id", "owner", "artifact")))
    for row in connection.execute(sa.select(datasets)):
        add(row.artifact, row.id, row.owner, 0)
    jobs = sa.table("jobs", sa.column("id", sa.String), sa.column("owner", sa.String))
    trials = sa.table("trials", sa.column("job_id", sa.String), sa.column("checkpoint", sa.JSON))
    packed = sa.select(jobs.c.id, jobs.c.owner, trials.c.checkpoint).join_from(
        jobs, trials, jobs.c.id == trials.c.job_id
    )
    for row in connection.execute(packed.where(trials.c.checkpoint.is_not(None))):
        for file in (row.checkpoint or {}).get("files", {}).values():
            add(file["digest"], row.id, row.owner, file["bytes"])
    if rows:
        op.bulk_insert(uses, list(rows.values()))


def downgrade() -> None:
    """Forget the counts."""
    op.drop_index("ix_artifact_uses_owner", table_name="artifact_uses")
    op.drop_index("ix_artifact_uses_holder", table_name="artifact_uses")
    op.drop_table("artifact_uses")
