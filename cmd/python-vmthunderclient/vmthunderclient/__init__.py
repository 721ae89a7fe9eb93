"""Many volumes at once for the openstack command; see command.py."""
