"""``rule add|show|why|list|update|move|remove``: where data shall be, and until when."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, emit, err, literal, out
from boathouse.cli.lakes import columns, open_lake, values_named, waiting
from boathouse.cli.transfers import tell_file
from boathouse.errors import InputError
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did
from boathouse.lake.rules import TABLE_HEAD, Rule, block, table_row
from boathouse.lake.rules import as_json as as_json_rule
from boathouse.units import parse_lifetime, parse_seconds

RuleId = Annotated[str, typer.Argument(help="Id of the rule.", metavar="ID")]

_GROUPINGS = ("ALL", "DATASET", "NONE")


def add(
    did: Annotated[str, typer.Argument(help="What to protect.", metavar="DID")],
    expression: Annotated[str, typer.Argument(help="RSE expression, e.g. 'QOS=FAST'.", metavar="EXPR")],
    *,
    copies: Annotated[int, typer.Option("--copies", min=1, help="At how many RSEs.")] = 1,
    lifetime: Annotated[
        str | None, typer.Option("--lifetime", help="Until when, e.g. '30 d'; for ever if not given.")
    ] = None,
    activity: Annotated[
        str | None, typer.Option("--activity", help="Share of the transfers that it belongs to.")
    ] = None,
    grouping: Annotated[str, typer.Option("--grouping", help="What stays together: ALL, DATASET or NONE.")] = "DATASET",
    comment: Annotated[str | None, typer.Option("--comment", help="A note.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="RSE expression to copy from only.")] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="How long --wait waits.")] = "1 h",
    state: State = None,
    asynchronous: Annotated[bool, typer.Option("--asynchronous", help="Let the daemons work out the locks.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is OK.")] = False,
    as_json: Json = False,
) -> None:
    """Ask for copies of a DID at RSEs of an expression; prints the rule's id."""
    if grouping.upper() not in _GROUPINGS:
        raise InputError("unknown grouping", expected=", ".join(_GROUPINGS), got=grouping)
    timeout_s = parse_seconds(timeout)
    lake = open_lake(state)
    with values_named(lake, expression):
        (rule_id,) = lake.rules.add(
            [Did.parse(did)],
            expression,
            account=lake.catalogue.account,
            copies=copies,
            lifetime_s=None if lifetime is None else parse_lifetime(lifetime),
            activity=activity,
            grouping=grouping.upper(),
            comment=comment,
            source_replica_expression=source,
            asynchronous=asynchronous,
        )
    _tell(lake, rule_id, timeout_s if wait else None, as_json=as_json)


def _tell(lake: Lake, rule_id: str, timeout_s: float | None, *, as_json: bool) -> None:
    """Print the id of a new rule, or the whole rule as JSON; with ``timeout_s``, wait for its copies meanwhile."""
    if not as_json:
        out.print(rule_id)
    if timeout_s is None:
        rule = lake.rules.get(rule_id)
    else:
        with waiting("waiting for the copies"):
            rule = lake.rules.wait(rule_id, timeout_s=timeout_s, report=_report)
    if as_json:
        emit(as_json_rule(rule))
    elif timeout_s is not None:
        err.print(f"{rule.state} {rule.locks}", style="green")


def _report(rule: Rule) -> None:
    err.print(f"{rule.state}[{rule.locks}]", style="dim")


def show(rule_id: RuleId, state: State = None, *, as_json: Json = False) -> None:
    """Print everything about a rule, as `rucio rule-info` does."""
    rule = open_lake(state).rules.get(rule_id)
    if as_json:
        emit(as_json_rule(rule))
    else:
        out.print(*block(literal(rule)).split("\n"), sep="\n")


_STATES = {
    "OK": "All copies are there.",
    "WAITING_APPROVAL": "It waits for somebody to approve it: boathouse rule list --all, by an administrator.",
    "SUSPENDED": "It is suspended: no copies are made.",
    "INJECT": "The catalogue is working out where the copies are to be.",
}
"""What is to be said of a rule that has no files to tell of."""


def why(rule_id: RuleId, state: State = None, *, as_json: Json = False) -> None:
    """Tell why a rule of yours is not OK: for each file what is awaited, what was tried, what each side answered."""
    rules = open_lake(state).rules
    rule = rules.get(rule_id)
    document = rules.why(rule_id)
    if as_json:
        emit({"rule": as_json_rule(rule), **document})
        return
    out.print(f"{rule.id} {rule.state}[{rule.locks}] {rule.did} at {rule.rse_expression}", style="bold")
    if rule.error:
        out.print(f"error    {rule.error}")
    if not document["files"]:
        out.print(_STATES.get(rule.state, "No file of it waits."))
    for file in document["files"]:
        _tell_waiting(file)
    if document["left_out"]:
        out.print("", f"… and {document['left_out']:,} more files.", sep="\n")


def _tell_waiting(file: dict[str, Any]) -> None:
    out.print("", f"{file['scope']}:{file['name']} at {file['rse']}: {file['lock']}", sep="\n", style="bold")
    request, transfer = file["request"], file["transfer"]
    if request is None:
        out.print("  request  none yet: the catalogue's daemons have not come to it")
        return
    facts = [request["state"], f"from {request['source']}" if request["source"] else "from a source to be chosen"]
    facts += [f"repetition {request['retries']}"] if request["retries"] else []
    facts += ["ended; the catalogue tries again after a while"] if request["over"] else []
    out.print(f"  request  {', '.join(facts)}")
    if request["error"]:
        out.print(f"  error    {request['error']}")
    if transfer is None:
        return
    out.print(f"  job      {request['job']}, of {request['submitted_at']}")
    if transfer["error"]:
        out.print(f"  unknown  {transfer['error']}")
    for each in transfer["files"]:
        tell_file(each)


def list_(
    did: Annotated[str | None, typer.Argument(help="Rules on this DID.", metavar="[DID]")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Rules of this account.")] = None,
    state: State = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Rules of everybody.")] = False,
    as_json: Json = False,
) -> None:
    """List rules: on a DID, of an account, of everybody; by default your own."""
    lake = open_lake(state)
    if did is not None:
        rules = lake.rules.of(Did.parse(did))
    elif every:
        rules = lake.rules.every()
    else:
        rules = lake.rules.of_account(account or lake.catalogue.account)
    if as_json:
        emit([as_json_rule(rule) for rule in rules])
        return
    columns(TABLE_HEAD, map(table_row, rules))


def update(
    rule_id: RuleId,
    lifetime: Annotated[
        str | None, typer.Option("--lifetime", help="From now on, e.g. '30 d'; 'none' for ever.")
    ] = None,
    comment: Annotated[str | None, typer.Option("--comment", help="Another note.")] = None,
    activity: Annotated[str | None, typer.Option("--activity", help="Another activity.")] = None,
    state: State = None,
    *,
    boost: Annotated[bool, typer.Option("--boost", help="Try a stuck rule again now.")] = False,
) -> None:
    """Change a rule."""
    options: dict[str, object] = {}
    if lifetime is not None:
        options["lifetime"] = None if lifetime.lower() == "none" else int(parse_lifetime(lifetime))
    if comment is not None:
        options["comment"] = comment
    if activity is not None:
        options["activity"] = activity
    if boost:
        options["boost_rule"] = True
    if not options:
        raise InputError("nothing to change", expected="--lifetime, --comment, --activity or --boost")
    open_lake(state).rules.update(rule_id, **options)


def move(
    rule_id: RuleId,
    expression: Annotated[str, typer.Argument(help="RSE expression, e.g. 'QOS=SAFE'.", metavar="EXPR")],
    timeout: Annotated[str, typer.Option("--timeout", help="How long --wait waits.")] = "1 h",
    state: State = None,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the new copies are there.")] = False,
    as_json: Json = False,
) -> None:
    """Change where a rule's copies shall be: new copies first, then the old rule ends. Prints the new rule's id."""
    timeout_s = parse_seconds(timeout)
    lake = open_lake(state)
    with values_named(lake, expression):
        new = lake.rules.move(rule_id, expression)
    _tell(lake, new, timeout_s if wait else None, as_json=as_json)


def remove(
    rule_id: RuleId,
    state: State = None,
    *,
    now: Annotated[bool, typer.Option("--now", help="Within a second instead of after an hour.")] = False,
) -> None:
    """Let a rule end. Replicas that no other rule keeps are deleted."""
    open_lake(state).rules.remove(rule_id, now=now)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rule = typer.Typer(no_args_is_help=True, help="Replication rules: where data shall be, and until when.")
    rule.command("add", epilog="Example: boathouse rule add cms:DoubleMu 'QOS=CHEAP-ANALYSIS' --copies 1 --wait")(add)
    rule.command("show", epilog="Example: boathouse rule show f479b8893f4c4701a1e887f23e47f260")(show)
    rule.command("why", epilog="Example: boathouse rule why f479b8893f4c4701a1e887f23e47f260")(why)
    rule.command("list", epilog="Examples: boathouse rule list | boathouse rule list cms:DoubleMu")(list_)
    rule.command("update", epilog="Example: boathouse rule update f479b8893f4c4701a1e887f23e47f260 --lifetime '30 d'")(
        update
    )
    rule.command("move", epilog="Example: boathouse rule move f479b8893f4c4701a1e887f23e47f260 'QOS=SAFE' --wait")(move)
    rule.command("remove", epilog="Example: boathouse rule remove f479b8893f4c4701a1e887f23e47f260 --now")(remove)
    app.add_typer(rule, name="rule")
