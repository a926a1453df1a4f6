from api.limits import USERS_MAX, Rate


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_of_one_second_passes_then_the_rate_holds() -> None:
    clock = Clock()
    rate = Rate(10, clock)
    assert [rate.delay("a") for _ in range(10)] == [0] * 10
    assert 0 < rate.delay("a") <= 0.1
    assert rate.delay("b") == 0
    clock.now = 0.1
    assert rate.delay("a") == 0
    assert rate.delay("a") > 0


def test_idling_saves_up_no_more_than_one_burst() -> None:
    clock = Clock()
    rate = Rate(1, clock)
    clock.now = 100
    assert [rate.delay("a") > 0 for _ in range(2)] == [False, True]


def test_the_users_kept_are_bounded() -> None:
    rate = Rate(1, Clock())
    assert rate.delay("first") == 0
    for number in range(USERS_MAX):
        rate.delay(f"user{number}")
    assert rate.delay("first") == 0  # forgotten, as if idle
