"""graphc: static graphs in, fused kernels out."""

from graphc.frontend.initializers import *  # noqa: F403
from graphc.frontend.framework import *  # noqa: F403
from graphc.frontend.scopes import *  # noqa: F403
from graphc.frontend import nn as nn
from graphc.frontend import train as train
from graphc.frontend.sources import *  # noqa: F403
from graphc.frontend.array import *  # noqa: F403
from graphc.frontend.gradients import gradients as gradients
from graphc.frontend.math import *  # noqa: F403
from graphc.frontend.linalg import *  # noqa: F403
from graphc.frontend.random import *  # noqa: F403
from graphc.frontend.variables import *  # noqa: F403
from graphc.ir.dtypes import float32, float64, int32, int64, bool_ as bool, float16, bfloat16
from graphc.ir.graph import Graph, get_default_graph, reset_default_graph
from graphc.runtime.explain import explain
from graphc.runtime.session import InteractiveSession, Session
