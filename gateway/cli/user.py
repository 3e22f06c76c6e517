"""`gateway user`: create and manage the people who sign in."""

import secrets
import string
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gateway import password_rules
from gateway.cli import profile_options
from gateway.cli.common import done, in_store, note, show, show_all, standard_input, value, with_config, with_json
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.config.values import Name
from gateway.crypto import hash_password
from gateway.faults import OperatorError
from gateway.model import Profile, User
from gateway.password_rules import Weakness
from gateway.store import Conflict, Store

_COLUMNS = ("username", "email", "name", "subject", "disabled_at")
_GENERATED = 20  # characters of 62: 119 bits


@click.group(cls=Noun, epilog="Example: gateway user list")
def command() -> None:
    """Create and manage the people who sign in."""


def _password_options(function: Callable[..., None]) -> Callable[..., None]:
    generate = click.option("--generate-password", is_flag=True, help="Make up a password and print it once.")
    stdin = click.option(
        "--password-stdin", is_flag=True, help="Read it from standard input; one trailing line end is dropped."
    )
    return stdin(generate(function))


def generated_password() -> str:
    """A password that nobody has to type often: letters and digits only, so that it survives any shell."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_GENERATED))


def _chosen_password(*, password_stdin: bool, generate_password: bool) -> str:
    if password_stdin == generate_password:
        mend = "give one of them, not both" if password_stdin else "one of them must be given"
        raise click.UsageError(f"--password-stdin, --generate-password: {mend}")
    return standard_input("password") if password_stdin else generated_password()


def _require_good(password: str, settings: Settings, *names: str | None) -> None:
    least = settings.config.passwords.min_length
    weakness = password_rules.weakness_of(password, least, filter(None, names))
    if weakness is not None:
        raise OperatorError(f"--password-stdin: {_fault(weakness, least)}")


def _fault(weakness: Weakness, least: int) -> str:
    match weakness:
        case Weakness.LENGTH:
            return f"a password must be {least} to {password_rules.LONGEST} characters long (passwords.min_length)"
        case Weakness.NAME:
            return "it is the person's own name or email address, which is guessed first; choose another"
        case Weakness.MOST_USED:
            from gateway.most_used_passwords import PASSWORDS  # which was loaded to find this

            return f"it is among the {len(PASSWORDS):,} most used passwords, which are guessed first; choose another"


@command.command(epilog="Example: gateway user create --username ada --email ada@example.com --generate-password")
@click.option("--username", required=True, metavar="U", help="The username to sign in with.")
@click.option("--email", help="An email address, which signs the person in as well.")
@click.option("--name", help="The person's name, as pages show it.")
@profile_options.options
@_password_options
@with_config
@with_json
def create(
    *,
    username: str,
    email: str | None,
    name: str | None,
    password_stdin: bool,
    generate_password: bool,
    path: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Create a person's account."""
    about = profile_options.known(given)
    password = _chosen_password(password_stdin=password_stdin, generate_password=generate_password)
    if name is not None:
        value("--name", name, Name)

    async def act(store: Store, settings: Settings) -> Profile:
        _require_good(password, settings, username, email)
        with _naming_option(username, email):
            await store.users.create(username, email, name, hash_password(password), about)
        return await _profile(store, username)

    shown = record(in_store(path, act))
    show(shown | {"password": password} if generate_password else shown, as_json=as_json)


@command.command("list", epilog="Example: gateway user list")
@with_config
@with_json
def list_(path: Path, as_json: bool) -> None:
    """List all accounts."""
    everybody = in_store(path, lambda store, _: store.users.all())
    show_all([_names(one) for one in everybody], _COLUMNS, as_json=as_json)


@command.command("show", epilog="Example: gateway user show ada")
@click.argument("username")
@with_config
@with_json
def show_(username: str, path: Path, as_json: bool) -> None:
    """Show everything about an account."""
    found = in_store(path, lambda store, _: store.users.profile(username))
    if found is None:
        raise _unknown(username)
    show(record(found), as_json=as_json)


@command.command(epilog="Example: gateway user update ada --email ada@example.org")
@click.argument("username")
@click.option("--username", "new_username", metavar="U", help="What the person signs in with from now on.")
@click.option("--email", help="Signs the person in as well; empty for none.")
@click.option("--name", help="The person's name, for pages; empty for none.")
@profile_options.options
@with_config
@with_json
def update(
    *,
    username: str,
    new_username: str | None,
    email: str | None,
    name: str | None,
    path: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Change what is known of a person; what no option mentions stays, and an empty value removes it.

    The subject stays the same, and so do password, sessions and tokens. Upstreams get the new username and email
    address with the next call after a second at most. --group names all the groups that the person is in from now on.
    """
    about = profile_options.known(given)
    if new_username is None and email is None and name is None and not profile_options.any_given(given):
        raise click.UsageError("nothing to change: give an option, such as --email ada@example.org")
    if name:
        value("--name", name, Name)

    async def act(store: Store, _: Settings) -> Profile | None:
        with _naming_option(new_username, email):
            changed = await store.users.update(username, new_username, email, name, about)
        return None if changed is None else await _profile(store, changed.username)

    changed = in_store(path, act)
    if changed is None:
        raise _unknown(username)
    show(record(changed), as_json=as_json)


@command.command(epilog="Example: gateway user unlock ada")
@click.argument("username")
@with_config
@with_json
def unlock(username: str, path: Path, as_json: bool) -> None:
    """Let a person try again at once who, or whose name, had too many wrong passwords."""
    if not in_store(path, lambda store, _: store.users.unlock(username)):
        raise _unknown(username)
    done({"username": username, "unlocked": True}, f"user {username} may try again", as_json=as_json)


@command.command("set-password", epilog="Example: gateway user set-password ada --generate-password")
@click.argument("username")
@_password_options
@with_config
@with_json
def set_password(username: str, password_stdin: bool, generate_password: bool, path: Path, as_json: bool) -> None:
    """Give a person a new password, with which they may sign in at once, however many wrong ones there were before.

    Every browser that is signed in has to sign in again.
    """
    password = _chosen_password(password_stdin=password_stdin, generate_password=generate_password)

    async def act(store: Store, settings: Settings) -> bool:
        if (found := await store.users.find(username)) is None:
            return False
        _require_good(password, settings, found.username, found.email)
        return await store.users.set_password(username, hash_password(password))

    if not in_store(path, act):
        raise _unknown(username)
    if generate_password:
        show({"username": username, "password": password}, as_json=as_json)
    else:
        done({"username": username}, f"user {username} has a new password", as_json=as_json)


@command.command(epilog="Example: gateway user disable ada")
@click.argument("username")
@with_config
@with_json
def disable(username: str, path: Path, as_json: bool) -> None:
    """Disable an account; its sessions and tokens end for good."""
    _switch(username, path, as_json=as_json, disabled=True)


@command.command(epilog="Example: gateway user enable ada")
@click.argument("username")
@with_config
@with_json
def enable(username: str, path: Path, as_json: bool) -> None:
    """Enable a disabled account again."""
    _switch(username, path, as_json=as_json, disabled=False)


@command.command(epilog="Example: gateway user delete ada")
@click.argument("username")
@with_config
@with_json
def delete(username: str, path: Path, as_json: bool) -> None:
    """Delete an account and everything that was issued for it; the subject is never given to anybody else."""

    async def act(store: Store, _: Settings) -> tuple[bool, list[str]]:
        user = await store.users.find(username)
        owned = [] if user is None else await store.clients.owned_by(user.subject)
        return await store.users.delete(username), owned

    deleted, owned = in_store(path, act)
    if not deleted:
        raise _unknown(username)
    for client_id in owned:
        note(f"client {client_id} has no owner now; `gateway client update {client_id} --owner USER` names one")
    done({"username": username, "deleted": True}, f"user {username} deleted", as_json=as_json)


def _switch(username: str, path: Path, *, as_json: bool, disabled: bool) -> None:
    def switch(store: Store, _: Settings) -> Awaitable[bool]:
        return store.users.disable(username) if disabled else store.users.enable(username)

    if not in_store(path, switch):
        raise _unknown(username)
    state = "disabled" if disabled else "enabled"
    done({"username": username, "disabled": disabled}, f"user {username} {state}", as_json=as_json)


async def _profile(store: Store, username: str) -> Profile:
    """What is known of a person who was there a moment ago."""
    found = await store.users.profile(username)
    if found is None:
        raise _unknown(username)
    return found


def record(profile: Profile) -> dict[str, object]:
    """A person as the commands print them, with all that is known; what is not known of their claims is left out."""
    return {
        **_names(profile.user),
        "email_verified": profile.email_verified,
        "groups": list(profile.groups),
        **profile.claims,
        "updated_at": profile.updated_at,
    }


def _names(user: User) -> dict[str, object]:
    return {
        "username": user.username,
        "subject": user.subject,
        "email": user.email,
        "name": user.name,
        "created_at": user.created_at,
        "disabled_at": user.disabled_at,
    }


@contextmanager
def _naming_option(username: str | None, email: str | None) -> Iterator[None]:
    """Raise what the database refused with the name of the option that gave the value."""
    given = {"username": username, "email": email}
    try:
        yield
    except Conflict as exc:
        raise OperatorError(f"--{exc.field} {given[exc.field]!r}: another user has it; choose another") from exc
    except OperatorError as exc:
        option = str(exc).partition(":")[0]
        raise OperatorError(f"--{exc}, not {given[option]!r}" if option in given else f"--{exc}") from exc


def _unknown(username: str) -> OperatorError:
    return OperatorError(f"no user {username!r}; `gateway user list` shows all")
