import csv
import json

import numpy as np
import pytest
from scipy import stats

from lightning_diffal.comparison import Comparison
from lightning_diffal.exceptions import ConfigurationError

COUNTS = [10, 20, 30, 40]
SCORES = {
    "ours": {0: [0.4, 0.7, 0.8, 0.9], 1: [0.5, 0.6, 0.9, 0.9], 2: [0.3, 0.6, 0.7, 0.8]},
    "random": {0: [0.4, 0.5, 0.6, 0.7], 1: [0.5, 0.5, 0.8, 0.8], 2: [0.3, 0.4, 0.6, 0.8]},
}


def run(name, seed, scores, **kwargs):
    return {
        "format": 1,
        "name": name,
        "sampler": f"{name.title()}()",
        "seed": seed,
        "start": {"labels": str(seed)},
        "n_labelled": COUNTS,
        "metrics": {"test_acc": scores},
        "seconds": {"features": [1.0, 2.0, 3.0, None], "select": [0.5, 0.5, 0.5, None]},
        **kwargs,
    }


@pytest.fixture
def comparison():
    results = [run(name, seed, scores) for name, runs in SCORES.items() for seed, scores in runs.items()]
    return Comparison.from_results(results, title="tiny")


def test_summaries_are_what_a_calculation_by_hand_gives(comparison):
    ours, random = comparison.summaries(reach=(0.8, 0.85))
    areas = [np.mean(scores) for scores in SCORES["ours"].values()]
    half = stats.t.ppf(0.975, 2) * np.std(areas, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(ours.area, (np.mean(areas), np.mean(areas) - half, np.mean(areas) + half))
    np.testing.assert_allclose(ours.mean, [0.4, 1.9 / 3, 0.8, 2.6 / 3])
    assert ours.seconds_per_query == 2.5
    assert (ours.reach[0].by_mean, ours.reach[0].by_seed) == (30, (30, 30, 40))
    assert (random.reach[1].by_mean, random.reach[1].by_seed) == (None, (None, None, None))
    assert (ours.name, ours.sampler, ours.seeds) == ("ours", "Ours()", (0, 1, 2))


def test_differences_are_paired_by_seed(comparison):
    (difference,) = comparison.differences("random")
    table = np.array([np.subtract(SCORES["ours"][s], SCORES["random"][s]) for s in (0, 1, 2)])
    for found, columns in ((difference.area, table), (difference.early, table[:, :2]), (difference.late, table[:, 2:])):
        values = columns.mean(axis=1)
        half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
        np.testing.assert_allclose(found, (values.mean(), values.mean() - half, values.mean() + half), atol=1e-12)
    np.testing.assert_allclose(difference.mean, table.mean(axis=0))
    assert difference.band_low[0] == difference.band_high[0] == 0
    assert (difference.band_low[1:] < difference.mean[1:]).all()
    assert (difference.band_high[1:] > difference.mean[1:]).all()
    (opposite,) = comparison.differences()  # the reference is the first
    assert (opposite.name, opposite.against) == ("random", "ours")
    np.testing.assert_allclose(opposite.band_high, -difference.band_low)


def test_seeds_that_only_one_has_are_left_out_of_differences():
    results = [run("ours", s, SCORES["ours"][s]) for s in (0, 1)] + [
        run("random", s, SCORES["random"][s]) for s in (1, 2)
    ]
    comparison = Comparison.from_results(results)
    (difference,) = comparison.differences("random")
    assert difference.seeds == (1,)
    assert difference.area.mean == pytest.approx(0.075)
    assert "seeds" in comparison.table()
    assert not Comparison.from_results([results[0], results[3]]).differences()


def test_one_seed_says_so_and_has_no_interval(tmp_path):
    comparison = Comparison.from_results([run(name, 0, SCORES[name][0]) for name in SCORES])
    printed = comparison.table(reach=[0.9])
    assert "one seed, so no intervals" in printed
    assert "±" not in printed
    assert "nan" not in printed
    comparison.save(tmp_path, reach=[0.9])
    assert "NaN" not in (tmp_path / "comparison.json").read_text()


def test_the_table_tells_it_all(comparison):
    lines = comparison.table(reach=[0.8, 0.85], against="random").splitlines()
    assert lines[0].startswith("tiny: test_acc, mean of 3 seeds")
    rows = [line.split() for line in lines if line.startswith("ours")]
    assert rows[0][1] == f"{np.mean(list(SCORES['ours'].values())):.4f}"
    assert rows[1][1].startswith("+0.1000")
    assert rows[2][1:] == ["30", "(30", "to", "40)", "40", "(30", "to", ">40)"]


def test_markdown_holds_the_same_cells(comparison):
    plain, markdown = (comparison.table(reach=[0.8], against="random", markdown=flag) for flag in (False, True))
    tables = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    assert [[line.count("|") for line in table] for table in tables] == [[7] * 4, [6] * 3, [3] * 4]
    assert [table[1] for table in tables] == ["|" + " --- |" + " ---: |" * n for n in (5, 4, 1)]
    words = [line.replace("|", " ").split() for table in tables for line in table if "---" not in line]
    assert all(line in [row.split() for row in plain.splitlines()] for line in words)
    assert [block for block in markdown.split("\n\n") if not block.startswith("|")] == [
        block for block in plain.split("\n\n") if "  " not in block
    ]


def test_a_pipe_in_a_name_does_not_end_a_cell():
    results = [run("a|b", 0, SCORES["ours"][0]), run("random", 0, SCORES["random"][0])]
    assert "| a\\|b |" in Comparison.from_results(results).table(markdown=True)


def test_files_hold_the_figures(comparison, tmp_path):
    pictures = comparison.save(tmp_path, reach=[0.8], against="random")
    assert [picture.read_bytes()[1:4] for picture in pictures] == [b"PNG"] * 2

    def table(name):
        return list(csv.DictReader((tmp_path / name).open(newline="")))

    summary, (difference,), curves = table("summary.csv"), table("differences.csv"), table("curves.csv")
    assert [row["sampler"] for row in summary] == ["ours", "random"]
    assert summary[0]["labels_to_0.8_by_seed"] == "30 30 40"
    assert float(difference["area"]) == pytest.approx(0.1)
    assert float(difference["area_low"]) < float(difference["area"])
    assert len(curves) == 8
    assert float(curves[1]["difference"]) == pytest.approx(0.5 / 3, abs=1e-6)
    assert curves[5]["difference"] == ""
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["samplers"]["ours"]["scores"]["1"] == SCORES["ours"][1]
    assert content["differences"][0]["area"]["mean"] == pytest.approx(0.1, abs=1e-6)


def test_a_negative_figure_stays_a_number_in_a_spreadsheet(comparison, tmp_path):
    comparison.to_csv(tmp_path)  # random minus ours
    (row,) = csv.DictReader((tmp_path / "differences.csv").open(newline=""))
    assert float(row["area"]) == pytest.approx(-0.1)


def test_rounds_without_a_score_are_left_out():
    result = Comparison.from_results([run("ours", 0, [None, 0.5, 0.6, 0.7])])
    assert result.counts.tolist() == [20, 30, 40]
    assert result.scores["ours"][0].tolist() == [0.5, 0.6, 0.7]


def test_what_cannot_be_compared_is_refused(comparison, tmp_path):
    first = run("ours", 0, SCORES["ours"][0])
    with pytest.raises(ConfigurationError, match="began with different labels"):
        Comparison.from_results([first, run("random", 0, SCORES["random"][0], start={"labels": "other"})])
    with pytest.raises(ConfigurationError, match="same label counts, but 'random'"):
        Comparison.from_results([first, run("random", 0, SCORES["random"][0], n_labelled=[1, 2, 3, 4])])
    with pytest.raises(ConfigurationError, match="`metric` to be one of test_acc, but got 'loss'"):
        Comparison.from_results([first], metric="loss")
    with pytest.raises(ConfigurationError, match="at least one finished run"):
        Comparison.from_results([])
    with pytest.raises(ConfigurationError, match="`against` to be one of ours, random"):
        comparison.table(against="nobody")
    with pytest.raises(ConfigurationError, match="no difference to draw"):
        Comparison.from_results([first]).plot_differences(tmp_path / "a.png")


def test_a_folder_is_read_while_others_still_run(tmp_path):
    for name, seed in (("ours", 0), ("ours", 1), ("random", 0)):
        (tmp_path / f"{name}-seed{seed}.json").write_text(json.dumps(run(name, seed, SCORES[name][seed])))
    everything = Comparison.from_folder(tmp_path)
    assert {name: list(runs) for name, runs in everything.scores.items()} == {"ours": [0, 1], "random": [0]}
    some = Comparison.from_folder(tmp_path, samplers=["random", "ours"], seeds=[0])
    assert {name: list(runs) for name, runs in some.scores.items()} == {"random": [0], "ours": [0]}
    with pytest.raises(ConfigurationError, match="but got ours seed 0, random seed 0, ours seed 1"):
        Comparison.from_folder(tmp_path, samplers=["margin"])
    (tmp_path / "ours-seed0.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Comparison.from_folder(tmp_path)
