"""The GoodNet: the original network and the repaired one in one, in folders and in single files."""
