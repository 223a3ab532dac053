"""``gandetect datasets``: the named data sets, and their folders."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from gandetect.cli.options import UsageError, add_output


def add_datasets(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "datasets",
        help="list the data sets with names",
        description=(
            "List the data sets that --data accepts by name, whether they are present, and the "
            "expected files and folders of missing ones."
        ),
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of the data sets (default: the environment variable GANDETECT_DATA)",
    )
    parser.add_argument(
        "--download",
        metavar="NAME",
        help="download this data set first if it is missing; its checksum is verified",
    )
    add_output(parser)
    parser.set_defaults(run=run_datasets)


def run_datasets(options: Namespace) -> None:
    """Download the requested data set, then list all data sets."""
    from gandetect.cli.output import check_table, write_columns
    from gandetect.datasets.catalogue import CATALOGUE
    from gandetect.datasets.files import resolve_data_dir

    check_table(options)
    if options.download and options.download not in CATALOGUE:
        raise UsageError(
            f"there is no data set {options.download!r} to download, only {', '.join(CATALOGUE)}"
        )
    if options.download:
        CATALOGUE[options.download].fetch(resolve_data_dir(options.data_dir))
    try:
        folder = resolve_data_dir(options.data_dir)
    except ValueError:  # the list is also useful without a data folder
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
