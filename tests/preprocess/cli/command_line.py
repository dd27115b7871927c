"""The command line in this process, and what its answers must be: for people, for machines, status 0, 1, 2 and 130."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer.testing

import ups_data
from preprocess.cli import app
from ups_data.errors import StoreNotFoundError


def run(*arguments: object) -> typer.testing.Result:
    """Return what a command says and its status; it must not end by an error of Python's."""
    result = typer.testing.CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def parsed(result: typer.testing.Result) -> dict[str, Any]:
    """Return the one JSON object that must be all of standard output."""
    content = json.loads(result.stdout)
    assert isinstance(content, dict), content
    return content


def told(result: typer.testing.Result, status: int) -> str:
    """Return the message of a command that must fail with a status and without a traceback."""
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output, result.output
    assert result.stdout == "", result.stdout
    return " ".join(result.stderr.replace("│", " ").split())


def refused(result: typer.testing.Result, status: int, dest: Path) -> str:
    """Return the message of a conversion that must leave nothing at its destination, nor beside it."""
    message = told(result, status)
    left = {name for name in names_in(dest.parent) if name == dest.name or name.startswith(".")}
    assert not left, left
    with pytest.raises(StoreNotFoundError):
        ups_data.open_store(dest)
    return message


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
