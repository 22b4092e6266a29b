"""NERSC by its Superfacility API: jobs of its Slurm, and what it says about itself."""
