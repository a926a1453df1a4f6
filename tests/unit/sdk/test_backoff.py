from jobcast.backoff import CAP_S, delay_after, jitter


def test_the_limit_doubles_and_is_capped() -> None:
    for failures in (0, 1, 5, 10_000):
        delays = [delay_after(failures) for _ in range(200)]
        assert all(0 <= delay <= min(CAP_S, 0.2 * 2 ** min(failures, 30)) for delay in delays)


def test_the_whole_range_is_used() -> None:
    delays = [jitter(10) for _ in range(500)]
    assert min(delays) < 2
    assert max(delays) > 8
