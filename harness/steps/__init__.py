"""Steps: how the learning rate moves and how many updates a batch gets."""
