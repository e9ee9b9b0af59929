"""Training code: everything that is needed to make the weights, nothing that is needed to use them."""
