"""Kernels to source text, one subpackage per back end. Pure: no device, no torch, no globals."""
