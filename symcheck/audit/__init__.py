"""The audit of optimizers that others wrote: which of them respects which symmetry, proved or refuted."""
