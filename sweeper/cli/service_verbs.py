"""The verbs of the service: serve, and token with its own verbs."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
tokens = typer.Typer(help="Create, list, rotate and revoke access tokens of the service.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(serve)
    app.add_typer(tokens, name="token")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8700,
    workers: Annotated[str, typer.Option(help="auto (the whole cluster), a number, or inline (no Ray).")] = "auto",
    user_limit: Annotated[
        int | None, typer.Option(min=1, help="Most trials one user may run at once; default: no limit.")
    ] = None,
    allow_code: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE", help="admin, or user (admins and users): whose sweeps may hold code of their own."
        ),
    ] = None,
) -> None:
    """Run the service for a team: an HTTP API and a live page, until Ctrl-C."""
    from sweeper.service.processes import serve as run
    from sweeper.settings import Settings

    if code := run(Settings.from_env(), host, port, workers, user_limit, allow_code):
        raise typer.Exit(code)


@tokens.command()
def create(
    user: Annotated[str, typer.Argument(metavar="USER", help="Name of the user. Sweeps belong to users.")],
    role: Annotated[str, typer.Option(help="admin, user or viewer.")] = "user",
    json: Json = False,
) -> None:
    """Create a token and print it. It is shown only once."""
    from sweeper.service.auth import create_token

    _print_new(*create_token(_ledger(), user, role), json)


@tokens.command("list")
def list_(json: Json = False) -> None:
    """List the tokens. The secrets are not stored and cannot be shown."""
    from json import dumps

    from sweeper.cli import render

    rows = [
        {
            "id": token.token,
            "user": token.user,
            "role": token.role,
            "created": _date(token.created_at),
            "revoked": "" if token.revoked_at is None else _date(token.revoked_at),
        }
        for token in _ledger().tokens()
    ]
    if json:
        print(dumps({"tokens": rows}))
    elif rows:
        render.table(rows)
    else:
        print("no tokens yet. Create one with: sweeper token create USER --role admin")


@tokens.command()
def revoke(token: Annotated[str, typer.Argument(metavar="ID", help="The token's id.")], json: Json = False) -> None:
    """Revoke a token for good."""
    from json import dumps

    from sweeper.service.auth import revoke_token

    revoke_token(_ledger(), token)
    print(dumps({"revoked": token}) if json else f"token {token} is revoked")


@tokens.command()
def rotate(token: Annotated[str, typer.Argument(metavar="ID", help="The token's id.")], json: Json = False) -> None:
    """Replace a token: print a new one for the same user, and revoke the old one."""
    from sweeper.service.auth import rotate_token

    _print_new(*rotate_token(_ledger(), token), json)


def _ledger():  # type: ignore[no-untyped-def]
    from sweeper.ledger.opening import open_home_ledger
    from sweeper.settings import Settings

    return open_home_ledger(Settings.from_env())


def _print_new(record, text: str, as_json: bool) -> None:  # type: ignore[no-untyped-def]
    import sys
    from json import dumps

    if as_json:
        print(dumps({"id": record.token, "user": record.user, "role": record.role, "token": text}))
        return
    print(f"token {record.token} for {record.user} ({record.role}); it is not shown again:", file=sys.stderr)
    print(text)


def _date(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
