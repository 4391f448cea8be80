"""The two languages of graphc: the graph IR with its op table, and the loop IR of kernels.

Everything else imports this package; it imports nothing else of graphc.
"""
