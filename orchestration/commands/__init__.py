"""The commands of `beamline`, a module per group."""
