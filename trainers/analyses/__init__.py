"""What is measured on a trained model after its evaluation: one file for each analysis."""
