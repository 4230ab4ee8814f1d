"""Checks certificates and refutations. Standard library only."""
