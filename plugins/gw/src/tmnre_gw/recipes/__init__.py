"""Ready analyses of binary black holes."""
