"""Freed memory stays with this process, for the next allocation.

glibc takes blocks above 32 MB from the system one by one and gives each back as soon as it is
freed. A training step on a CPU goes through gigabytes of such blocks, and every page of each costs
a fault and is zeroed anew: a third of the step. Other C libraries and systems are left as they are.
"""

from __future__ import annotations

import ctypes
import sys

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

NEVER = -1


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed; returns whether it will.

    For commands to call as they start: it is a matter of the whole process. The process then stays
    as large as it ever was, which its peak, the batch's doing, does not notice.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # From the heap alone, and its top is never cut off.
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER))
