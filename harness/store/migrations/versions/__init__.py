"""One file per revision; none is ever edited after a release."""
