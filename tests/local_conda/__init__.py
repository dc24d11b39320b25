"""A conda that needs no network: a channel made of this machine's own packages, and the calls that Snakemake makes."""
