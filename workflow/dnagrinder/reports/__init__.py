"""Everything a reader sees: annotated VCF, tables, HTML pages, MultiQC."""
