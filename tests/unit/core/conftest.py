"""Hypothesis for the unit tests: few examples each, so that they are run at every save."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "core", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("core")
