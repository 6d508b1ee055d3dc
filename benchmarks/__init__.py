"""Evidence for what the book says about speed: `make benchmark-NAME` for each module."""
