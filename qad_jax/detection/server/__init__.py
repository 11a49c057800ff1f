"""The service `qad-jax serve`: a page and an interface over HTTP, in front of the detector."""
