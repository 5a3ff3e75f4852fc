"""The other commands of make (plan, store, report, gallery, check-data, download, data), and what Slurm starts."""
