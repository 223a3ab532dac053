"""The command line: one module for each command, and modules that several commands use.

A new command is a module with a function that adds its parser, listed in `main.COMMANDS`.
"""

from gandetect.cli.main import main

__all__ = ["main"]
