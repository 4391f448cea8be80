"""Training."""

from graphc.frontend.optimizers import *  # noqa: F403
from graphc.frontend.schedules import *  # noqa: F403
