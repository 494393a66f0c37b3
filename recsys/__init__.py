"""How we rank: the text encoder, the ranker, their evaluation, their registry and their serving."""
