"""What the words of the page mean, by the kind of scores it is about."""

from __future__ import annotations

from whenabouts.metrics.calibration import NUM_BINS
from whenabouts.report.inputs import ReportInputs
from whenabouts.report.layout import section
from whenabouts.report.markup import Markup, tag

OF_VIDEO_METRICS = {
    "GAP": "Global average precision: the 20 best-scored topics of every video in one list, best "
    "first; the mean, over all labels of all videos, of the share of labels among the entries down "
    "to that one. A label that is not in the list adds 0.",
    "Hit@1": "The share of the labelled videos whose best-scored topic is one of their labels.",
    "PERR": "Precision at equal recall rate: of a video with n labels, the share of labels among "
    "its n best-scored topics; the mean over the labelled videos.",
}

OF_SEGMENTS = {
    "AP": "For each class the segments are listed by falling score and the list is cut after K "
    "entries; entries that nobody rated for the class are dropped. AP is the mean, over all rated "
    "positives of the class, of the share of positives among the entries down to that one; a "
    "positive that is not in the list adds 0.",
    "mAP@K": "The mean of AP over the classes that have a rated positive.",
    "Random order": "The exact expectation of AP if all segments stood in random order. It is high "
    "where most rated pairs are positive, and low where a list cannot hold all segments.",
    "Precision and recall": "Over the same entries; recall counts all rated positives of the class "
    "and the steps run through the points at the positives, so the area below them is the AP.",
    "AP of a video": "The same measure within one video: the rated segments of a topic by falling "
    "score, then the mean over the topics that were rated both positive and negative there. By it "
    "the videos have places: 1 is the best, and equals share one.",
}

OF_VIDEOS = {
    "AP": "For each class the videos are listed by falling score. AP is the mean, over the videos "
    "with the label, of the share of such videos among the entries down to that one.",
    "mAP": "The mean of AP over the classes that some video has.",
    "Random order": "The exact expectation of AP if the videos stood in random order: about the "
    "share of videos with the label.",
    "AP of a video": "The same measure within one video: its topics by falling score, and the "
    "share of labels among the entries down to each label, averaged. By it the videos have "
    "places: 1 is the best, and equals share one.",
}

OF_SYSTEM = {
    "The paper": "The published system, 11th place of the 3rd YouTube-8M challenge (2019), and the "
    "mAP that it reports there: of each kind of model, and of each ensemble after fusion with a "
    "video classifier.",
    "Deviation": "With several repeats (other seeds), a mean stands with the standard deviation of "
    "the repeats (n - 1).",
    "Across halves": "The videos of V2 are cut in two halves; what a search chooses on the one is "
    "scored on the other, both ways, and averaged. What V2 itself chose looks better on V2 than it "
    "is; this does not.",
    "Gain of a class": "AP of the best result less AP of the best single model, of one repeat.",
}

OF_BOTH = {
    "Calibration": "Pairs of an item and a class are sorted by score and cut into at most "
    f"{NUM_BINS} groups of equal mass; half of the mass is shared out by number of pairs, half by "
    "sum of scores, so that the few likely pairs of a large vocabulary are not all in one group.",
    "ECE": "Expected calibration error: the distance of the share of positives from the mean score "
    "of a group, averaged over the groups, each weighted by its pairs. It says how far off a score "
    "is on average; it depends on the groups, and is small where most scores are near 0.",
    "Training loss": "As logged; its scale depends on the loss of the phase, so that phases need "
    "not be comparable. The running mean is centred and spans a fortieth of the phase.",
}


def definitions_section(inputs: ReportInputs) -> Markup:
    terms = [tag("p", tag("strong", term), f". {text}") for term, text in _terms(inputs).items()]
    return section("definitions", "Definitions", *terms)


def _terms(inputs: ReportInputs) -> dict[str, str]:
    of_system = OF_SYSTEM if inputs.tables else {}
    if inputs.videos is not None:
        return {**OF_VIDEO_METRICS, **OF_VIDEOS, **OF_BOTH, **of_system}
    of_videos = OF_VIDEO_METRICS if inputs.video_metrics else {}
    return {**OF_SEGMENTS, **of_videos, **OF_BOTH, **of_system}
