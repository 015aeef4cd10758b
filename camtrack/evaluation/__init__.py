"""`camtrack evaluate`: which score a recording gets, by which rules."""
