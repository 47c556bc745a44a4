import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from report_world import (
    HOSTILE,
    evaluate,
    make_labels,
    make_scores,
    train,
    with_attention,
    write_run,
)

from whenabouts.metrics.calibration import Calibration, calibrate_pairs
from whenabouts.report import style
from whenabouts.report.plot_calibration import draw_calibration
from whenabouts.report.plot_classes import (
    draw_ap_against,
    draw_ap_of_frequency,
    draw_extremes,
    draw_sorted_ap,
)
from whenabouts.report.plot_precision_recall import draw_precision_recall
from whenabouts.report.plot_timeline import draw_timeline, step_points, tick_s
from whenabouts.report.plot_training import draw_training
from whenabouts.report.precision_recall import precision_recall
from whenabouts.report.run_log import read_run_log
from whenabouts.report.style import inline_svg, save_png, spread
from whenabouts.report.timelines import Choice, build_timeline


def texts(svg):
    """The texts of an SVG, as a reader of the page meets them."""
    found, stack = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, name, attributes):
            stack.append(name)

        def handle_endtag(self, name):
            assert stack.pop() == name

        def handle_data(self, text):
            if stack and stack[-1] == "text":
                found.append(text)

    Reader().feed(svg)
    assert not stack
    return found


def timeline(values=((0.1, 0.9), (0.8, 0.2), (0.7, 0.3)), rated=(), **more):
    truth = make_labels(list(rated))
    return build_timeline(truth, make_scores(values, **more), Choice(0, 1.0, "x"))


def test_step_points_are_level_over_a_segment_and_break_at_gaps():
    x, y = step_points(np.array([0, 5, 20]), np.array([5, 10, 25]), np.array([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(x, [0, 5, 5, 10, 10, 20, 25])
    np.testing.assert_array_equal(y, [0.1, 0.1, 0.2, 0.2, np.nan, 0.3, 0.3])


@pytest.mark.parametrize("seed", range(20))
def test_spread_keeps_order_gap_and_bounds(seed):
    wanted = np.random.default_rng(seed).random(6).round(1)
    heights = spread(wanted, 0.15, 0.0, 1.0)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(heights[order]) >= 0.15 - 1e-9).all()
    assert heights.min() >= -1e-9
    assert heights.max() <= 1 + 1e-9


def test_spread_moves_nothing_that_is_far_enough_apart():
    np.testing.assert_allclose(spread(np.array([0.9, 0.1, 0.5]), 0.2, 0, 1), [0.9, 0.1, 0.5])


def test_spread_moves_a_cluster_to_both_sides():
    np.testing.assert_allclose(spread(np.array([0.5, 0.5]), 0.2, 0, 1), [0.4, 0.6])
    np.testing.assert_allclose(spread(np.array([0.9, 0.95, 1.0]), 0.2, 0, 1), [0.6, 0.8, 1.0])
    np.testing.assert_allclose(spread(np.array([0.0, 0.0, 0.9]), 0.2, 0, 1), [0.0, 0.2, 0.9])


def test_spread_shrinks_the_gap_where_all_do_not_fit():
    np.testing.assert_allclose(spread(np.zeros(5), 0.5, 0.0, 1.0), [0, 0.25, 0.5, 0.75, 1])
    assert spread(np.array([]), 0.5, 0.0, 1.0).tolist() == []


@pytest.mark.parametrize(("end", "step"), [(10, 5), (60, 5), (61, 10), (120, 10), (300, 30)])
def test_ticks_are_round_seconds(end, step):
    assert tick_s(end) == step


def test_filled_dots_are_positive_and_rings_negative_at_time_and_score():
    rated = [(b"vid0", 0, 10, 0.0), (b"vid0", 5, 10, 1.0), (b"vid0", 10, 11, 1.0)]
    axes = draw_timeline(timeline(rated=rated)).axes[0]
    marks = {
        (float(x), round(float(y), 3), line.get_markerfacecolor(), line.get_markeredgecolor())
        for line in axes.lines
        if line.get_marker() == "o"
        for x, y in zip(line.get_xdata(), line.get_ydata())
    }
    first, second = style.SERIES[:2]
    assert marks == {
        (2.5, 0.1, style.PAPER, first),
        (7.5, 0.8, first, first),
        (12.5, 0.3, second, second),
    }


def test_the_time_axis_ends_with_the_video():
    axes = draw_timeline(timeline(starts=[0, 5, 20])).axes[0]
    assert axes.get_xlim() == (0, 25)
    assert axes.get_xlabel() == "time (s)"


def attended(segments=(0.5, 0.25, 0.125)):
    """Three segments of five frames, of which the last has two."""
    frames = np.linspace(0.1, 0.8, 15).reshape(3, 5)
    frames[2, 2:] = np.nan
    scores = with_attention(make_scores([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3]]), frames, segments)
    return build_timeline(make_labels([]), scores, Choice(0, 1.0, "x"))


def outline(axes):
    """Height of the filled lane in the middle of each second."""
    (area,) = axes.collections
    x, y = area.get_paths()[0].vertices.T
    top = (x[1:] == x[:-1]).nonzero()[0]
    edges = sorted({*x[top].tolist(), x.min(), x.max()})
    return {
        second: max(y[i] for i in range(len(x) - 1) if x[i] <= second <= x[i + 1])
        for second in np.arange(edges[0], edges[-1]) + 0.5
    }


def test_lanes_show_a_column_a_segment_and_a_column_a_frame():
    scores, segments, frames = draw_timeline(attended()).axes
    heights = outline(segments)
    assert [heights[k + 0.5] for k in (0, 4, 5, 9, 10, 14)] == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    heights = outline(frames)
    expected = np.linspace(0.1, 0.8, 15)[:12]
    np.testing.assert_allclose([heights[k + 0.5] for k in range(12)], expected, atol=1e-3)
    assert max(heights) < 12, "the last segment has two frames"
    assert segments.get_ylim() == (0, 0.5)
    assert frames.get_ylim() == pytest.approx((0, expected.max()), abs=1e-3)
    assert scores.get_xlim() == segments.get_xlim() == frames.get_xlim() == (0, 15)
    assert [axes.get_xlabel() for axes in (scores, segments, frames)] == ["", "", "time (s)"]


def test_lanes_stand_below_the_scores_and_make_the_figure_higher():
    plain, figure = draw_timeline(timeline()), draw_timeline(attended())
    higher = figure.get_figheight() / plain.get_figheight()
    whole, *rest = [axes.get_position() for axes in figure.axes]
    before = plain.axes[0].get_position()
    assert len(rest) == 2
    assert whole.height * higher == pytest.approx(before.height)
    for above, below in zip([whole, *rest], rest):
        assert below.y1 < above.y0
        assert (below.x0, below.x1) == (before.x0, before.x1)
    assert rest[-1].y0 * higher == pytest.approx(before.y0)


def test_lanes_are_named_with_their_highest_value_in_no_topics_colour():
    figure = draw_timeline(attended())
    colours = {to_hex(axes.collections[0].get_facecolor()[0]) for axes in figure.axes[1:]}
    assert colours == {style.BASELINE}
    svg = inline_svg(figure, "k", "alt")
    names = {text for text in texts(svg) if text.startswith("attention")}
    assert names == {"attention of segments, up to 0.5", "attention of frames, up to 0.65"}
    assert not set(re.findall(r"#[0-9a-f]{6}", svg))
    assert not [text for text in texts(inline_svg(draw_timeline(timeline()), "k", "alt"))
                if text.startswith("attention")]  # fmt: skip


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_lane_without_attention_is_empty(value):
    """Also where a damaged file holds no numbers."""
    figure = draw_timeline(attended(segments=[value] * 3))
    assert figure.axes[1].get_ylim() == (0, 1)
    assert "up to 0" in inline_svg(figure, "k", "alt")


def test_topics_are_named_as_they_are():
    names = tuple(name for name in HOSTILE if name)
    svg = inline_svg(draw_timeline(timeline([[0.5] * len(names)], names=names)), "k", "alt")
    assert "<script" not in svg
    assert "<img" not in svg
    assert {"<script>alert(1)</script>", "\"quoted\" & 'single'", "$\\frac{1$ dollars"} <= {
        *texts(svg)
    }


def test_ids_of_two_figures_do_not_clash_and_every_reference_is_met():
    svgs = [inline_svg(draw_timeline(timeline()), key, "alt") for key in ("a", "b")]
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in svgs]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip(svgs, ids):
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) == own


def test_an_inline_svg_has_no_namespace_no_style_sheet_and_an_alternative_text():
    svg = inline_svg(draw_timeline(timeline()), "k", 'say "it"')
    assert "http" not in svg
    assert "<style" not in svg
    assert "<?xml" not in svg
    assert svg.startswith('<svg viewBox="0 0 720 ')
    assert 'role="img" aria-label="say &quot;it&quot;"' in svg
    assert "DejaVu" not in svg


def test_colours_follow_the_page():
    svg = inline_svg(draw_timeline(timeline()), "k", "alt")
    assert "var(--s0)" in svg
    assert not set(re.findall(r"#[0-9a-f]{6}", svg))


def test_equal_figures_give_equal_bytes_and_leave_the_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    first, second = (inline_svg(draw_timeline(timeline()), "k", "alt") for _ in range(2))
    assert first == second
    for name in ("a.png", "b.png"):
        save_png(tmp_path / name, draw_timeline(timeline(), title="Video $x"))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert dict(matplotlib.rcParams) == before


def test_sorted_ap_and_extremes_are_in_order():
    ap = np.array([0.2, 0.9, np.nan, 0.5])
    chance = np.array([0.1, 0.4, np.nan, 0.3])
    stairs = draw_sorted_ap(ap, chance).axes[0].patches[0].get_data()
    assert stairs.values.tolist() == [0.9, 0.5, 0.2]
    assert stairs.edges.tolist() == [0.5, 1.5, 2.5, 3.5]
    best, worst = draw_extremes(ap, chance, ["w", "x", "y", "z"], 20).axes
    assert [t.get_text() for t in best.get_yticklabels()] == ["x", "z"]
    assert [t.get_text() for t in worst.get_yticklabels()] == ["w"]
    assert [bar.get_width() for bar in best.patches] == [0.9, 0.5]
    assert best.get_title(loc="left") == "2 best"


def test_scatter_holds_a_dot_a_class_with_ap():
    ap, chance = np.array([0.2, np.nan, 0.5]), np.array([0.1, np.nan, 0.3])
    left, right = draw_ap_against(ap, chance, np.array([7, 0, 9])).axes
    assert left.lines[0].get_xydata().tolist() == [[7, 0.2], [9, 0.5]]
    assert right.lines[0].get_xydata().tolist() == [[0.1, 0.2], [0.3, 0.5]]


def test_precision_recall_panels_show_the_curve_and_the_share_of_positives():
    truth = make_labels([(b"vid0", 5 * i, 10, float(i % 2 == 0)) for i in range(4)])
    scores = make_scores([[0.9], [0.8], [0.7], [0.6]])
    figure = draw_precision_recall([precision_recall(truth, scores, 10, 100, "best")] * 7)
    panel = figure.axes[0]
    np.testing.assert_allclose(panel.lines[0].get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose(panel.lines[0].get_ydata(), [1, 1, 2 / 3])
    assert panel.lines[1].get_ydata()[0] == 0.5
    assert panel.get_title(loc="left") == "topic 10\nbest, AP 0.833"
    assert sum(axes.axison for axes in figure.axes) == 7


def test_a_class_none_of_whose_positives_are_listed_has_an_empty_panel():
    truth = make_labels([(b"vid0", 5 * i, 10, float(i == 3)) for i in range(4)])
    scores = make_scores([[0.9], [0.8], [0.7], [0.6]])
    [panel, *_] = draw_precision_recall([precision_recall(truth, scores, 10, 2, "worst")]).axes
    [share] = panel.lines
    assert share.get_ydata()[0] == 0.25
    assert panel.get_title(loc="left") == "topic 10\nworst, AP 0.000"


def training(tmp_path, records):
    return draw_training(read_run_log(write_run(tmp_path, records) / "metrics.jsonl"))


def test_phases_are_drawn_one_after_another_with_the_best_named(tmp_path):
    figure = training(
        tmp_path,
        [
            train(10, 0.9, "a", learning_rate=0.1),
            train(20, 0.8, "a", learning_rate=0.1),
            evaluate(20, 0.4, "a"),
            train(10, 0.7, "b", learning_rate=0.2),
            evaluate(10, 0.6, "b"),
        ],
    )
    loss, rate, mean_ap = figure.axes
    np.testing.assert_array_equal(loss.lines[1].get_xdata(), [10, 20, np.nan, 30, np.nan])
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), [0.1, 0.1, np.nan, 0.2, np.nan])
    np.testing.assert_array_equal(mean_ap.lines[0].get_xdata(), [20, np.nan, 30, np.nan])
    assert mean_ap.lines[1].get_xydata().tolist() == [[30, 0.6]]
    assert [t.get_text() for t in mean_ap.texts] == ["V2: best 0.600 at step 10 of b"]
    assert [t.get_text() for t in loss.texts] == ["a", "b"]


def test_gap_is_drawn_where_it_was_watched(tmp_path):
    records = [train(10), evaluate(10, 0.2, measure="gap"), evaluate(20, 0.3, measure="gap")]
    axes = training(tmp_path, records).axes[-1]
    assert axes.get_ylabel() == "GAP@20 on V2"
    assert axes.lines[0].get_xydata().tolist()[:2] == [[10, 0.2], [20, 0.3]]
    axes = training(tmp_path, [evaluate(10, 0.2)]).axes[-1]
    assert axes.get_ylabel() == "mAP on V2"


CALIBRATION = Calibration(np.array([80, 20, 10]), np.array([0, 4, 9]), np.array([0.08, 2.0, 8.0]))


def test_the_reliability_diagram_holds_the_groups_and_their_intervals():
    linear, logarithmic = draw_calibration(CALIBRATION).axes
    points = [[0.001, 0], [0.1, 0.2], [0.8, 0.9]]
    np.testing.assert_allclose(linear.lines[1].get_xydata(), points)
    np.testing.assert_allclose(logarithmic.lines[1].get_xydata(), points[1:])
    for axes, shown in ((linear, [0, 1, 2]), (logarithmic, [1, 2])):
        low, high = CALIBRATION.share_interval()
        bars = [[(x, y) for x, y in path.vertices] for path in axes.collections[0].get_paths()]
        expected = [[(points[k][0], low[k]), (points[k][0], high[k])] for k in shown]
        np.testing.assert_allclose(bars, expected)
        (x, y) = axes.lines[0].get_data()
        assert list(x) == list(y), "the dashes are the diagonal"
    assert [t.get_text() for t in linear.texts] == [f"ECE {CALIBRATION.ece:.4f}"]
    assert logarithmic.get_xlim() == logarithmic.get_ylim() == (0.0005, 1.5)
    assert (logarithmic.get_xscale(), logarithmic.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("score", [0.0, 1.0, 1e-9])
def test_a_diagram_of_one_group(score):
    found = calibrate_pairs(np.array([False, False]), np.full(2, score, np.float32))
    linear, logarithmic = draw_calibration(found).axes
    assert linear.lines[1].get_xydata().tolist() == [[pytest.approx(score), 0]]
    assert logarithmic.get_xlim()[0] >= 5e-7
    assert inline_svg(draw_calibration(found), "k", "alt")


def test_the_scatter_of_frequency_holds_a_dot_a_class_and_the_random_order():
    ap, chance = np.array([0.2, np.nan, 0.5, 0.4]), np.array([0.1, np.nan, 0.3, 0.05])
    for largest, scale in ((60, "linear"), (61, "log")):
        (axes,) = draw_ap_of_frequency(ap, chance, np.array([7, 0, largest, 2])).axes
        assert axes.lines[0].get_xydata().tolist() == [[7, 0.2], [largest, 0.5], [2, 0.4]]
        assert axes.lines[1].get_xydata().tolist() == [[2, 0.05], [7, 0.1], [largest, 0.3]]
        assert axes.get_xscale() == scale


def test_only_what_was_logged_gets_a_panel(tmp_path):
    assert len(training(tmp_path / "a", [train(1), train(2)]).axes) == 1
    assert len(training(tmp_path / "b", [evaluate(1, 0.5)]).axes) == 1


def test_a_loss_over_many_decades_stands_on_a_logarithmic_axis_with_plain_numbers(tmp_path):
    wide = training(tmp_path / "a", [train(s, 10.0 / s**2) for s in range(1, 50)])
    narrow = training(tmp_path / "b", [train(s, 10.0 / s) for s in range(1, 20)])
    assert wide.axes[0].get_yscale() == "log"
    assert narrow.axes[0].get_yscale() == "linear"
    labels = texts(inline_svg(wide, "k", "alt"))
    assert "0.1" in labels
    assert not [label for label in labels if "$" in label or "^" in label]


def test_a_styled_function_styles_only_itself():
    before = matplotlib.rcParams["font.size"]
    assert style.styled(lambda: matplotlib.rcParams["font.size"])() == style.STYLE["font.size"]
    assert matplotlib.rcParams["font.size"] == before
    assert isinstance(draw_timeline(timeline()), Figure)
