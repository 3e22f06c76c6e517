"""Which permissions the consent form shows, in which order, and which of them are ticked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.crypto import Keyring
from gateway.model import Client
from gateway.store import Store
from tests.web.rig import Answer, Browser, Plane, authorize_path, row_counts, serving


async def codes(database: str) -> int:
    return (await row_counts(database))["codes"]


async def consent(browser: Browser, client: Client, **changes: str | None) -> Answer:
    page = await browser.get(authorize_path(client, **changes))
    assert page.status == 200, page.text
    return page


def ticked(page: Answer) -> list[str]:
    return [value for name, value in page.form.fields if name == "scope"]


async def test_what_was_refused_comes_back_unticked_and_as_new(signed_in: Browser, public: Client) -> None:
    page = await consent(signed_in, public)
    assert (ticked(page), ">New<" in page.text) == (["notes:read", "notes:write"], False)
    await signed_in.submit(page.form, decision="allow", scope=["notes:write"])
    page = await consent(signed_in, public)
    assert (ticked(page), page.text.count(">New<")) == (["notes:write"], 1)
    page = await consent(signed_in, public, scope="notes:read")
    assert (ticked(page), page.text.count(">New<")) == ([], 1)


async def test_another_resource_is_asked_for_from_the_beginning(
    plane: Plane, signed_in: Browser, public: Client
) -> None:
    page = await consent(signed_in, public)
    await signed_in.submit(page.form, decision="allow", scope=["notes:write"])
    page = await consent(signed_in, public, resource=f"{plane.url}/api/notes")
    assert (ticked(page), ">New<" in page.text) == (["notes:read", "notes:write"], False)


MANY = {f"{group}:{verb}": f"{verb} {group}" for group in ("zoo", "notes") for verb in "dcba"} | {"alone": "be alone"}


@pytest.fixture
async def many(store: Store, keyring: Keyring, tmp_path: Path) -> AsyncIterator[tuple[Browser, Client]]:
    """A browser with ada signed in, and a client that asks for nine scopes."""
    async with serving(store, keyring, tmp_path, scopes=MANY, routes=[]) as plane:
        await plane.user()
        client, _ = await plane.client(scopes=frozenset(MANY), confidential=False)
        browser = Browser(plane.url)
        await browser.sign_in()
        yield browser, client
        await browser.close()


async def test_permissions_stand_in_the_order_of_the_configuration(many: tuple[Browser, Client]) -> None:
    browser, client = many
    assert ticked(await consent(browser, client, scope=None)) == list(MANY)
    assert ticked(await consent(browser, client, scope="notes:a zoo:a zoo:b")) == ["zoo:b", "zoo:a", "notes:a"]


async def test_more_than_seven_come_in_groups(many: tuple[Browser, Client]) -> None:
    browser, client = many
    page = await consent(browser, client, scope=None)
    assert page.text.count("<details") == 3
    assert [value for name, value in page.form.buttons if name == "select"] == [
        "all", "none", "all:zoo", "none:zoo", "all:notes", "none:notes", "all:other", "none:other",
    ]  # fmt: skip
    assert page.text.index("Ada Lovelace") < page.text.index(">app.example<") < page.text.index("d zoo")
    page = await consent(browser, client, scope=" ".join(list(MANY)[:7]))
    assert "<details" not in page.text


@pytest.mark.parametrize(
    ("select", "had", "has"),
    [
        ("none", list(MANY), []),
        ("all", [], list(MANY)),
        ("all:zoo", ["alone"], ["zoo:d", "zoo:c", "zoo:b", "zoo:a", "alone"]),
        ("none:notes", ["notes:a", "notes:b", "zoo:a"], ["zoo:a"]),
        ("all:other", ["zoo:a"], ["zoo:a", "alone"]),
    ],
)
async def test_a_button_ticks_and_decides_nothing(
    many: tuple[Browser, Client], database: str, select: str, had: list[str], has: list[str]
) -> None:
    browser, client = many
    page = await consent(browser, client, scope=None)
    page = await browser.submit(page.form, select=select, scope=had)
    assert (page.status, ticked(page), await codes(database)) == (200, has, 0)
    answer = await browser.submit(page.form, decision="allow", scope=["alone"])
    assert "code" in answer.members


@pytest.mark.parametrize("select", ["", "some", "all:", "all:nothing", "some:zoo", "ALL"])
async def test_a_button_that_was_not_shown_is_refused(many: tuple[Browser, Client], select: str) -> None:
    browser, client = many
    page = await consent(browser, client, scope=None)
    answer = await browser.submit(page.form, select=select)
    assert answer.status == (403 if select != "all:" else 200)


async def test_a_button_and_a_decision_at_once_are_refused(many: tuple[Browser, Client], database: str) -> None:
    browser, client = many
    page = await consent(browser, client, scope=None)
    assert (await browser.submit(page.form, select="all", decision="allow")).status == 403
    assert await codes(database) == 0
