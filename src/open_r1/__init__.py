"""Vision-EKIPL: row -> prompt -> candidates -> rewards -> selection -> GRPO update -> metrics."""
