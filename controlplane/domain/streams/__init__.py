"""Live streams and the sessions of the peers that publish and watch them."""
