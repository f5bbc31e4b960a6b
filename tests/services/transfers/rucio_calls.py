"""Rucio's stock FTS3 transfer tool, run by Rucio's interpreter.

``{url, oidc, tokens, calls}`` in, the answers out.

What stands for Rucio's database and its issuer is given: the request, the two RSEs, their audiences and tokens. The
tool itself is unmodified.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SETTINGS = """\
[common]
logdir = {directory}
[database]
default = postgresql+psycopg://nobody@/nothing?host={directory}
[policy]
permission = generic
schema = generic
[cache]
url = 127.0.0.1:9
"""


def configured(directory: Path) -> Any:
    """The module of the tool; Rucio reads its configuration while it is imported."""
    (directory / "etc").mkdir()
    (directory / "etc" / "rucio.cfg").write_text(SETTINGS.format(directory=directory), encoding="utf-8")
    os.environ["RUCIO_HOME"] = str(directory)
    from rucio.transfertool import fts3  # type: ignore[import-not-found]  # noqa: PLC0415

    return fts3


def rse(name: str) -> Any:
    """An RSE as far as the tool looks at it."""
    return SimpleNamespace(
        rse=SimpleNamespace(
            id=name, name=name, attributes={}, is_tape=lambda: False, is_tape_or_staging_required=lambda: False
        )
    )


def transfer(file: dict[str, Any]) -> Any:
    """A transfer as far as the tool looks at it."""
    source = rse("source")
    request = {
        "scope": "testing",
        "name": "f",
        "activity": "User Subscriptions",
        "request_type": "TRANSFER",
        "md5": None,
    }
    return SimpleNamespace(
        rws=SimpleNamespace(**request, request_id=file["request_id"], byte_count=file["size"], adler32=file["adler32"]),
        sources=[source],
        src=source,
        dst=rse("destination"),
        source_url=lambda _: file["source"],
        dest_url=file["destination"],
    )


def main() -> None:
    """Make the calls that are asked for."""
    asked = json.load(sys.stdin)
    with tempfile.TemporaryDirectory(prefix="bh-rucio-") as directory:
        fts3 = configured(Path(directory))
        tokens = asked["tokens"]
        fts3.determine_audience_for_rse = lambda rse_id: rse_id
        fts3.determine_scope_for_rse = lambda rse_id, **_: rse_id
        fts3.request_token = lambda audience, scope: tokens.get(audience, tokens["fts"])
        tool = fts3.FTS3Transfertool(asked["url"], oidc_support=asked["oidc"])
        answers = []
        for name, argument in asked["calls"]:
            try:
                answers.append({"answer": call(tool, name, argument)})
            # Whatever the tool raises is its answer.
            except Exception as error:  # noqa: BLE001
                answers.append({"error": f"{type(error).__name__}: {error}"})
    sys.stdout.write(json.dumps(answers))


def call(tool: Any, name: str, argument: Any) -> Any:
    """One call of the tool."""
    match name:
        case "submit":
            parameters = {
                "verify_checksum": "both",
                "overwrite": False,
                "priority": 3,
                "job_metadata": {"issuer": "rucio"},
            }
            return tool.submit([transfer(file) for file in argument], parameters)
        case "bulk_query":
            reports = tool.bulk_query({job_id: {each: {} for each in ids} for job_id, ids in argument.items()})
            return {
                job_id: {
                    request_id: [report.file_response["file_state"], report.job_response["job_state"]]
                    for request_id, report in found.items()
                }
                for job_id, found in reports.items()
            }
        case "query":
            return tool.query([argument], details=True)
        case "cancel":
            return tool.cancel([argument])
        case "update_priority":
            return tool.update_priority(argument, 5)
        case _:
            return getattr(tool, name)()


if __name__ == "__main__":
    main()
