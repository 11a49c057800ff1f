"""From the scores of a split to numbers with intervals, and the report of them."""
