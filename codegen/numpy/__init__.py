"""The NumPy back end: kernels as flat lists of ufunc calls, tiled so that they stay in cache."""
