"""The `segzoo` program: its commands, its version, and how errors are reported."""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from segzoo._optional import WHOLE, needs
from segzoo._version import __version__
from segzoo.cli import console
from segzoo.errors import SegzooError
from segzoo.plugins import import_plugin


class Program(TyperGroup):
    """The command group. Errors that a user can act on become one line on stderr and an exit code, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SegzooError as error:
            console.error(str(error))
        except KeyboardInterrupt:
            console.note("Interrupted.")
            raise typer.Exit(130) from None
        except BrokenPipeError:  # `segzoo list --encoders '*' | head`: typer exits without a message.
            raise
        except OSError as error:
            console.error(f"{error.filename}: {error.strerror}." if error.filename else str(error))
        raise typer.Exit(1)


app = typer.Typer(
    cls=Program,
    name="segzoo",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"segzoo {__version__}")
        raise typer.Exit


def _import(modules: list[str] | None) -> None:
    for module in modules or ():
        import_plugin(module)


def _import_option(**further: Any) -> Any:
    explanation = "Import a module that registers decoders, losses, ...; repeatable."
    return typer.Option("--import", metavar="MODULE", help=explanation, **further)


def segzoo(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    modules: Annotated[list[str] | None, _import_option()] = None,
) -> None:
    """A model zoo for semantic segmentation: eight decoders, timm's encoders, and one ONNX file to deploy.

    Run `segzoo COMMAND --help` for the options of a command.

    Examples:

      segzoo demo                                  segment a photograph
      segzoo list                                  list decoders and encoders
      segzoo export unet --encoder resnet101       export a model to ONNX
      segzoo predict unet-resnet101.onnx photos/   write a mask for each image
    """
    _import(modules)
    if context.invoked_subcommand is None:
        _welcome()


def _with_import(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the option --import, which takes effect before the other options are checked."""
    annotation = Annotated[list[str] | None, _import_option(callback=_import, is_eager=True)]
    added = inspect.Parameter("import_modules", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    @functools.wraps(command)
    def run(import_modules: None, **values: Any) -> None:
        command(**values)

    signature = inspect.signature(command)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, added.name: annotation}
    return run


def _help(command: Callable[..., None]) -> str:
    """A command's docstring, with line breaks removed except in the indented examples: typer keeps them all."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else p.replace("\n", " ") for p in paragraphs)


_COMMANDS = {
    "list": "listing:list_models",
    "info": "info:info",
    "export": "export:export",
    "convert": "convert:convert",
    "predict": "predict:predict",
    "push": "push:push",
    "augment": "augment:augment",
    "train": "train:train",
    "evaluate": "evaluate:evaluate",
    "compare": "compare:compare",
    "bench": "bench:bench",
    "doctor": "doctor:doctor",
    "demo": "demo:demo",
}
"""The commands: "module:function" below segzoo.cli. The runtime alone lacks some of the modules."""


def _add(name: str) -> None:
    """Adds a command to the program; in place of one that is not installed, a command that says what to install."""
    module, _, function = _COMMANDS[name].partition(":")
    try:
        command: Callable[..., None] = getattr(importlib.import_module(f"segzoo.cli.{module}"), function)
    except ModuleNotFoundError as error:
        if error.name != f"segzoo.cli.{module}":
            raise
        _MISSING.append(name)
        app.command(name, hidden=True, add_help_option=False, context_settings={"ignore_unknown_options": True})(
            _absent(name, error)
        )
    else:
        app.command(name, help=_help(command))(_with_import(command))


def _absent(name: str, error: ModuleNotFoundError) -> Callable[..., None]:
    def absent(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
        with needs(f"`segzoo {name}`"):
            raise error

    return absent


_MISSING: list[str] = []
"""The commands that are not installed."""

_STEPS = {
    "demo": ("segzoo demo", "segment the photograph that ships with segzoo"),
    "predict": ("segzoo predict photos/ -o masks/ --overlay", "your own, with the model that ships with it"),
    "train": ("segzoo train --help", "train a model on your own images"),
    "export": ("segzoo export --help", "write a model to one .onnx file"),
    "list": ("segzoo list", "decoders, encoders and trained weights"),
}
"""What to do first: a line for each command, if it is installed, and what it does."""


def _welcome() -> None:
    console.line("segzoo: semantic segmentation, from a name to one file that takes images and gives masks.")
    console.line()
    console.key_values([step for name, step in _STEPS.items() if name not in _MISSING])
    console.line()
    if _MISSING:
        console.prose(_what_is_missing())
    console.prose("All commands: segzoo --help")


def _what_is_missing() -> str:
    return f"Only the runtime is installed. `pip install {WHOLE}` adds: {', '.join(_MISSING)}."


for _name in _COMMANDS:
    _add(_name)
_more = f"\n\n{_what_is_missing()}" if _MISSING else ""
app.callback(help=_help(segzoo) + _more, invoke_without_command=True)(segzoo)


def main() -> None:
    """Runs the program on the arguments of the command line and exits the process."""
    app()
