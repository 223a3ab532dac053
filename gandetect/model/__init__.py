"""What a fit learns: from a sample in the user's units to its score and label."""
