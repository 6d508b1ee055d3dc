"""Your own pairs: `python -m transformer train|evaluate|translate`.

A file holds one pair a line, source TAB target.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from transformer.commands import SETTINGS, train_on_file
from transformer.translation import evaluate_on_file, translate_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status, 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m transformer", description=__doc__)
    commands = parser.add_subparsers(required=True)
    helps = argparse.ArgumentDefaultsHelpFormatter
    training = commands.add_parser("train", formatter_class=helps)
    evaluation = commands.add_parser("evaluate", formatter_class=helps)
    translation = commands.add_parser("translate", formatter_class=helps)
    for command, function in (
        (training, train_on_file),
        (evaluation, evaluate_on_file),
        (translation, translate_lines),
    ):
        command.set_defaults(function=function)
        command.add_argument("folder", type=Path, help="where the model is kept")
    training.add_argument("pairs", type=Path, help="pairs to learn from")
    training.add_argument("--held-out", type=Path, help="pairs to choose weights by")
    training.add_argument("--save-every", type=int, default=500, help="steps")
    for name, default, meaning in SETTINGS:
        kind = type(default)
        training.add_argument(f"--{name}", type=kind, default=default, help=meaning)
    evaluation.add_argument("pairs", type=Path, help="pairs to compare with")
    translation.add_argument("--n-best", type=int, default=1, help="results a source")
    for command in (evaluation, translation):
        command.add_argument("--beam", type=int, default=4, help="prefixes at once")
        command.add_argument("--max-length", type=int, default=100, help="of a result")
    given = parser.parse_args(arguments)
    try:
        given.function(given)
    except KeyboardInterrupt:
        return 130
    except (OSError, TypeError, ValueError, ArithmeticError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # As files of pairs are, whatever a console or a pipe takes by itself.
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    sys.exit(main())
