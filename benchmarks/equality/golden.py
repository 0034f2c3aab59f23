"""Every figure that the original XLM left behind, computed anew by xlm's public functions.

    python -m benchmarks.equality.golden [--golden FOLDER] [--only-print]

FOLDER is the golden folder (else the environment's XLM_GOLDEN, else ../shared/golden beside the
checkout); its README says what was recorded and how far it may be missed. One row is printed and
kept in results/golden.json for each file and family of arrays; the exit status is 1 if a row
disagrees. ``--quick`` compares the optimizers alone, for which optim.npz is enough.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.equality import golden_data, golden_decoding, golden_models, golden_training
from benchmarks.support import record
from benchmarks.support.agreement import Table

Family = Callable[[Path, Table], None]
BESIDE = Path(__file__).parents[2].parent / "shared" / "golden"


MODULES = (golden_data, golden_models, golden_training, golden_decoding)
FAMILIES = tuple(family for module in MODULES for family in module.families())


def compare(golden: Path, families: Sequence[Family] = FAMILIES) -> Table:
    """Compare every family of figures in the folder, and sort the rows by file."""
    table = Table()
    for family in families:
        family(golden, table)
    table.rows.sort(key=lambda row: (row["file"].count("/"), row["file"]))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=Path, default=Path(os.environ.get("XLM_GOLDEN", BESIDE)))
    parser.add_argument("--only-print", action="store_true", help="leave results/golden.json as is")
    parser.add_argument("--quick", action="store_true", help="only the optimizers; only printed")
    options = parser.parse_args()
    if not options.golden.is_dir():
        parser.error(f"{options.golden} is no folder: give the golden folder with --golden")
    logging.getLogger("xlm").setLevel(logging.ERROR)  # toy texts are mostly filler
    table = compare(options.golden, [golden_training.optimizers] if options.quick else FAMILIES)
    for row in table.rows:
        print("  ".join(str(value) for value in row.values()))
    counts = {kind: sum(row["agrees"] == kind for row in table.rows) for kind in ("yes", "no")}
    values = sum(row["values"] for row in table.rows if row["agrees"] == "yes")
    print(f"{counts['yes']} rows of {values:,} values agree, {counts['no']} do not")
    if not (options.only_print or options.quick):
        totals = {"rows_that_agree": counts["yes"], "rows_that_do_not": counts["no"]}
        record.write("golden", {**totals, "values_that_agree": values, "rows": table.rows})
    return int(counts["no"] > 0)


if __name__ == "__main__":
    sys.exit(main())
