"""The `segzoo` command line program, one module per command.

No module here imports torch, timm or onnxruntime at the top, so that `segzoo --help` answers at once; each command
imports what it needs. Answers go to stdout; progress, warnings and errors go to stderr.
"""

from segzoo.cli.program import app, main

__all__ = ["app", "main"]
