"""Where the work runs: joins search, compression and prices, and spreads them over Ray."""
