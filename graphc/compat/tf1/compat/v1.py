"""`tf.compat.v1`: this very API."""

import sys

import graphc.compat.tf1

sys.modules[__name__] = graphc.compat.tf1
