"""The command line. One file a command; each imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Annotated

import typer

from p2r.cli import answer, batch, data, demo, doctor, eval, push, report, scenes, serve, train  # noqa: A004  (a module of ours)

app = typer.Typer(
    name="p2r",
    help="Answer questions about details in high-resolution images: find the evidence, zoom in, reason.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: with rich, `p2r --help` takes three times as long
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command shows examples with --help. Guides: README.md and docs/.",
)
app.command("answer", epilog=answer.EXAMPLES, context_settings={"allow_extra_args": True})(answer.answer)
app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("eval", epilog=eval.EXAMPLES)(eval.evaluate)
app.command("batch", epilog=batch.EXAMPLES)(batch.batch)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("serve", epilog=serve.EXAMPLES)(serve.serve)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("push", epilog=push.EXAMPLES)(push.push)
app.command("scenes", epilog=scenes.EXAMPLES)(scenes.scenes)
app.command("data", epilog=data.EXAMPLES)(data.data)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from p2r import __version__

        typer.echo(f"perceive-to-reason {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; the entry point of the script `p2r`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a sign shows its number, which in JSON is the same text.
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        # A full disk behind `p2r … > file`. Nothing more can be written there, at the end neither.
        sys.stderr.write(f"error: cannot write to standard output: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(2)
