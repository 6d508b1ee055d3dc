"""`python -m transformer.exercises FOLDER`: a table of who solved what."""

import argparse
import asyncio
from pathlib import Path

from transformer.exercises.grading import grade_folder, table
from transformer.notebook import print_anywhere


def main() -> None:
    """Grade the notebooks of a folder and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m transformer.exercises",
        description="Execute the notebooks in FOLDER and its subfolders, each in a process "
        "of its own, without the book's solutions, and print which exercises are solved: "
        "✓ right, ✗ not right, – its check was not called. Runs the code in them: use a "
        "container for strangers' work.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--time-limit",
        type=float,
        default=600,
        metavar="SECONDS",
        help="stop a notebook that takes longer (default: %(default)g)",
    )
    asked = parser.parse_args()
    try:
        reports = asyncio.run(grade_folder(asked.folder, asked.time_limit))
    except ValueError as error:
        parser.error(str(error))
    print_anywhere(table(reports))


if __name__ == "__main__":
    main()
