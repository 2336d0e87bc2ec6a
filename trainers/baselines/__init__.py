"""What needs no neural network: the scores that a trained model has to beat."""
