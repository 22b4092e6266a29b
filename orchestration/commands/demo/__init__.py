"""`beamline demo`: simulated measurements through the whole of it, on this machine."""
