"""`p2r train RECIPE --check`: what would go wrong in a training, found before it is paid for."""
