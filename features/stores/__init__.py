"""Key-value stores: what the online state needs of one, LMDB for one machine, Redis for many."""
