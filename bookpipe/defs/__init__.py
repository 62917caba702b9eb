"""What Dagster is told: assets, partitions, jobs, sensors. The only importer of dagster below the command line."""
