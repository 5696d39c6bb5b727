"""The command `rhm`, which is also `python -m rhmdiff`; one line where the extra that it needs is missing."""
import sys


def main() -> None:
    "`rhmdiff.cli.main`, if it can be imported."
    try: from .cli import main as command
    except ModuleNotFoundError as e: sys.exit(f"rhm: {e}")
    command()


if __name__ == "__main__": main()
