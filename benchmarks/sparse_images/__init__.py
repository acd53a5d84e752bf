"""Does sparsity simplify unlearning? The sparsity paper's Tables 2 and 3 and Figures 4, 5 and A1 on colour images."""
