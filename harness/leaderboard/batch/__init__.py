"""Making the runs of many submissions: reading what was handed in, stages, this machine or a cluster, scoring."""
