"""Pairs of sentences with one label: entailment (XNLI) and paraphrase (PAWS-X)."""
