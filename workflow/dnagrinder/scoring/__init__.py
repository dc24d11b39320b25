"""Scores of alleles and regions: where genome and model meet."""
