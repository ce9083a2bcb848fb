"""What the committed dashboards and alert rules are made by: `make dashboards`.

Needs the development group `dashboards`, stays out of the wheel, and is imported by nothing that users install.
"""
