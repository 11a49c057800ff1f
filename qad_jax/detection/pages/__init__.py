"""Pages for a browser: one for each file that was judged, and one over all."""
