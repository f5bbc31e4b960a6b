"""Who may have which scope on which path, now and at any time before."""
