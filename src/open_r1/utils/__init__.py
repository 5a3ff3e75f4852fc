"""Small helpers that no single stage owns."""
