"""PostgreSQL: one server for all databases, on a Unix socket only, a role and a password for each service."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from boathouse.facility.model import Facility
from boathouse.plan.model import File, PortRequest, Probe, ProbeKind, Secret, Task, Unit
from boathouse.plan.service import Context, Contribution, Service

DATABASES = ("rucio", "tokens", "transfers")
"""Each is the name of a database and of the role that owns it."""

# A laptop's worth of memory; a crash may lose nothing, so fsync stays on.
_SETTINGS = """\
listen_addresses = ''
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
port = 5432
max_connections = 120
shared_buffers = 128MB
password_encryption = 'scram-sha-256'
log_destination = 'stderr'
logging_collector = off
log_checkpoints = off
log_timezone = 'UTC'
timezone = 'UTC'
"""

_HBA = """\
# Every role proves itself, the administrator of the cluster too.
local all all scram-sha-256
"""

_CREATE = """\
SELECT format('CREATE ROLE %I LOGIN', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \\gexec
ALTER ROLE :"name" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
"""


class Postgres(Service):
    """The database server and one database for each service that keeps state."""

    name: ClassVar[str] = "postgres"

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """None: it listens on a Unix socket."""
        del facility
        return ()

    def plan(self, context: Context) -> Contribution:
        """One unit; ``initdb`` before its first start, roles and databases after each."""
        socket, data = context.run(self.name), context.data(self.name)
        programs = context.programs.postgres_bin
        superuser = f"postgres-{self.name}"
        settings = File(
            context.config(self.name, "postgresql.conf"),
            _SETTINGS.format(socket=socket) + context.facility.services.postgres_extra_config,
        )
        hba = File(context.config(self.name, "pg_hba.conf"), _HBA)
        pgpass = File(context.config(self.name, "pgpass"), f"*:*:*:postgres:${{secret:{superuser}}}\n")
        sql = File(context.config(self.name, "create.sql"), self._create_script())
        unit = Unit(
            name=self.name,
            title="PostgreSQL, the database of all services",
            command=(
                str(programs / "postgres"),
                "-D",
                str(data),
                "-c",
                f"config_file={settings.path}",
                "-c",
                f"hba_file={hba.path}",
            ),
            probe=Probe(
                ProbeKind.command, command=(str(programs / "pg_isready"), "--quiet", "-h", str(socket)), timeout_s=60
            ),
            directories=(socket, data),
            files=(settings, hba, pgpass, sql),
            prepare=(_make_cluster(context, data, context.layout.secret(superuser)),),
            after=(_make_databases(context, sql.path, pgpass.path),),
            stop_signal="INT",
            stop_timeout_s=30,
        )
        return Contribution(
            units=(unit,),
            secrets=(Secret(superuser), *(Secret(f"postgres-{name}") for name in DATABASES)),
        )

    @staticmethod
    def _create_script() -> str:
        return "".join(
            f"\\set name {name}\n\\set password '${{secret:postgres-{name}}}'\n{_CREATE}" for name in DATABASES
        )


def _make_cluster(context: Context, data: Path, password: Path) -> Task:
    return Task(
        "initdb",
        (
            str(context.programs.postgres_bin / "initdb"),
            f"--pgdata={data}",
            "--username=postgres",
            "--auth=scram-sha-256",
            f"--pwfile={password}",
            "--encoding=UTF8",
            "--no-locale",
            "--data-checksums",
        ),
        once=True,
    )


def _make_databases(context: Context, sql: Path, pgpass: Path) -> Task:
    return Task(
        "create-databases",
        (
            str(context.programs.postgres_bin / "psql"),
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--dbname=postgres",
            f"--file={sql}",
        ),
        env={"PGPASSFILE": str(pgpass), "PGHOST": str(context.run(Postgres.name)), "PGUSER": "postgres"},
        once=True,
        inputs=(sql,),
    )


def database_url(context: Context, role: str) -> str:
    """SQLAlchemy URL of a service's database, with a placeholder for its password."""
    socket = context.run(Postgres.name)
    return f"postgresql+psycopg://{role}:${{quoted-secret:postgres-{role}}}@/{role}?host={socket}"
