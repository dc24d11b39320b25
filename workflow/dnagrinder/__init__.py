"""dnaGrinder: DNA variants and regions scored by a genomic language model."""

__version__ = "0.1.0"
