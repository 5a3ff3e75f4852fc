"""What was bought is never bought again: replies, ledger, Parquet in and out, collecting."""
