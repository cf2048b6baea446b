"""What can be done to a network, and doing it."""
