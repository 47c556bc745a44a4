"""What a training watches on V2: by its key in the log, and as people call it."""

from __future__ import annotations

from typing import Literal

Measure = Literal["mean_ap", "gap"]

# Segment models are watched by mAP, video classifiers by GAP.
MEASURES: dict[Measure, str] = {"mean_ap": "mAP", "gap": "GAP@20"}
