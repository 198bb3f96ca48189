"""Airflow glue: templates, context, deferral, XCom. Thin."""
