"""What happened: the audit log, its history, the feed of what was denied, a line for each request."""
