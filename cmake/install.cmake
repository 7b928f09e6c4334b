# Placeholder until the libraries exist.
