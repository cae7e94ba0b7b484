"""How tensors travel from rank to rank."""
