"""What clients see while each neighbour of the gateway is killed, stalled or corrupted under load."""
