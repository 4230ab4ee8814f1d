"""Discovery: the largest certified group of an optimizer per axis, and what else characterises it.

Importing this package imports no torch.
"""
