"""Looks at everything that a scan needs on its way, and says what does not work and what to do about it."""
