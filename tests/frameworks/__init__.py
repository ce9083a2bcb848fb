"""One contract, eight frameworks, five servers: glasscache where people will put it."""
