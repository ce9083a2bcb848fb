"""The same site in each framework, written as that framework's users would."""
