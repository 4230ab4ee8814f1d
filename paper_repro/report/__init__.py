"""The report: tables, figures and pages from the records alone."""
