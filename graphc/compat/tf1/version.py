"""The version of TensorFlow whose API this is."""

VERSION = "1.15.0"
GIT_VERSION = "graphc"
COMPILER_VERSION = "graphc"

__all__ = ["COMPILER_VERSION", "GIT_VERSION", "VERSION"]
