from tests.support.lock import problems


def test_locks_name_every_dependency_with_hashes() -> None:
    assert problems() == []
