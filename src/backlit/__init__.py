"""Neural networks with backpropagation you can see through."""
