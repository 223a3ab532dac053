"""The command line: a file a command, and a file for each thing that several of them need.

A further command is a module with a function that adds its parser, named in `main.COMMANDS`.
"""

from gandetect.cli.main import main

__all__ = ["main"]
