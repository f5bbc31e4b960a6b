from __future__ import annotations

from boathouse.lake.approve import forms

PAGE = """
<form action="/search"><input name="q"></form>
<form method="post" action="/device">
<input type="hidden" name="csrf" value="x&amp;y"><input id="c" name="user_code" required>
<input type="checkbox" name="remember" value="1"><input type="checkbox" name="agree" value="yes" checked>
<button name="decision" value="deny">Refuse</button><button name="decision" value="allow">Allow</button>
</form>
<form method="POST"><input name="username"><input type="password" name="password"><button>Sign in</button></form>
"""


def test_forms_are_read_as_a_browser_would() -> None:
    search, device, login = forms(PAGE)
    assert (search.method, search.action) == ("GET", "/search")
    assert device.fields == {"csrf": "x&y", "user_code": "", "agree": "yes"}
    assert device.text == ["user_code"]
    assert device.agreement == ("decision", "allow")
    assert (login.password, login.text, login.agreement) == ("password", ["username"], None)


def test_broken_pages_hold_no_forms() -> None:
    for page in ("", "<form", "<input name=x>", "</form>", "<p>hello"):
        assert forms(page) == []
