"""Timings of graphc against its peers and limits, each runnable alone and through `make bench`."""
