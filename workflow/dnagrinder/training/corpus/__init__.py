"""The training corpus: what is read from genomes, cut into segments and written as shards."""
