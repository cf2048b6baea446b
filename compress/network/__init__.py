"""The network as data: importing, building, shaping and describing it."""
