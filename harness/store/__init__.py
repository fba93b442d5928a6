"""The database of outcomes: bits, not percentages; one writer; a unique key per job."""
