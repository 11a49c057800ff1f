"""Built datasets in the formats of other programs, and back: every record bit for bit."""
