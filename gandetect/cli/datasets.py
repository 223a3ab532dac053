"""``gandetect datasets``: the data sets that have names, and where they are looked for."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from gandetect.cli.options import UsageError, add_output


def add_datasets(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "datasets",
        help="list the data sets that have names",
        description=(
            "List the data sets that --data knows by name, whether they are there, and what to put "
            "where if not."
        ),
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder to look in (default: that of the environment variable GANDETECT_DATA)",
    )
    parser.add_argument(
        "--download",
        metavar="NAME",
        help="fetch this data set first, if it is not there; its checksum is tested",
    )
    add_output(parser)
    parser.set_defaults(run=run_datasets)


def run_datasets(options: Namespace) -> None:
    """Fetch what is asked for, then list."""
    from gandetect.cli.output import check_table, write_columns
    from gandetect.datasets.catalogue import CATALOGUE
    from gandetect.datasets.files import resolve_data_dir

    check_table(options)
    if options.download and options.download not in CATALOGUE:
        raise UsageError(
            f"there is no data set {options.download!r} to fetch, only {', '.join(CATALOGUE)}"
        )
    if options.download:
        CATALOGUE[options.download].fetch(resolve_data_dir(options.data_dir))
    try:
        folder = resolve_data_dir(options.data_dir)
    except ValueError:  # the list is of use without a folder, too
        folder = None
    entries = CATALOGUE.values()
    columns = {
        "name": [entry.name for entry in entries],
        "--data": [entry.written for entry in entries],
        "found": ["no folder" if folder is None else entry.state(folder) for entry in entries],
        "what": [entry.description for entry in entries],
        "put": [entry.instructions for entry in entries],
    }
    write_columns(columns, options)
