"""The score store: parts that are written once, look-up, upkeep, and files for other labs."""
