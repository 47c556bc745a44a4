import json

import numpy as np
import pytest
from report_world import evaluate, train, write_run

from whenabouts.core.errors import RunError
from whenabouts.report.run_log import (
    MEASURES,
    Curve,
    best_of,
    measure_name,
    read_recipe,
    read_run_log,
    smooth,
    splits,
    thin,
)
from whenabouts.train.fit import MEASURES as TRAINED_BY


def curve(*values):
    return Curve(np.arange(len(values), dtype=float), np.array(values, dtype=float))


def read(tmp_path, records, tail=""):
    return read_run_log(write_run(tmp_path / "run", records, tail) / "metrics.jsonl")


def test_phases_follow_one_another(tmp_path):
    first, second, third = read(
        tmp_path,
        [
            train(10, 0.9, "a", learning_rate=0.1, segments_per_s=100, time_s=1.5),
            train(20, 0.8, "a", learning_rate=0.2, segments_per_s=300, time_s=2.5),
            evaluate(20, 0.4, "a"),
            train(5, 0.7, "b"),
            evaluate(7, 0.6, "b"),
            train(3, 0.6, "c"),
        ],
    )
    assert (first.name, first.first_step, first.num_steps) == ("a", 0, 20)
    assert (second.name, second.first_step, second.num_steps) == ("b", 20, 7)
    assert (third.name, third.first_step, third.num_steps) == ("c", 27, 3)
    assert first.loss.step.tolist() == [10, 20]
    assert first.loss.value.tolist() == [0.9, 0.8]
    assert first.learning_rate.value.tolist() == [0.1, 0.2]
    assert (first.seconds, first.segments_per_s) == (2.5, 200)
    assert len(second.learning_rate) == 0
    assert np.isnan(second.seconds)
    assert second.watched["v2"].step.tolist() == [7]


@pytest.mark.parametrize("tail", ['{"kind": "tra', "\xff\n", '{"kind"\n'])
def test_a_broken_last_line_is_skipped(tmp_path, tail):
    (phase,) = read(tmp_path, [train(10)], tail)
    assert phase.loss.step.tolist() == [10]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not an object"),
        ('{"kind": "train", "step": 1}', "line 2: no phase"),
        ('{"kind": "train", "phase": "a"}', "line 2: no step"),
        ('{"kind": "train", "phase": "a", "step": true}', "line 2: no step"),
        ('{"kind": "train", "phase": "a", "step": NaN}', "line 2: no step"),
    ],
)
def test_other_broken_lines_are_named(tmp_path, line, match):
    path = write_run(tmp_path, [train(10)], f"{line}\n{json.dumps(train(20))}\n")
    with pytest.raises(RunError, match=match):
        read_run_log(path / "metrics.jsonl")


def test_a_good_last_line_without_newline_counts(tmp_path):
    (phase,) = read(tmp_path, [train(10)], json.dumps(train(20)))
    assert phase.loss.step.tolist() == [10, 20]


def test_lines_of_other_kinds_are_passed_over(tmp_path):
    (phase,) = read(tmp_path, [train(10), {"kind": "note", "text": "x"}, train(20)])
    assert phase.loss.step.tolist() == [10, 20]


def test_a_resumed_run_takes_back_what_it_repeats(tmp_path):
    (phase,) = read(
        tmp_path,
        [train(10, 1), train(20, 2), evaluate(20, 0.2), train(30, 3), train(20, 4), train(25, 5)],
    )
    assert phase.loss.step.tolist() == [10, 20, 25]
    assert phase.loss.value.tolist() == [1, 4, 5]
    assert phase.num_steps == 25
    assert phase.watched["v2"].value.tolist() == [0.2]


def test_what_is_no_finite_number_is_not_drawn_but_counted(tmp_path):
    (phase,) = read(
        tmp_path,
        [train(10, float("nan")), train(20, float("inf")), train(30, 10**400), train(40, 0.5)],
    )
    assert phase.loss.step.tolist() == [40]
    assert phase.num_not_finite == 3


def test_an_mean_ap_of_none_is_no_evaluation(tmp_path):
    (phase,) = read(tmp_path, [train(10), {**evaluate(10, 0), "mean_ap": None}])
    assert phase.watched == {}


def test_v2_stands_first_among_the_splits(tmp_path):
    phases = read(tmp_path, [evaluate(1, 0.1, split="v1"), evaluate(1, 0.1), evaluate(1, 0.1, "b")])
    assert splits(phases) == ["v2", "v1"]


def test_the_best_is_the_first_of_the_highest_over_all_phases(tmp_path):
    phases = read(
        tmp_path,
        [
            *(train(s, phase="a") for s in (10, 20)),
            evaluate(10, 0.5, "a"),
            evaluate(20, 0.6, "a"),
            evaluate(5, 0.7, "b"),
            evaluate(9, 0.7, "b"),
            evaluate(9, 0.9, "b", split="v1"),
        ],
    )
    best = best_of(phases, "v2")
    assert (best.phase, best.step, best.whole_step, best.value) == ("b", 5, 25, 0.7)


def test_a_video_classifier_is_watched_by_gap(tmp_path):
    phases = read(
        tmp_path,
        [
            train(5, phase="a"),
            evaluate(10, 0.2, "b", measure="gap"),
            evaluate(20, 0.4, "b", measure="gap"),
            {**evaluate(30, 0.3, "b", measure="gap"), "hit_at_one": 0.9},
        ],
    )
    assert measure_name(phases) == "GAP@20"
    assert phases[1].watched["v2"].value.tolist() == [0.2, 0.4, 0.3]
    assert phases[1].num_steps == 30
    best = best_of(phases, "v2")
    assert (best.measure, best.step, best.whole_step, best.value) == ("gap", 20, 25, 0.4)


def test_where_both_were_logged_it_is_map_and_nothing_watched_is_map_too(tmp_path):
    (phase,) = read(tmp_path, [{**evaluate(10, 0.7), "gap": 0.2}, {**evaluate(20, 0.8), "gap": 1}])
    assert (phase.measure, phase.watched["v2"].value.tolist()) == ("mean_ap", [0.7, 0.8])
    assert measure_name(read(tmp_path, [train(10)])) == measure_name(()) == "mAP"


def test_measures_are_those_of_training():
    assert MEASURES == TRAINED_BY


def test_smoothing_is_a_centred_mean():
    values = np.random.default_rng(0).normal(size=23)
    smoothed = smooth(curve(*values), num_windows=4)
    for i, value in enumerate(smoothed.value):
        reach = min(23 // 8, i, 22 - i)
        assert value == pytest.approx(values[i - reach : i + reach + 1].mean())


def test_a_short_curve_is_not_smoothed():
    assert smooth(curve(3, 1, 2)).value.tolist() == [3, 1, 2]


def test_thinning_keeps_the_mean_of_equal_blocks():
    thinned = thin(curve(*range(12)), most=4)
    assert thinned.step.tolist() == [1, 4, 7, 10]
    assert thinned.value.tolist() == [1, 4, 7, 10]
    assert len(thin(curve(*range(5)), most=4)) == 4
    assert thin(curve(1, 2), most=2).value.tolist() == [1, 2]


def test_an_empty_log_has_no_phases(tmp_path):
    assert read(tmp_path, []) == ()


def test_a_recipe_is_read(tmp_path):
    assert read_recipe(write_run(tmp_path, []) / "recipe.json")["model"]["hidden"] == 256


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 13 + "1" + "}" * 13, "too deep"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, match):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(RunError, match=match):
        read_recipe(path)


def test_a_recipe_of_the_most_levels_is_read(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text('{"a":' * 12 + "1" + "}" * 12)
    assert read_recipe(path)
