"""The ``dnagrinder`` command: its commands, and how errors reach the user.

Exit codes: 0 done; 1 other error of the family; 2 wrong usage; 3 input file; 4 genome build mismatch; 5 settings;
6 checkpoint; 7 score store; 8 broken invariant (a defect of ours); 9 memory; 130 interrupted;
141 nobody reads our standard output any more.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from dnagrinder import __version__
from dnagrinder.commands import calibration, evaluation, explain, reports, scoring, store, training, variants
from dnagrinder.errors import DnaGrinderError, InputError

app = typer.Typer(
    name="dnagrinder",
    help="Score DNA variants and regions with the dnaGrinder genomic language model.",
    epilog="Exit codes: 0 done, 2 usage, 3 input, 4 genome build, 5 settings, 6 checkpoint, 7 store, 8 internal, 9 memory.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"dnagrinder {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Score DNA variants and regions with the dnaGrinder genomic language model."""


for _room in (variants, scoring, store, reports, explain, training, evaluation, calibration):
    _room.register(app)


def main() -> None:
    """Run a command; an error of our family, or of the file system, ends as one line on stderr and its exit code."""
    try:
        app()
    except DnaGrinderError as error:
        print("dnagrinder: error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our standard output has had enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        print(f"dnagrinder: error: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
        sys.exit(InputError.exit_code)
    except KeyboardInterrupt:
        print("dnagrinder: interrupted", file=sys.stderr)
        sys.exit(130)
