"""A real Slurm in one directory: controller, accounting and several compute nodes, on one machine.

It lives in a mount namespace of its own, with its own users and its own `/pscratch` and `/global`: what the facility
sees, the machine around it does not, and nothing of it stays when it is stopped.
"""
