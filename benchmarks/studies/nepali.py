"""Table 4 of XLM, small: does Hindi, English or both help a Nepali language model?

    python -m benchmarks.studies.nepali --text data/mono --folder runs/nepali --flores test.ne

The study is ``xlm reproduce nepali`` (docs/reproducing.md); this script notes its figures and their
surroundings in ``results/``. ``--flores`` is a second test text, of another domain. A study that
was interrupted is continued; ``--report`` notes the models that are finished and trains nothing;
``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from benchmarks.support import nepali_tables, record
from xlm.reproduce import Reproduce, reproduce


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="holds LANG/train.txt, ne/valid.txt and ne/test.txt")
    parser.add_argument("--flores", help="a second test text of Nepali")
    parser.add_argument("--folder", type=Path, default=Path("runs/nepali"), help="where runs go")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    given = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    few = {"seeds": [0], "old_seeds": [], "shifted_seeds": [0], "sizes": []} if given.quick else {}
    config = Reproduce(
        study="nepali", folder=str(given.folder), text=given.text, quick=given.quick,
        tests={"flores": given.flores} if given.flores else {}, report=given.report, **few,
    )  # fmt: skip
    figures = reproduce(config)
    record.write("nepali", figures, given.folder / "recorded" if given.quick else None)
    sys.stdout.write(f"{nepali_tables.nepali(figures)}\n\n{nepali_tables.found(figures)}\n")


if __name__ == "__main__":
    main()
