"""The command line: `segzoo list | info | export | predict | push | bench | doctor | demo`.

Floor 3. Nothing at the top of these files imports torch, timm or onnxruntime, so that `segzoo --help` answers at once;
each command imports what it needs. Answers go to stdout; progress, warnings and errors to stderr.
"""

from segzoo.cli.program import app, main

__all__ = ["app", "main"]
