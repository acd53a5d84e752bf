"""The comparison of methods with a training side: efficiency, effectiveness, consistency and certificates."""
