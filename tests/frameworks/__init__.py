"""One contract, eight frameworks, four servers in five set-ups: glasscache where people will put it."""
