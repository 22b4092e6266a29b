"""Stand-in for Globus Compute: its web service, its AMQP broker, and endpoints that run tasks on this machine."""
