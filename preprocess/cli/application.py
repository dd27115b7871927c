"""The application that the verbs belong to, and what it says of commands that are typed wrongly."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
import typer.core

from preprocess.cli.reporting import OK, print_json

# In the order of the work, as the help lists them; the modules of the verbs are imported in another one.
_ORDER = ("plan", "convert", "status", "inspect", "validate", "repair", "prove", "show", "pack", "generate")
_JSON = "preprocess.cli.json"
# Of Click, or of typer's own copy of it: that depends on typer's version.
_ClickException: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class _Verbs(typer.core.TyperGroup):
    """The verbs; what is typed wrongly is told to machines, too, if they asked for JSON."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  Click passes it
        """Return the verbs in the order of the work."""
        return sorted(self.commands, key=_ORDER.index)

    def make_context(self, info_name: str | None, args: list[str], *others: Any, **extra: Any) -> Any:
        """Read what stands before the verb."""
        as_json = _asks_for_json(args)
        with _misuse_printed(as_json=as_json):
            context = super().make_context(info_name, args, *others, **extra)
        context.meta[_JSON] = as_json
        return context

    def invoke(self, ctx: Any) -> Any:
        """Read what stands behind the verb, and run it."""
        with _misuse_printed(as_json=ctx.meta[_JSON]):
            return super().invoke(ctx)


app = typer.Typer(
    name="ups-preprocess",
    help="Convert data sets of PDE solutions to stores of sparse queries; inspect, check and prove them.",
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"ups-preprocess {importlib.metadata.version('ups-data')}")
        raise typer.Exit(OK)
    return wanted


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that belong to no verb."""


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Tell whether `--json` is among the options: nothing can be parsed where something is typed wrongly."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


@contextmanager
def _misuse_printed(*, as_json: bool) -> Iterator[None]:
    """Print an error of Click's as JSON; it goes on to where it is told to people."""
    try:
        yield
    except _ClickException as error:
        if as_json:
            print_json({"ok": False, "error": {"type": "UsageError", "message": error.format_message()}})
        raise
