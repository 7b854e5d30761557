"""A run's record: the journal, what it holds, what it was made with."""
