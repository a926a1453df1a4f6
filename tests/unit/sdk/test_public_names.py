import jobcast


def test_every_public_name_is_there() -> None:
    assert all(getattr(jobcast, name) is not None for name in jobcast.__all__)
    assert list(jobcast.__all__) == sorted(jobcast.__all__)
