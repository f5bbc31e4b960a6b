"""Signing in with an account of another issuer."""
