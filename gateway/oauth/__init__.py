"""The decisions of the OAuth endpoints as pure functions: parameters, records and `now` in, a decision out."""
