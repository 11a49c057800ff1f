"""From a stranger's file to a verdict: media, faces, scores, quality, words."""
