"""The one table of what is replaced in Rucio, and of the private functions that are called.

Every entry names the signature that it was written for. :func:`apply` checks the version of Rucio and every signature
before it changes anything, so that another Rucio fails at once, with a list of what differs, and never half patched.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from boathouse_rucio_site import RUCIO_VERSION
from boathouse_rucio_site.errors import WrongRucioError

_HERE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class Patch:
    """A function, class or object of Rucio that is replaced.

    Attributes:
        target: ``module:name`` or ``module:Class.name``.
        signature: what :func:`describe` says of the original.
        replacement: ``module:name`` within this package.
        why: the fault of the original.
    """

    target: str
    signature: str
    replacement: str
    why: str


@dataclass(frozen=True)
class Use:
    """A private function of Rucio that this package calls, or a method that it overrides."""

    target: str
    signature: str


# In order of application: the cache comes first, for caches are made while modules are imported.
PATCHES: tuple[Patch, ...] = (
    Patch(
        "rucio.common.cache:MemcacheRegion._configure_region",
        "(self, expiration_time, memcached_expire_time)",
        "cache:configure_region",
        "without a memcached server nothing is cached; one machine needs no server for that",
    ),
    Patch(
        "rucio.core.replica_sorter:sort_geoip",
        "(dictreplica, client_location, ignore_error=False)",
        "sorting:keep_order",
        "fetches a database of places from the internet into /tmp at every listing of replicas",
    ),
    Patch(
        "rucio.core.oidc:validate_jwt",
        "(json_web_token, *, session)",
        "jwt:validate_jwt",
        "stores each token in a column too short for twenty audiences, parallel first uses collide, keys are kept for "
        "12 hours, nbf is ignored",
    ),
    Patch(
        "rucio.core.oidc:request_token",
        "(audience, scope, use_cache=True)",
        "tokens:request_token",
        "an issuer that is down at the first use is never asked again; cached tokens outlive the key that signed them",
    ),
    Patch(
        "rucio.core.oidc:__get_rucio_oidc_clients",
        "(keytimeout=43200)",
        "tokens:oidc_clients",
        "keys for the browser login are kept for 12 hours, and its client is that of services",
    ),
    Patch(
        "rucio.core.oidc:get_auth_oidc",
        "(account, *, session, **kwargs)",
        "browserlogin:get_auth_oidc",
        "with polling, the token goes to whoever made a link that somebody else opened; strangers fill the table",
    ),
    Patch(
        "rucio.core.authentication:redirect_auth_oidc",
        "(auth_code, fetchtoken=False, *, session)",
        "browserlogin:redirect_auth_oidc",
        "a code fetches the token again and again, also after its five minutes",
    ),
    Patch(
        "rucio.core.oidc:__save_validated_token",
        "(token, valid_dict, extra_dict=None, *, session)",
        "browserlogin:save_validated_token",
        "a stored token is taken as valid without a look at its issuer, and its column is too short for many audiences",
    ),
    Patch(
        "rucio.core.authentication:TOKENREGION",
        "CacheRegion",
        "cache:TOKEN_REGION",
        "a token that was valid once is taken as valid for 15 minutes more, whatever happens to its key",
    ),
    Patch(
        "rucio.gateway.did:add_did",
        "(scope, name, did_type, issuer, account=None, statuses=None, meta=None, rules=None, lifetime=None, dids=None, "
        "rse=None, vo='def')",
        "writing:add_did",
        "the policy is not told what the new collection is to hold",
    ),
    Patch(
        "rucio.gateway.did:set_metadata",
        "(scope, name, key, value, issuer, recursive=False, vo='def')",
        "writing:set_metadata",
        "the policy is not told that files in a dataset are to be changed as well, whosever they are",
    ),
    Patch(
        "rucio.gateway.did:set_metadata_bulk",
        "(scope, name, meta, issuer, recursive=False, vo='def')",
        "writing:set_metadata_bulk",
        "the same",
    ),
    Patch(
        "rucio.gateway.did:delete_metadata",
        "(scope, name, key, vo='def')",
        "writing:delete_metadata",
        "the policy is not asked",
    ),
    Patch(
        "rucio.gateway.replica:add_replicas",
        "(rse, files, issuer, ignore_availability=False, vo='def')",
        "writing:add_replicas",
        "the policy is not told the scopes, paths and states of the files",
    ),
    Patch(
        "rucio.gateway.replica:update_replicas_states",
        "(rse, files, issuer, vo='def')",
        "writing:update_replicas_states",
        "the policy is not told the files and their new states",
    ),
    Patch(
        "rucio.core.replica:add_replicas",
        "(rse_id, files, account, ignore_availability=True, dataset_meta=None, *, session)",
        "naming:add_replicas",
        "requests do not tell files from collections, whose names no path is made of",
    ),
    Patch(
        "rucio.core.did:__add_files_to_archive",
        "(parent_did, files_temp_table, files, account, ignore_duplicate=False, *, session)",
        "naming:add_files_to_archive",
        "the same, for what is in an archive",
    ),
    Patch(
        "rucio.core.rse:determine_audience_for_rse",
        "(rse_id)",
        "transfertool:audience_for_rse",
        "some twenty SQL statements a file",
    ),
    Patch(
        "rucio.core.rse:determine_scope_for_rse",
        "(rse_id, scopes, extra_scopes=None)",
        "transfertool:scope_for_rse",
        "some twenty SQL statements a file",
    ),
    Patch(
        "rucio.core.transfer:FTS3Transfertool",
        "(external_host, oidc_support=False, vo=None, group_bulk=1, group_policy='rule', source_strategy=None, "
        "max_time_in_queue=None, bring_online=43200, default_lifetime=172800, archive_timeout_override=None, "
        "logger=<log>)",
        "transfertool:BoathouseTransfertool",
        "cancelling a transfer and changing its priority carry no token, and TLS is not verified",
    ),
    Patch(
        "rucio.core.transfer:TRANSFERTOOL_CLASSES_BY_NAME",
        "dict",
        "transfertool:TRANSFER_TOOLS",
        "transfer tools are a fixed list",
    ),
    Patch(
        "rucio.daemons.conveyor.common:submit_transfer",
        "(transfertool_obj, transfers, job_params, timeout=None, logger=<log>)",
        "submission:submit_transfer",
        "two transactions a file; if one request of a group has gone, the others stay marked for two hours",
    ),
    Patch(
        "rucio.core.request:archive_request",
        "(request_id, *, session)",
        "archive:archive_request",
        "reads a row into an object to write it out again: more than half of what finishing a transfer costs",
    ),
    Patch(
        "rucio.daemons.conveyor.finisher:__update_bulk_replicas",
        "(replicas, *, session, logger=<log>)",
        "finishing:update_bulk_replicas",
        "some fifteen statements a file: half of the time from a rule to its state OK",
    ),
    Patch(
        "rucio.daemons.reaper.reaper:REGION",
        "MemcacheRegion",
        "cache:REAPER_REGION",
        "an RSE without work is left alone for two minutes, a new RSE is not seen for ten",
    ),
    Patch(
        "rucio.daemons.conveyor.finisher:FAILED_DURING_SUBMISSION_DELAY",
        "timedelta",
        "backoff:FAILED_DURING_SUBMISSION_DELAY",
        "a transfer whose submission was cut short is left for two hours",
    ),
)

USES: tuple[Use, ...] = (
    Use(
        "rucio.daemons.conveyor.submitter:_fetch_requests",
        "(partition_hash_var, bulk, activity, rse_ids, request_type, ignore_availability, filter_transfertool, "
        "metrics, cached_topology, set_last_processed_by, heartbeat_handler)",
    ),
    Use(
        "rucio.daemons.conveyor.submitter:_handle_requests",
        "(batch, *, transfertools, schemes, failover_schemes, max_sources, timeout, transfertool_kwargs, metrics, "
        "logger=<log>)",
    ),
    Use(
        "rucio.daemons.conveyor.poller:_fetch_requests",
        "(db_bulk, older_than, activity_shares, transfertool, filter_transfertool, cached_topology, activity, "
        "set_last_processed_by, heartbeat_handler)",
    ),
    Use("rucio.core.transfer:update_transfer_state", "(tt_status_report, stats_manager, *, session, logger=<log>)"),
    Use("rucio.core.transfer:mark_transfer_lost", "(request, *, session, logger=<log>)"),
    Use(
        "rucio.daemons.conveyor.finisher:_fetch_requests",
        "(db_bulk, set_last_processed_by, cached_topology, heartbeat_handler, activity)",
    ),
    Use(
        "rucio.daemons.conveyor.finisher:_handle_requests",
        "(batch, bulk, suspicious_patterns, retry_protocol_mismatches, *, logger=<log>)",
    ),
    Use("rucio.daemons.judge.evaluator:run_once", "(paused_dids, did_limit, heartbeat_handler, **_kwargs)"),
    Use("rucio.daemons.judge.injector:run_once", "(paused_rules, heartbeat_handler, **_kwargs)"),
    Use("rucio.daemons.judge.cleaner:run_once", "(paused_rules, heartbeat_handler, **_kwargs)"),
    Use("rucio.daemons.judge.repairer:run_once", "(paused_rules, delta, heartbeat_handler, **_kwargs)"),
    Use(
        "rucio.daemons.reaper.reaper:run_once",
        "(rses, include_rses, exclude_rses, vos, chunk_size, greedy, scheme, delay_seconds, auto_exclude_threshold, "
        "auto_exclude_timeout, heartbeat_handler, **_kwargs)",
    ),
    Use("rucio.daemons.undertaker.undertaker:run_once", "(paused_dids, chunk_size, heartbeat_handler, **_kwargs)"),
    Use("rucio.daemons.abacus.account:run_once", "(heartbeat_handler, **_kwargs)"),
    Use("rucio.daemons.abacus.rse:run_once", "(heartbeat_handler, **_kwargs)"),
    Use("rucio.daemons.abacus.collection_replica:run_once", "(heartbeat_handler, limit, **_kwargs)"),
    Use("rucio.daemons.transmogrifier.transmogrifier:run_once", "(heartbeat_handler, bulk, **_kwargs)"),
    Use("rucio.daemons.badreplicas.necromancer:run_once", "(heartbeat_handler, bulk, **_kwargs)"),
    Use("rucio.daemons.badreplicas.minos:run_once", "(heartbeat_handler, bulk, **_kwargs)"),
    Use("rucio.transfertool.fts3:FTS3Transfertool.group_into_submit_jobs", "(self, transfer_paths)"),
    Use("rucio.transfertool.fts3:FTS3Transfertool.submit", "(self, transfers, job_params, timeout=None)"),
    Use("rucio.transfertool.fts3:FTS3Transfertool.bulk_query", "(self, requests_by_eid, timeout=None)"),
    Use(
        "rucio.transfertool.fts3:FTS3ApiTransferStatusReport",
        "(external_host, request_id, job_response, file_response, request=None)",
    ),
    Use("rucio.rse.protocols.webdav:Default.connect", "(self, credentials=None)"),
    Use("rucio.rse.protocols.webdav:Default.delete", "(self, pfn)"),
    Use("rucio.rse.protocols.webdav:Default.path2pfn", "(self, path)"),
)


def describe(value: object) -> str:
    """Names, kinds and defaults of the parameters of a function or class; of any other object, its type.

    Annotations are left out, for Python prints them differently from version to version.
    """
    if not isinstance(value, FunctionType | type):
        return type(value).__name__
    signature = inspect.signature(value)
    parameters = []
    for parameter in signature.parameters.values():
        default = parameter.default
        if isinstance(default, FunctionType):
            default = _Named(default.__name__)
        parameters.append(parameter.replace(annotation=inspect.Parameter.empty, default=default))
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def check(entries: Sequence[Patch | Use] = (*PATCHES, *USES)) -> None:
    """Make sure that Rucio is the one that the table was written for.

    Raises:
        WrongRucioError: another version is installed, or an entry is missing or differs; all differences are listed.
    """
    from rucio.version import version_string  # noqa: PLC0415 - nothing of Rucio before its configuration is chosen

    found = version_string()
    if found != RUCIO_VERSION:
        raise WrongRucioError(
            f"Rucio {found} is installed, but this package replaces functions of Rucio {RUCIO_VERSION}: "
            f"install rucio=={RUCIO_VERSION}"
        )
    problems = []
    for entry in entries:
        try:
            actual = describe(_resolve(entry.target))
        except (ImportError, AttributeError) as error:
            problems.append(f"{entry.target}: {error}")
            continue
        if actual != entry.signature:
            problems.append(f"{entry.target}: expected {entry.signature}, found {actual}")
    if problems:
        raise WrongRucioError("Rucio is not as this package knows it:\n  " + "\n  ".join(problems))


def apply() -> None:
    """Replace everything in the table; a second call changes nothing.

    Raises:
        WrongRucioError: Rucio is not the one that the table was written for; nothing more is replaced.
    """
    if _State.applied:
        return
    _, *rest = PATCHES
    apply_cache()
    check([*rest, *USES])
    for patch in rest:
        _replace(patch)
    _State.applied = True


def apply_cache() -> None:
    """Replace only the cache, which is all that the bootstrap needs; the daemons need not be imported for it.

    Raises:
        WrongRucioError: Rucio is not the one that the table was written for.
    """
    if not _State.cache_applied:
        check(PATCHES[:1])
        _replace(PATCHES[0])
        _State.cache_applied = True


class _State:
    applied = False
    cache_applied = False


@dataclass(frozen=True)
class _Named:
    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _resolve(target: str) -> Any:
    module, _, path = target.partition(":")
    value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _replace(patch: Patch) -> None:
    original = _resolve(patch.target)
    module, _, name = patch.replacement.partition(":")
    replacement = getattr(importlib.import_module(f"{_HERE}.{module}"), name)
    home, _, path = patch.target.partition(":")
    *parents, attribute = path.split(".")
    owner: Any = importlib.import_module(home)
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, attribute, replacement)
    if parents:
        return
    # Modules that were imported before have the original under the same name.
    for other, loaded in list(sys.modules.items()):
        if other.startswith("rucio.") and getattr(loaded, attribute, None) is original:
            setattr(loaded, attribute, replacement)
