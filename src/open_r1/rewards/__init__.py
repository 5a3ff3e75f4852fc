"""The graders: tags, then mathematics or spatial functions."""
