"""The `segzoo` program: its commands, its version, and how errors are reported."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from segzoo._version import __version__
from segzoo.cli import console
from segzoo.cli.augment import augment
from segzoo.cli.bench import bench
from segzoo.cli.compare import compare
from segzoo.cli.convert import convert
from segzoo.cli.demo import demo
from segzoo.cli.doctor import doctor
from segzoo.cli.evaluate import evaluate
from segzoo.cli.export import export
from segzoo.cli.info import info
from segzoo.cli.listing import list_models
from segzoo.cli.predict import predict
from segzoo.cli.push import push
from segzoo.cli.train import train
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
    no_args_is_help=True,
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
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    modules: Annotated[list[str] | None, _import_option()] = None,
) -> None:
    """A model zoo for semantic segmentation: eight decoders, timm's encoders, and one ONNX file to deploy.

    Run `segzoo COMMAND --help` for the options of a command.

    Examples:

      segzoo demo street.jpg                       try everything on one photograph
      segzoo list                                  list decoders and encoders
      segzoo export unet --encoder resnet101       export a model to ONNX
      segzoo predict unet-resnet101.onnx photos/   write a mask for each image
    """
    _import(modules)


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


_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_models,
    "info": info,
    "export": export,
    "convert": convert,
    "predict": predict,
    "push": push,
    "augment": augment,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "bench": bench,
    "doctor": doctor,
    "demo": demo,
}

app.callback(help=_help(segzoo))(segzoo)
for _name, _command in _COMMANDS.items():
    app.command(_name, help=_help(_command))(_with_import(_command))


def main() -> None:
    """Runs the program on the arguments of the command line and exits the process."""
    app()
