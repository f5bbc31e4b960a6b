from __future__ import annotations

import io

import pytest

from boathouse.cli.session import _password, rights
from boathouse.errors import InputError


def test_rights_are_told_by_path() -> None:
    scope = "openid storage.modify:/lake/cms storage.read:/lake/cms wlcg.groups storage.read:/lake/atlas"
    assert rights(scope) == [("/lake/atlas", "read"), ("/lake/cms", "read, modify")]
    assert rights("openid") == []


def test_without_a_terminal_the_password_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(InputError) as caught:
        _password("alice", None)
    assert caught.value.remedy == "boathouse login --user alice --password-file FILE"
