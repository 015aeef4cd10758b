"""What every node is made of: states, parameters, QoS, images in."""
