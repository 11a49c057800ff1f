"""The training loop: what one device does in a step, all devices, and what they are fed."""
