"""The tables, as SQLAlchemy Core; ``migrations`` makes them, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, UUID

metadata = MetaData(
    naming_convention={
        "ix": "%(column_0_label)s_idx",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)
_TIME = TIMESTAMP(timezone=True)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", UUID(as_uuid=False), primary_key=True),
    Column("owner", Text, nullable=False, comment="sub of the token that submitted it"),
    Column("client_id", Text, nullable=False),
    Column("vo_name", Text, nullable=False),
    Column("job_state", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("overwrite_flag", Boolean, nullable=False),
    Column("verify_checksum", Boolean, nullable=False),
    Column("attempts", Integer, comment="how often a file is tried; null: the service's own number"),
    Column("source_se", Text, nullable=False),
    Column("dest_se", Text, nullable=False),
    Column("job_metadata", JSONB(none_as_null=True)),
    Column("params", JSONB, nullable=False),
    Column("reason", Text),
    Column("submit_time", _TIME, nullable=False, server_default=text("now()")),
    Column("job_finished", _TIME),
    Column("expires_at", _TIME, comment="when files that still wait are canceled"),
    Column("elements", Integer, nullable=False, comment="destinations"),
    Column("finished", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("canceled", Integer, nullable=False, server_default="0"),
    Column("revision", BigInteger, nullable=False, server_default="0", comment="grows with every change of state"),
)
Index("jobs_owner", jobs.c.owner, jobs.c.submit_time)
Index("jobs_open", jobs.c.submit_time, postgresql_where=jobs.c.job_finished.is_(None))
Index("jobs_ended", jobs.c.job_finished, postgresql_where=jobs.c.job_finished.is_not(None))
Index("jobs_hops", jobs.c.job_id, postgresql_where=text("job_finished IS NULL AND job_type = 'H'"))
Index("jobs_expiring", jobs.c.expires_at, postgresql_where=text("job_finished IS NULL AND expires_at IS NOT NULL"))

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", BigInteger, Identity(), primary_key=True),
    Column("job_id", UUID(as_uuid=False), ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
    Column("host", Text, nullable=False, comment="the only host that it is sent to"),
    Column("expires_at", _TIME, comment="null: not known"),
    Column("sealed", LargeBinary, nullable=False),
)
Index("tokens_job", tokens.c.job_id)
Index("tokens_expiring", tokens.c.expires_at)

files = Table(
    "files",
    metadata,
    Column("file_id", BigInteger, Identity(), primary_key=True),
    Column("job_id", UUID(as_uuid=False), ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
    Column("file_index", Integer, nullable=False, comment="the element of the job; its sources share it"),
    Column("file_state", Text, nullable=False),
    Column("source_surl", Text, nullable=False),
    Column("dest_surl", Text, nullable=False),
    Column("source_url", Text, nullable=False),
    Column("dest_url", Text, nullable=False),
    Column("source_host", Text, nullable=False),
    Column("dest_host", Text, nullable=False),
    Column("source_token", BigInteger, comment="tokens.token_id; gone when the job has ended"),
    Column("dest_token", BigInteger),
    Column("checksum", Text),
    Column("user_filesize", BigInteger),
    Column("file_metadata", JSONB(none_as_null=True)),
    Column("vo", Text, nullable=False, comment="that of its job"),
    Column("owner", Text, nullable=False, comment="that of its job"),
    Column("activity", Text, nullable=False),
    Column("selection_strategy", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("not_before", _TIME, nullable=False, server_default=text("now()")),
    Column("attempt", Integer, nullable=False, server_default="0", comment="attempts begun"),
    Column("spent", Integer, nullable=False, server_default="0", comment="attempts that count against the limit"),
    Column("worker", Integer, comment="who copies or cleans"),
    Column("busy", Boolean, nullable=False, server_default=text("false"), comment="the destination may change"),
    Column("wrote", Boolean, nullable=False, server_default=text("false"), comment="what lies there is ours"),
    Column(
        "transient", Boolean, nullable=False, server_default=text("false"), comment="to be removed when the job ends"
    ),
    Column("clean_at", _TIME, comment="when a partial destination can be looked at"),
    Column("clean_until", _TIME),
    Column("start_time", _TIME),
    Column("finish_time", _TIME),
    Column("filesize", BigInteger, nullable=False, server_default="0"),
    Column("transferred", BigInteger, nullable=False, server_default="0"),
    Column("tx_duration", Float),
    Column("throughput", Float, comment="MiB/s, as in FTS3"),
    Column("reason", Text),
    Column("error_class", Text),
)
Index("files_job", files.c.job_id, files.c.file_index)
Index(
    "files_queue",
    files.c.source_host,
    files.c.dest_host,
    files.c.vo,
    files.c.activity,
    files.c.priority.desc(),
    files.c.file_id,
    postgresql_where=text("file_state = 'SUBMITTED'"),
)
Index("files_waiting", files.c.not_before, postgresql_where=text("file_state = 'SUBMITTED'"))
Index("files_active", files.c.dest_host, files.c.source_host, postgresql_where=text("file_state = 'ACTIVE'"))
# Two copies never write one destination at once, whatever a worker believes.
Index("files_busy", files.c.dest_url, unique=True, postgresql_where=text("busy"))
Index("files_held", files.c.worker, postgresql_where=text("busy"))
Index("files_transient", files.c.job_id, postgresql_where=text("transient"))
Index("files_unclean", files.c.job_id, postgresql_where=text("busy"))

attempts = Table(
    "attempts",
    metadata,
    Column("file_id", BigInteger, ForeignKey("files.file_id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("started", _TIME, nullable=False),
    Column("ended", _TIME, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error_class", Text),
    Column("reason", Text),
    Column("steps", JSONB, nullable=False, comment="[{at, asked, answered}]: what each side said"),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("host", Text, primary_key=True, comment="a storage element that cannot be reached"),
    Column("since", _TIME, nullable=False, server_default=text("now()")),
    Column("paused_until", _TIME, nullable=False),
    Column("failures", Integer, nullable=False, server_default="1"),
    Column("reason", Text, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("worker", Integer, Identity(), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", _TIME, nullable=False, server_default=text("now()")),
)

# Written by triggers of ``files``; ``counts`` sums it up.
file_counts = Table(
    "file_counts",
    metadata,
    Column("owner", Text, nullable=False),
    Column("vo", Text, nullable=False),
    Column("activity", Text, nullable=False),
    Column("source_host", Text, nullable=False),
    Column("dest_host", Text, nullable=False),
    Column("state", Text, nullable=False, comment="SUBMITTED, ACTIVE, or UNCLEAN"),
    Column("files", BigInteger, nullable=False, comment="how many more there are"),
)

# What the operator decides (``policy`` reads it). An element is named as FTS3 does, and kept with the ``host:port`` of
# all its doors: that is what files are queued under.

banned = Table(
    "banned",
    metadata,
    Column("se", Text, primary_key=True, comment="the storage element as it was named"),
    Column("vo", Text, primary_key=True, comment="whose copies; * for all"),
    Column("hosts", ARRAY(Text), nullable=False, comment="host:port of the element and of its copy door"),
    Column("status", Text, nullable=False, comment="CANCEL, WAIT, or WAIT_AS: wait, and take new jobs"),
    Column("message", Text, nullable=False, server_default=""),
    Column("admin", Text, nullable=False, comment="sub of the operator"),
    Column("added", _TIME, nullable=False, server_default=text("now()")),
)

banned_people = Table(
    "banned_people",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("message", Text, nullable=False, server_default=""),
    Column("admin", Text, nullable=False),
    Column("added", _TIME, nullable=False, server_default=text("now()")),
)

storage_limits = Table(
    "storage_limits",
    metadata,
    Column("se", Text, primary_key=True, comment="* for every element without limits of its own"),
    Column("hosts", ARRAY(Text), nullable=False, comment="host:port of the element and of its copy door"),
    Column("site", Text),
    Column("se_metadata", Text),
    Column("inbound_max_active", Integer),
    Column("outbound_max_active", Integer),
    Column("inbound_max_throughput", Float, comment="MB/s, as in FTS3"),
    Column("outbound_max_throughput", Float, comment="MB/s"),
    Column("tpc_support", Text, comment="FULL, PULL, PUSH or NONE; null: FULL"),
)

link_limits = Table(
    "link_limits",
    metadata,
    Column("symbolicname", Text, primary_key=True),
    Column("source", Text, nullable=False, comment="a storage element, or * for any"),
    Column("destination", Text, nullable=False),
    Column("source_hosts", ARRAY(Text), nullable=False, comment="empty for any"),
    Column("dest_hosts", ARRAY(Text), nullable=False),
    Column("min_active", Integer, nullable=False, comment="the optimizer does not go below"),
    Column("max_active", Integer, nullable=False),
)
Index("link_limits_ends", link_limits.c.source, link_limits.c.destination, unique=True)

shares = Table(
    "shares",
    metadata,
    Column("source", Text, primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("vo", Text, primary_key=True, comment="a VO, or public for those without a share of their own"),
    Column("source_hosts", ARRAY(Text), nullable=False),
    Column("dest_hosts", ARRAY(Text), nullable=False),
    Column("share", Integer, nullable=False, comment="weight among the VOs of the link"),
)

activity_shares = Table(
    "activity_shares",
    metadata,
    Column("vo", Text, primary_key=True),
    Column("share", JSONB, nullable=False, comment="{activity: weight}"),
    Column("active", Boolean, nullable=False, server_default=text("true")),
)

defaults = Table(
    "defaults",
    metadata,
    Column("vo_name", Text, primary_key=True, comment="a VO, or * for all"),
    Column("retry", Integer, comment="of jobs that do not say; as in FTS3"),
    Column("max_time_queue", Integer, comment="hours, of jobs that do not say"),
)

config_audit = Table(
    "config_audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", _TIME, nullable=False, server_default=text("now()")),
    Column("subject", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("config", Text, nullable=False),
)

optimizer = Table(
    "optimizer",
    metadata,
    Column("source_host", Text, primary_key=True),
    Column("dest_host", Text, primary_key=True),
    Column("active", Integer, nullable=False, comment="how many copies the link may run at once"),
    Column("ema", Float, nullable=False, server_default="0", comment="smoothed throughput, bytes/s"),
    Column("updated", _TIME, nullable=False, server_default=text("now()")),
)

link_samples = Table(
    "link_samples",
    metadata,
    Column("at", _TIME, nullable=False, server_default=text("now()")),
    Column("worker", Integer, nullable=False),
    Column("source_host", Text, nullable=False),
    Column("dest_host", Text, nullable=False),
    Column("seconds", Float, nullable=False, comment="length of the interval that ended at that time"),
    Column("bytes", BigInteger, nullable=False, comment="moved in it, by copies that go on as well"),
    Column("finished", Integer, nullable=False),
    Column("failed", Integer, nullable=False, comment="by the link or its ends, not by tokens or missing files"),
    Column("sizes", Float, nullable=False, comment="sum of the sizes of finished files"),
    Column("squares", Float, nullable=False, comment="sum of their squares"),
)
Index("link_samples_at", link_samples.c.at)

optimizer_evolution = Table(
    "optimizer_evolution",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", _TIME, nullable=False, server_default=text("now()")),
    Column("source_host", Text, nullable=False),
    Column("dest_host", Text, nullable=False),
    Column("active", Integer, nullable=False, comment="the decision"),
    Column("diff", Integer, nullable=False, comment="against the one before"),
    Column("actual_active", Integer, nullable=False),
    Column("queue_size", Integer, nullable=False),
    Column("throughput", Float, nullable=False, comment="bytes/s in the interval"),
    Column("ema", Float, nullable=False),
    Column("success", Float, nullable=False, comment="percent of the attempts in the interval"),
    Column("filesize_avg", Float, nullable=False),
    Column("filesize_stddev", Float, nullable=False),
    Column("rationale", Text, nullable=False),
)
Index("optimizer_evolution_link", optimizer_evolution.c.source_host, optimizer_evolution.c.dest_host)

archive = Table(
    "archive",
    metadata,
    Column("job_id", UUID(as_uuid=False), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("vo_name", Text, nullable=False),
    Column("job_finished", _TIME, nullable=False),
    Column("job", JSONB, nullable=False, comment="the row of jobs"),
    Column("files", JSONB, nullable=False, comment="its rows of files"),
)
Index("archive_finished", archive.c.job_finished)
