"""What a facility needs to run Globus Compute endpoints for this service: files for the daemon, and what lays them out.

A folder per facility and endpoint: ``compute`` runs jobs on batch nodes, ``non_compute`` light work on a login node.
The modules run at the facility, too, in the environment of the daemon: they import nothing but PyYAML.
"""
