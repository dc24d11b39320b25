"""What is true of genomes and variants without a model."""
