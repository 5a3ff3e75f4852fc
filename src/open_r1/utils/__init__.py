"""Small helpers that no single package owns: files, command entries, names, processes, provenance."""
