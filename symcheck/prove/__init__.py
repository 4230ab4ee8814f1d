"""Proofs: laws found, certificates written, mathematics shown (``docs/proof.md``)."""
