"""Names of made topics: siblings share their second word, as alike as they look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_KINDS = """
Acrobatic Alpine Amateur Ancient Arctic Autumn Backyard Balcony Beach Bedroom Canal Candlelit
Carnival Castle Cellar Championship Classroom Coastal Country Courtyard Desert Double Downtown
Dusty Electric Evening Festival Floating Forest Freestyle Frozen Garage Garden Giant Glacier
Harbour Highland Homemade Hotel Indoor Island Jungle Junior Kitchen Lakeside Lantern Lowland
Market Masked Meadow Midnight Miniature Morning Mountain Museum Night Northern Ocean Orchard Paper
Pocket Prairie Quayside Rainy Riverside Rooftop Rustic School Silent Snowy Stadium Street Studio
Summer Synchronised Tandem Tropical Underwater Village Winter
"""

_SUBJECTS = """
Accordion Archery Badminton Baking Ballet Balloon Barbecue Basketry Beekeeping Billiards
Blacksmith Bonfire Bowling Breakdance Bridge Camping Canoe Carpentry Cello Chess Choir Climbing
Clockmaking Comedy Cycling Diving Drumming Embroidery Falconry Fencing Ferry Fireworks Fishing
Flute Gliding Glassblowing Guitar Gymnastics Hiking Hockey Horse Juggling Karate Kite Knitting
Locomotive Magic Origami Orchestra Parade Piano Pottery Puppet Robot Rowing Sailing Skating Skiing
Surfing Tennis Tractor Trampoline Volleyball Wrestling
"""
KINDS, SUBJECTS = _KINDS.split(), _SUBJECTS.split()


def topic_names(rng: np.random.Generator, family: NDArray[np.int64]) -> tuple[str, ...]:
    """A distinct name for each class; `family` [C] says which classes are siblings.

    Enough kinds a subject: MAX_CLASSES classes in families of at most MAX_FAMILY have names.
    """
    subjects = rng.permutation(len(SUBJECTS))[family % len(SUBJECTS)]
    kinds = np.array([rng.permutation(len(KINDS)) for _ in SUBJECTS])
    used = np.zeros(len(SUBJECTS), np.int64)
    names = []
    for subject in subjects:
        names.append(f"{KINDS[kinds[subject, used[subject]]]} {SUBJECTS[subject]}")
        used[subject] += 1
    return tuple(names)
