"""The table of replacements: true of the installed Rucio, and loud about any other."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
import rucio.version
from boathouse_rucio_site import patches, tokens, transfertool
from boathouse_rucio_site.errors import WrongRucioError
from rucio.daemons.reaper import reaper
from rucio.transfertool import fts3


def test_the_table_was_checked_and_applied():
    patches.apply()
    for patch in patches.PATCHES:
        module, _, name = patch.replacement.partition(":")
        ours = getattr(importlib.import_module(f"boathouse_rucio_site.{module}"), name)
        assert patches._resolve(patch.target) is ours, patch.target


def test_every_entry_says_why():
    assert all(patch.why for patch in patches.PATCHES)


def test_modules_that_imported_a_name_have_the_replacement():
    assert reaper.request_token is tokens.request_token
    assert fts3.request_token is tokens.request_token
    assert fts3.determine_audience_for_rse is transfertool.audience_for_rse


def test_another_version_of_rucio_is_refused(monkeypatch):
    monkeypatch.setattr(rucio.version, "version_string", lambda: "42.0.0")
    with pytest.raises(WrongRucioError, match=r"Rucio 42\.0\.0 is installed.*install rucio==41\.5\.1"):
        patches.check()


def test_a_changed_signature_is_refused_and_shown():
    entry = dataclasses.replace(patches.USES[0], signature="(something, else)")
    with pytest.raises(WrongRucioError, match=r"submitter:_fetch_requests: expected \(something, else\), found \("):
        patches.check([entry])


def test_a_function_that_is_gone_is_refused():
    gone = patches.Use("rucio.core.oidc:no_such_function", "()")
    absent = patches.Use("rucio.core.no_such_module:f", "()")
    with pytest.raises(WrongRucioError) as caught:
        patches.check([gone, absent])
    assert "no_such_function" in str(caught.value)
    assert "no_such_module" in str(caught.value)


def test_descriptions_do_not_depend_on_annotations():
    def function(a: int, *, b: str = "x", c=print, **rest: object) -> None: ...

    assert patches.describe(function).startswith("(a, *, b='x', c=")
    assert patches.describe(3) == "int"
