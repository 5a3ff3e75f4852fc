"""What a finished run shows: its folder, figures, the paper's table, the gallery."""
