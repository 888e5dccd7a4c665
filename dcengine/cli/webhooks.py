"""``dcengine webhooks``: who is told over HTTP what becomes of a project."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from ..errors import InvalidOption
from ..verbs import Delivery, NewWebhook, WebhookEvent, WebhookSpec, WebhookStatus
from ..verbs.webhooks import USUAL
from .choosing import Json, Link, with_engine
from .showing import ago, show_error, show_json, show_line, show_note, show_table

webhooks = typer.Typer(
    help="Tell URLs what becomes of a project: signed, and tried three times.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)

EVENTS: tuple[str, ...] = get_args(WebhookEvent)

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="The name of the project.")]
Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="Of the webhook, as `dcengine webhooks list` shows it.")]


@webhooks.command("add")
@with_engine
def add(
    engine: Link,
    project: Project,
    target: Annotated[str, typer.Argument(metavar="URL", help="Where it is told, by POST: https://...")],
    event: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What it is told of: {', '.join(EVENTS)}; may be repeated. If not said: {', '.join(USUAL)}.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a webhook and print the secret that signs its messages, this once."""
    events = event or list(USUAL)
    for each in events:
        if each not in EVENTS:
            raise InvalidOption("--event", repr(each), f"one of {', '.join(EVENTS)}")
    spec = WebhookSpec(url=target, events=cast("list[WebhookEvent]", events))
    made: NewWebhook = engine.call("add_webhook", project, spec)
    if as_json:
        show_json(made)
        return
    status = made.status
    show_note(f"webhook {status.id} of project {project} is told of {', '.join(status.events)}.")
    show_note("Its messages are signed with this secret, which is shown this once:")
    show_line(made.secret)


@webhooks.command("list")
@with_engine
def list_webhooks(engine: Link, project: Project, as_json: Json = False) -> None:
    """List the webhooks of a project, each with what it was told last."""
    found: list[WebhookStatus] = engine.call("webhooks", project)
    if as_json:
        show_json(found)
    elif found:
        show_table("Webhooks", ["id", "url", "events", "state", "to be told", "last"], map(_row, found))
    else:
        show_line(f"project {project} has no webhooks yet; `dcengine webhooks add {project} URL` adds one")


def _row(status: WebhookStatus) -> list[object]:
    state = "active" if status.active else f"off: {status.reason}"
    last = "" if status.last is None else f"{_said(status.last)}, {ago(status.last.finished or status.last.created)}"
    return [status.id, status.url, ", ".join(status.events), state, status.pending, last]


@webhooks.command("deliveries")
@with_engine
def deliveries(engine: Link, project: Project, id: Id, as_json: Json = False) -> None:
    """List what a webhook was told, or is to be told, the newest first."""
    found: list[Delivery] = engine.call("deliveries", project, id)
    if as_json:
        show_json(found)
    elif found:
        rows = ([each.id, ago(each.created), each.tries, _said(each)] for each in found)
        show_table("Deliveries", ["id", "created", "tries", "what became of it"], rows)
    else:
        show_line(f"webhook {id} was told nothing yet; `dcengine webhooks test {project} {id}` tells it something")


@webhooks.command("remove")
@with_engine
def remove(engine: Link, project: Project, id: Id, as_json: Json = False) -> None:
    """Tell a webhook nothing any more."""
    status: WebhookStatus = engine.call("remove_webhook", project, id)
    if as_json:
        show_json(status)
    else:
        show_line(f"webhook {status.id} of project {project} is removed")


@webhooks.command("test")
@with_engine
def send_test(engine: Link, project: Project, id: Id, as_json: Json = False) -> None:
    """Send a webhook a test message, once; one that was switched off is told again once it has taken that."""
    delivery: Delivery = engine.call("test_webhook", project, id)
    if as_json:
        show_json(delivery)
    elif delivery.state == "failed":
        show_error(f"webhook {id} has not taken the test: {delivery.reason}")
        raise typer.Exit(1)
    else:
        show_line(f"webhook {id} has taken the test: it answered {delivery.status}")


def _said(delivery: Delivery) -> str:
    reason = f": {delivery.reason}" if delivery.reason else ""
    return f"{delivery.event} {delivery.state}{reason}"
