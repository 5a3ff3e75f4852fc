"""What was bought is never bought again: replies and dollars in one SQLite file, Parquet in and out."""
