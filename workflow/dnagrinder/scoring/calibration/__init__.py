"""From scores to ACMG/AMP evidence: thresholds measured on labelled variants, kept in a file, applied within its scope."""
