"""The pages for people. They work without scripts, by keyboard, and on a phone."""
