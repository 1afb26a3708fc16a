"""One Hypothesis profile: no property is judged by how busy the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("onecard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("onecard")
