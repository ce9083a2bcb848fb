"""`make dashboards-check`: every expression of every dashboard and alert, on real backends.

What is not on PyPI is installed below build/dashboards, by `programs.py`.
"""
