"""What holds for every test: none of them is a matter of time, on however busy a machine."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
