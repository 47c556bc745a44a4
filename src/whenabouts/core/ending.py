"""How a process ends that torchrun may have started."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """Exit with this code; at once where there are several processes, as usual where there is one.

    A thread of gloo may still be about to let go of a tensor of the last sum, for which it needs
    the interpreter. If the interpreter ends first, the whole process is aborted, and torchrun calls
    a training that succeeded a failure. Files are closed by then: only the streams hold anything.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
