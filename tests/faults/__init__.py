"""The responses that clients get while each dependency of the gateway fails under load."""
