"""The ledger of the papers' tables: whole, consistent, and pointing to what exists."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.support import ledger_tables
from benchmarks.support.ledger import (
    LEDGER,
    PAPERS,
    RESULTS,
    ROOT,
    Ledger,
    Measured,
    Ran,
    Row,
    Study,
    Table,
    digits,
    read,
    within_rounding,
)

NUM_TABLES = {
    "xlm-2019": 5,
    "mbert-transfer-2019": 6,
    "monotrans-2020": 11,
    "mmte-2020": 11,
    "mt-continued-pretraining-2024": 5,
}
NUM_AVERAGES = 267
"""Published averages, and cells of rows that are means, whose parts are printed too."""


@pytest.fixture(scope="module")
def papers() -> dict[str, Ledger]:
    return {name: read(name) for name in PAPERS}


def table(paper: Ledger, number: int | str) -> Table:
    (found,) = [own for own in paper.tables if own.number == number]
    return found


def row(own: Table, title: str) -> Row:
    (found,) = [one for one in own.rows if one.title == title]
    return found


def test_every_table_of_every_paper_is_there(papers: dict[str, Ledger]) -> None:
    assert set(PAPERS) == {path.stem for path in LEDGER.iterdir()} == set(NUM_TABLES)
    for name, paper in papers.items():
        numbers = [own.number for own in paper.tables if isinstance(own.number, int)]
        assert numbers == list(range(1, NUM_TABLES[name] + 1)), name
        assert all(own.rows and own.columns and own.experiments for own in paper.tables)


def test_published_averages_are_those_of_the_cells(papers: dict[str, Ledger]) -> None:
    """``read`` has compared them; here the count, and the only task whose averages differ."""
    count, beyond = 0, []
    for paper in papers.values():
        for own in paper.tables:
            for one in own.rows:
                for average, stated in zip(own.averages, one.averages, strict=False):
                    mean = own.average(one, average)
                    if stated is None or mean is None:
                        continue
                    count += 1
                    if not within_rounding(stated, mean, digits(one.values)):
                        beyond.append((paper.paper, own.number, one.group))
                count += len(one.recomputed_values)
    assert count == NUM_AVERAGES
    assert beyond == [("MT as continued pretraining", 4, "WPR")] * 7
    wpr = [one for one in table(papers[PAPERS[4]], 4).rows if one.group == "WPR"]
    for one in wpr:  # without Chinese, the last column, they are as published
        without = [value for value in one.values[:-1] if value is not None]
        assert one.averages[0] == pytest.approx(sum(without) / len(without), abs=0.0051)


def test_papers_that_quote_each_other_agree(papers: dict[str, Ledger]) -> None:
    xlm, mbert, mono, mmte, _ = papers.values()
    mlm = row(table(xlm, 1), "zero-shot: XLM (MLM)")
    for own, title in (
        (table(mbert, 3), "zero-shot: Lample and Conneau (2019) (MLM)"),
        (table(mono, 1), "earlier work: XLM (MLM)"),
    ):
        assert [own.cell(row(own, title), language) for language in table(xlm, 1).columns] == [
            *mlm.values
        ]
    for theirs, ours in ((table(mmte, 2), table(mbert, 3)), (table(mmte, 3), table(mbert, 2))):
        quoted, first = row(theirs, "zero-shot: mBERT"), row(ours, "zero-shot: mBERT")
        assert all(theirs.cell(quoted, own) == ours.cell(first, own) for own in ours.columns)
    for whole, part in ((7, 2), (9, 3)):
        for title in ("CLWE: 768d ident", "JointMulti: 32k voc", "JointMulti: 200k voc"):
            assert row(table(mono, whole), title).values == row(table(mono, part), title).values


def test_summaries_are_those_of_the_tables_by_language(papers: dict[str, Ledger]) -> None:
    ji = papers["mt-continued-pretraining-2024"]
    short, long = table(ji, 1), table(ji, 4)
    for one in short.rows:
        for task in short.columns:
            (mean,) = [own for own in long.rows if (own.group, own.name) == (task, one.name)]
            assert short.cell(one, task) == pytest.approx(mean.averages[0], abs=0.0501)


def test_norms_of_singular_values_lie_within_their_distances(papers: dict[str, Ledger]) -> None:
    """Norms differ by no more than their vectors are apart: the triangle inequality."""
    ji, count = papers["mt-continued-pretraining-2024"], 0
    for number in (2, 5):
        parent: Row | None = None
        for one in table(ji, number).rows:
            if one.name == "mBART":
                parent = one
                continue
            assert parent and parent.group == one.group
            for i in range(0, len(one.values), 2):
                norm, before, apart = one.values[i], parent.values[i], one.values[i + 1]
                assert norm and before and apart and abs(norm - before) <= apart + 0.0151
                count += 1
    assert count == 18 + 198


def test_transfer_of_parsers_falls_with_the_distance_to_english(papers: dict[str, Ledger]) -> None:
    own = table(papers["mbert-transfer-2019"], 6)
    distance = row(own, "distance to English").values
    for unit, expected in (("LAS", -0.885), ("UAS", -0.895)):
        values = row(own, f"mBERT zero-shot, {unit}").values
        found = np.corrcoef(np.array(distance, float), np.array(values, float))[0, 1]
        assert found == pytest.approx(expected, abs=0.0006)


def test_every_pointer_leads_to_a_figure_and_a_recipe(papers: dict[str, Ledger]) -> None:
    count = 0
    for paper in papers.values():
        for own in paper.tables:
            studies = {study.name: study for study in own.studies}
            used = {ran.study for one in own.rows for ran in one.ran}
            assert used == set(studies), f"{paper.paper}, {own.label}"
            for ran in [ran for one in own.rows for ran in one.ran]:
                assert (ROOT / ran.recipe).is_file() and ran.recipe.startswith("recipes/")
                ours = ran.measured(studies[ran.study])
                assert np.isfinite(ours.mean) and ours.seeds >= 1
                count += 1
        for beside in paper.beside:
            assert (ROOT / beside.recipe).is_file() and (RESULTS / beside.result).is_file()
    assert count >= 50


def test_a_figure_is_read_from_the_result(tmp_path: Path) -> None:
    figure = {"mean": 0.5, "interval": 0.25, "values": [0.25, 0.5, 0.75]}
    rows = [{"pairs": 1, "plain": 3}, {"pairs": 2, "starts": {"mlm": figure}}]
    (tmp_path / "own.json").write_text(json.dumps({"rows": rows}))
    study = Study("own", "own.json", "%", 100, False, "tiny", "text", "over seeds")

    def measured(*at: object) -> Measured:
        return Ran("own", "en", at, "").measured(study, tmp_path)

    assert measured("rows", {"pairs": 2}, "starts", "mlm") == Measured(50.0, 25.0, 3)
    assert measured("rows", {"pairs": 1}, "plain") == Measured(300.0, None, 1)
    for at, said in (
        (("rows", {"pairs": 3}), "0 elements"),
        (("row",), "no 'row'"),
        (("rows",), "expected a number"),
    ):
        with pytest.raises(ValueError, match=said):
            measured(*at)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"values": [1.0]}, "1 found, expected 2"),
        ({"values": [1.0, "2"]}, "expected a number"),
        ({"averages": [2.0]}, "misprint"),
        ({"recomputed": [1.6]}, "1.6 noted as recomputed, the cells give 1.500"),
        ({"avarages": [1.5]}, "avarages"),
        ({"ran": [{"study": "none", "column": "en", "at": [], "recipe": ""}]}, "no study"),
        ({"ran": [{"study": "none", "column": "en"}]}, "missing"),
    ],
)
def test_a_wrong_row_is_refused(change: dict[str, object], said: str, tmp_path: Path) -> None:
    right = {"name": "a", "values": [1.0, 2.0], "averages": [1.5], "recomputed": [1.5]}
    head = {"number": 1, "title": "t", "section": "1", "experiments": ["X20"], "unit": "%"}
    columns = {"columns": ["en", "de"], "averages": [{"name": "mean", "over": "all"}]}
    for name, own in (("right", right), ("wrong", {**right, **change})):
        paper = {"paper": "p", "source": "s", "tables": [{**head, **columns, "rows": [own]}]}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(paper))
    assert read("right", tmp_path).tables[0].rows[0].averages == (1.5,)
    with pytest.raises(ValueError, match=said):
        read("wrong", tmp_path)


def test_order_counts_pairs_on_the_published_side() -> None:
    def pair(published: float, ours: float, interval: float | None = None) -> ledger_tables.Pair:
        ran = Ran("s", "en", (), "")
        return ledger_tables.Pair(
            Row("a", (published,)), ran, published, Measured(ours, interval, 3)
        )

    rows = [pair(1.0, 10.0, 1.0), pair(2.0, 30.0, 1.0), pair(3.0, 20.0, 15.0), pair(3.0, 5.0)]

    def others(i: int) -> list[ledger_tables.Pair]:
        return [*rows[:i], *rows[i + 1 :]]

    said = [ledger_tables.order(own, others(i)) for i, own in enumerate(rows)]
    assert said == ["no, 2 of 3", "no, 1 of 3", "no, 1 of 2", "no, 0 of 2"]
    assert ledger_tables.order(rows[0], rows[1:2]) == "yes, 1 of 1"
    assert ledger_tables.order(rows[2], rows[3:]) == "no other row"
    study = Study("s", "r.json", "%", 1, False, "tiny", "text", "over seeds")
    sure = ledger_tables.sure(rows[0], rows[1:], study)
    assert sure == "3 seeds, 95 % interval over seeds; apart from 1 of 2; tiny"
    assert ledger_tables.sure(rows[3], rows[:3], study) == "3 seeds, no interval; tiny"


def test_the_page_says_first_that_our_models_are_tiny() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    first = page.split("\n\n")[1]
    assert "Our models are tiny, so compare only the order of rows" in first
    at = [page.index(f"<!-- table: ledger-{name} -->") for name in PAPERS]
    assert all(one < next_one for one, next_one in pairwise(at))
