"""The pages of the Authlib servers."""

from typing import Final

LOGIN: Final = (
    '<form method="post"><input name="username"><input type="password" name="password"><button>Sign in</button></form>'
)
CONSENT: Final = """<h1>{{ client }} wants access</h1><form method="post">
<input type="hidden" name="csrf_token" value="{{ csrf }}"><p>{{ scope }}</p>
<button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button></form>"""
