"""The static leaderboard: standings in, files out. Knows neither the store nor PyTorch."""
