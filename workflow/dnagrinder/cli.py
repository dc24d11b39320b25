"""The ``dnagrinder`` command: its commands, and how errors reach the user.

Exit codes: 0 done; 1 other error of the family; 2 wrong usage; 3 input file; 4 genome build mismatch; 5 settings;
6 checkpoint; 7 score store; 8 broken invariant (a defect of ours); 9 memory; 10 output cannot be written; 130 interrupted
(SIGINT); 141 nobody reads our standard output any more; 143 terminated (SIGTERM). Whatever the end, unfinished files are
removed and finished parts are kept.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Annotated, NoReturn

import typer

from dnagrinder import __version__
from dnagrinder.commands import calibration, evaluation, explain, regions, reports, scoring, store, training, variants
from dnagrinder.errors import DnaGrinderError, InputError, OutputError
from dnagrinder.genome.files import UNWRITABLE

app = typer.Typer(
    name="dnagrinder",
    help="Score DNA variants and regions with the dnaGrinder genomic language model.",
    epilog="Exit codes: 0 done, 2 usage, 3 input, 4 genome build, 5 settings, 6 checkpoint, 7 store, 8 internal, 9 memory, "
    "10 output, 130 interrupted, 143 terminated.",
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


for _room in (variants, scoring, regions, store, reports, explain, training, evaluation, calibration):
    _room.register(app)


class Terminated(BaseException):
    """SIGTERM, as an exception: every ``finally`` on the way runs, so no unfinished file stays."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break the cleaning up
    raise Terminated


def main() -> None:
    """Run a command; an error of our family, or of the file system, ends as one line on stderr and its exit code."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except DnaGrinderError as error:
        _stop(" ".join(str(error).split()), error.exit_code)
    except BrokenPipeError:  # the reader of our standard output has had enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        named = f"{reason}: {os.fsdecode(error.filename)}" if error.filename else reason
        if error.errno in UNWRITABLE:
            _stop(f"{named}; {UNWRITABLE[error.errno]}", OutputError.exit_code)
        _stop(named, InputError.exit_code)
    except KeyboardInterrupt:
        _stop("interrupted; what is finished is kept", 130)
    except Terminated:
        _stop("terminated; what is finished is kept", 143)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(message: str, code: int) -> NoReturn:
    """Say why and exit; where even stderr cannot be written (its disk is full) the code has to do."""
    with suppress(OSError):
        print(f"dnagrinder: {'error: ' if code < 128 else ''}{message}", file=sys.stderr, flush=True)
    sys.exit(code)
