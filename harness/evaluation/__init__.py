"""From runs to a score: missing runs are made, all are scored against the reference, and what is odd is found."""
