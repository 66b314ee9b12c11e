"""Moving in: what the import commands have in common, and what each of them reads.

A run (`runs`) takes its source in batches, each one transaction, and can be broken off, taken up again, and undone.
"""
