"""What clients speak: OAuth 2.0, OpenID Connect, registration, and what a token says."""
