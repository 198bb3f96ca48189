"""The pages in Airflow's UI, and the figures that they show."""
