"""The command line: `ibid`. One module a command group; heavy imports wait until a command needs them."""

import sys

import typer

from app.cli import serve
from app.core.errors import AppError, StartupError

app = typer.Typer(
    name="ibid",
    help="Answers from your own documents, with citations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("migrate")(serve.migrate)


def main() -> None:
    """Run a command; an error that a person can mend is a sentence, not a traceback."""
    try:
        app()
    except (StartupError, AppError) as error:
        print(f"ibid: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
