"""The part of a ranking model that reads an online state; serving, loading and the replay share it."""
