"""`gateway user`: create and manage the people who sign in."""

import secrets
import string
from collections.abc import Callable
from pathlib import Path

import click

from gateway.cli.session import done, in_store, note, show, show_all, standard_input, value, with_config, with_json
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.config.values import Name
from gateway.crypto import hash_password
from gateway.errors import OperatorError
from gateway.model import User
from gateway.store import Conflict, Store

_COLUMNS = ("username", "email", "name", "subject", "disabled_at")
_LONGEST_PASSWORD = 1024
_GENERATED = 20  # characters of 62: 119 bits


@click.group(cls=Noun, epilog="Example: gateway user list")
def command() -> None:
    """Create and manage the people who sign in."""


def _password_options(function: Callable[..., None]) -> Callable[..., None]:
    generate = click.option("--generate-password", is_flag=True, help="Invent a password and print it, this once.")
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
    password = standard_input("password") if password_stdin else generated_password()
    if not 0 < len(password) <= _LONGEST_PASSWORD or "\0" in password:
        raise OperatorError(f"--password-stdin: a password of 1 to {_LONGEST_PASSWORD} characters is wanted there")
    return password


@command.command(epilog="Example: gateway user create --username ada --email ada@example.com --generate-password")
@click.option("--username", required=True, metavar="U", help="What the person signs in with.")
@click.option("--email", help="Signs the person in as well.")
@click.option("--name", help="The person's name, for pages.")
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
) -> None:
    """Create a person's account."""
    password = _chosen_password(password_stdin=password_stdin, generate_password=generate_password)
    if name is not None:
        value("--name", name, Name)

    async def act(store: Store, _: Settings) -> User:
        try:
            return await store.create_user(username, email, name, hash_password(password))
        except Conflict as exc:
            taken = {"username": username, "email": email}.get(exc.field)
            raise OperatorError(f"--{exc.field} {taken!r}: another user has it; choose another") from exc
        except OperatorError as exc:
            raise OperatorError(f"--{exc}, not {email if str(exc).startswith('email') else username!r}") from exc

    shown = record(in_store(path, act))
    show(shown | {"password": password} if generate_password else shown, as_json=as_json)


@command.command("list", epilog="Example: gateway user list")
@with_config
@with_json
def list_(path: Path, as_json: bool) -> None:
    """List everybody."""
    show_all([record(one) for one in in_store(path, lambda store, _: store.users())], _COLUMNS, as_json=as_json)


@command.command("show", epilog="Example: gateway user show ada")
@click.argument("username")
@with_config
@with_json
def show_(username: str, path: Path, as_json: bool) -> None:
    """Show all that is known about a person."""
    found = in_store(path, lambda store, _: store.user(username))
    if found is None:
        raise _unknown(username)
    show(record(found), as_json=as_json)


@command.command("set-password", epilog="Example: gateway user set-password ada --generate-password")
@click.argument("username")
@_password_options
@with_config
@with_json
def set_password(username: str, password_stdin: bool, generate_password: bool, path: Path, as_json: bool) -> None:
    """Give a person a new password; every browser that is signed in has to sign in again."""
    password = _chosen_password(password_stdin=password_stdin, generate_password=generate_password)
    if not in_store(path, lambda store, _: store.set_password(username, hash_password(password))):
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
    """Refuse a person from now on; sessions and tokens end for good."""
    _switch(username, path, as_json=as_json, disabled=True)


@command.command(epilog="Example: gateway user enable ada")
@click.argument("username")
@with_config
@with_json
def enable(username: str, path: Path, as_json: bool) -> None:
    """Let a disabled person sign in again."""
    _switch(username, path, as_json=as_json, disabled=False)


@command.command(epilog="Example: gateway user delete ada")
@click.argument("username")
@with_config
@with_json
def delete(username: str, path: Path, as_json: bool) -> None:
    """Remove a person with all that was issued for them; the subject is never given to anybody else."""

    async def act(store: Store, _: Settings) -> tuple[bool, list[str]]:
        user = await store.user(username)
        owned = [] if user is None else await store.clients_of_owner(user.subject)
        return await store.delete_user(username), owned

    deleted, owned = in_store(path, act)
    if not deleted:
        raise _unknown(username)
    for client_id in owned:
        note(f"client {client_id} has no owner now; `gateway client update {client_id} --owner USER` names one")
    done({"username": username, "deleted": True}, f"user {username} deleted", as_json=as_json)


def _switch(username: str, path: Path, *, as_json: bool, disabled: bool) -> None:
    if not in_store(path, lambda store, _: store.disable_user(username, disabled)):
        raise _unknown(username)
    state = "disabled" if disabled else "enabled"
    done({"username": username, "disabled": disabled}, f"user {username} {state}", as_json=as_json)


def record(user: User) -> dict[str, object]:
    """A person as the commands print them."""
    return {
        "username": user.username,
        "subject": user.subject,
        "email": user.email,
        "name": user.name,
        "created_at": user.created_at,
        "disabled_at": user.disabled_at,
    }


def _unknown(username: str) -> OperatorError:
    return OperatorError(f"user {username!r}: there is none; `gateway user list` shows all")
