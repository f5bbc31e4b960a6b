"""Keys: our own, their rotation and withdrawal, and those of other issuers."""
