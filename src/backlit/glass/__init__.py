"""Looking at a run: proof that its gradients are right, and where each number comes from."""
