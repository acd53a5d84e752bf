"""What people and programs read of an evaluation: pure functions of it, no running and no scoring."""
