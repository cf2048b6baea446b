"""Which candidate to try next, and what is on the front; knows variables, choices and scores, nothing of networks."""
