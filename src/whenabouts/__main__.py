"""`python -m whenabouts`, which is what torchrun needs: `torchrun -m whenabouts train ...`."""

from whenabouts.cli import main
from whenabouts.core.ending import end_process

end_process(main())
