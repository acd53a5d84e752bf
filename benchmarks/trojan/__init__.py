"""Does unlearning clean a trojan, and does sparsity help? Figure 6 of the sparsity paper, in small."""
