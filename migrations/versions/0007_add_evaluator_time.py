"""Add how long the evaluators of a dispatcher have been busy.

Why: whether a search waits for its evaluators or they wait for it is what decides if more of them help.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; a dispatcher of before says nothing of it."""
    op.add_column("dispatchers", sa.Column("busy_s", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("dispatchers", "busy_s")
