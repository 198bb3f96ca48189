"""Configuration: the models of cohorts.yaml, its loader, and the Airflow Variables."""
