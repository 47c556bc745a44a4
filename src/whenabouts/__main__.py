"""`python -m whenabouts`, which is what torchrun needs: `torchrun -m whenabouts train ...`."""

import sys

from whenabouts.cli import main

sys.exit(main())
