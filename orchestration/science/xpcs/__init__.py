"""X-ray photon correlation spectroscopy: raw frames or photon events, and a qmap, to g2 and two-time functions."""
