"""How the numeric kernels are compiled, and small linear algebra for them."""
