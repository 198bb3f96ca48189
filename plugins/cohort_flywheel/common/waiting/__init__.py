"""The base of sensors and triggers that wait for jobs of AWS services."""
