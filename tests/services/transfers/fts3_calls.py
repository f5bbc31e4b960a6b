"""Calls of the ``fts3`` client library, run by the interpreter that has it: ``[name, *arguments]`` in, answer out.

Every call of its ``easy`` interface is here, with names of its own in what it gives back.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from fts3.rest.client import Delegator, Inquirer, Submitter  # type: ignore[import-not-found]
from fts3.rest.client import easy as fts3
from fts3.rest.client.exceptions import FTS3ClientException  # type: ignore[import-not-found]


def submit(context: Any, transfers: list[dict[str, Any]], parameters: dict[str, Any]) -> Any:
    """A job of transfers with one source, or with a second one (its own ``add_alternative_source`` does not work)."""
    made = []
    for each in transfers:
        other = each.pop("other", None)
        transfer = fts3.new_transfer(**each)
        if other is not None:
            transfer["sources"].append(other[0])
            transfer["source_tokens"].append(other[1])
        made.append(transfer)
    return fts3.submit(context, fts3.new_job(made, **parameters))


def submit_with_the_class(context: Any, transfers: list[dict[str, Any]], parameters: dict[str, Any]) -> Any:
    """The same with the class underneath."""
    return Submitter(context).submit(transfers=[fts3.new_transfer(**each) for each in transfers], params=parameters)


def endpoint(context: Any) -> Any:
    """What the client learns of the service first."""
    return context.get_endpoint_info()


def inquire(context: Any, job_ids: list[str]) -> Any:
    """Several jobs with their files, as the class asks."""
    return Inquirer(context).get_jobs_statuses(job_ids, list_files=True)


def delegation(context: Any) -> Any:
    """What is delegated."""
    return Delegator(context).get_info()


CALLS = {
    "submit": submit,
    "submit_with_the_class": submit_with_the_class,
    "endpoint": endpoint,
    "inquire": inquire,
    "delegation": delegation,
    "ask": lambda context, path: context.get(path),
    "delegate_with_the_class": lambda context: Delegator(context).delegate(),
    "submit_deletion": lambda context, urls: fts3.submit(context, fts3.new_delete_job(urls)),
    "submit_staging": lambda context, urls: fts3.submit(
        context, fts3.new_staging_job(urls, bring_online=60, copy_pin_lifetime=60)
    ),
    **{
        name: getattr(fts3, name)
        for name in (
            "delegate",
            "whoami",
            "cancel",
            "cancel_all",
            "list_jobs",
            "get_job_status",
            "get_jobs_statuses",
            "ban_se",
            "unban_se",
            "ban_dn",
            "unban_dn",
        )
    },
}


def main() -> None:
    """Read ``{url, token, calls}``, print the answer of each call or its exception."""
    asked = json.load(sys.stdin)
    context = fts3.Context(asked["url"], fts_access_token=asked["token"], capath=asked["ca"])
    answers = []
    for name, arguments, options in asked["calls"]:
        try:
            answers.append({"answer": CALLS[name](context, *arguments, **options)})
        except FTS3ClientException as error:
            answers.append({"error": type(error).__name__, "words": str(error)})
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
