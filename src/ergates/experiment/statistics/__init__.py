"""What finished runs say together: samples, intervals, tests, a comparison. Pure."""
