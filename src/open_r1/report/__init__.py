"""What finished runs show: takes their folders, writes tables, figures and the gallery."""
