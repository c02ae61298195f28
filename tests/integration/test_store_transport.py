"""The door to the database, the same over every transport and server."""

from __future__ import annotations

import threading

import psycopg
import pytest

from engine.errors import Conflict, NotFound, SchemaError, StoreRefused, StoreUnavailable, UsageError
from engine.store import Transport, migrate

FUNCTIONS = """
create function public.syncdesk_t_echo(p_text text, p_number integer, p_flag boolean, p_json jsonb, p_none text)
    returns jsonb language sql security definer set search_path = '' as $$
    select jsonb_build_object('text', p_text, 'number', p_number, 'flag', p_flag, 'json', p_json, 'none', p_none) $$;
create function public.syncdesk_t_null() returns jsonb language sql as $$ select null::jsonb $$;
create function public.syncdesk_t_list(p_n integer) returns jsonb language sql as $$
    select jsonb_agg(g) from generate_series(1, p_n) g $$;
create function public.syncdesk_t_money(p_amount numeric) returns jsonb language sql as $$
    select jsonb_build_object('amount', p_amount::text) $$;
create function public.syncdesk_t_refuse(p_state text, p_sentence text) returns jsonb language plpgsql as $$
    begin raise exception using errcode = p_state, message = p_sentence; end $$;
create function public.syncdesk_t_unique() returns jsonb language plpgsql security definer set search_path = '' as $$
    begin
        insert into syncdesk.users (name) values ('Zebra Confidential');
        insert into syncdesk.users (name) values ('Zebra Confidential');
        return '1';
    end $$;
create function public.syncdesk_t_sleep() returns jsonb language sql set statement_timeout = '200ms' as $$
    select to_jsonb(pg_catalog.pg_sleep(30)::text) $$;
create function public.syncdesk_t_nap() returns jsonb language sql set statement_timeout = '20s' as $$
    select to_jsonb(pg_catalog.pg_sleep(0.3)::text) $$;
create function public.syncdesk_t_drowse() returns jsonb language sql as $$
    select to_jsonb(pg_catalog.pg_sleep(0.3)::text) $$;
create function public.syncdesk_t_bad_number(p_text text) returns jsonb language sql as $$
    select to_jsonb(p_text::numeric::text) $$;
select syncdesk.secure();
notify pgrst, 'reload schema';
"""


@pytest.fixture
def store_with(any_database_url: str, any_store: Transport) -> Transport:
    """The transport under test, to a database that has the functions above."""
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        connection.execute(FUNCTIONS)
    return any_store


def test_values_arrive_and_return_as_they_are(store_with: Transport) -> None:
    given = {
        "text": "naïve 'quoted' \\ %s 🏦 日本",
        "number": 2_000_000_000,
        "flag": False,
        "json": {"a": [1, "zwei", None, True], "deep": {"x": "1.10"}},
        "none": None,
    }
    assert store_with.call("t_echo", **given) == given
    assert store_with.call("t_echo", **(given | {"json": ["a", {"b": []}]}))["json"] == ["a", {"b": []}]


def test_large_values_arrive_whole(store_with: Transport) -> None:
    page = {"rows": [{"name": "Café 'quoted' \\ 🏦", "amount": "12.50"}] * 5000, "flag": True}
    text = "x'\\%é\n" * 50_000
    answer = store_with.call("t_echo", text=text, number=-1, flag=True, json=page, none=None)
    assert answer["json"] == page
    assert answer["text"] == text


def test_a_large_call_that_is_refused_leaves_the_connection_usable(store_with: Transport) -> None:
    for _ in range(20):
        with pytest.raises(NotFound, match="big"):
            store_with.call("t_refuse", state="SD404", sentence="big " * 10_000)
    assert store_with.call("t_list", n=2) == [1, 2]


@pytest.mark.parametrize("text", ["a\x00b", "half \ud83d"])
@pytest.mark.parametrize("kind", ["text", "json"])
def test_what_no_text_can_hold_is_refused_for_good(store_with: Transport, text: str, kind: str) -> None:
    given = {"text": "x", "number": 1, "flag": True, "json": {}, "none": None}
    with pytest.raises(StoreRefused) as caught:
        store_with.call("t_echo", **(given | {kind: text if kind == "text" else {"deep": [text]}}))
    assert caught.value.detail["sqlstate"] == "22P05"
    assert not caught.value.retryable
    assert store_with.call("t_list", n=1) == [1]


def test_null_and_bare_values(store_with: Transport) -> None:
    assert store_with.call("t_null") is None
    assert store_with.call("t_money", amount="123456789012345.67") == {"amount": "123456789012345.67"}


def test_a_list_longer_than_the_row_limit_arrives_whole(store_with: Transport) -> None:
    assert store_with.call("t_list", n=2500) == list(range(1, 2501))


@pytest.mark.parametrize(("state", "kind"), [("SD404", NotFound), ("SD409", Conflict), ("SD400", UsageError)])
def test_our_own_refusals_keep_their_sentence(store_with: Transport, state: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="There is no such bill"):
        store_with.call("t_refuse", state=state, sentence="There is no such bill.")


@pytest.mark.parametrize("state", ["40001", "40P01", "53300", "57P03", "08006", "55P03"])
def test_passing_trouble_can_be_retried(store_with: Transport, state: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        store_with.call("t_refuse", state=state, sentence="secret sentence")
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


def test_a_violated_constraint_is_named_without_its_values(store_with: Transport) -> None:
    with pytest.raises(StoreRefused) as caught:
        store_with.call("t_unique")
    assert caught.value.detail["sqlstate"] == "23505"
    assert caught.value.detail["constraint"] == "users_name"
    assert "Zebra" not in f"{caught.value!r} {caught.value.detail}"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_message_that_quotes_a_value_stays_behind(store_with: Transport) -> None:
    with pytest.raises(StoreRefused) as caught:
        store_with.call("t_bad_number", text="Coffee at Blue Bottle")
    assert "Blue" not in f"{caught.value!r} {caught.value.detail}"
    assert caught.value.detail["sqlstate"] == "22P02"


def test_a_functions_own_timeout_counts(store_with: Transport) -> None:
    with pytest.raises(StoreUnavailable, match="too long"):
        store_with.call("t_sleep")
    assert store_with.call("t_nap") == ""


def test_a_missing_function_is_a_matter_of_the_schema(store_with: Transport) -> None:
    with pytest.raises(SchemaError, match="db migrate"):
        store_with.call("t_nothing_of_that_name", x=1)


def test_a_failed_call_leaves_nothing_and_the_next_one_works(store_with: Transport) -> None:
    for _ in range(3):
        with pytest.raises(StoreRefused):
            store_with.call("t_unique")
    assert store_with.call("t_null") is None


def test_many_threads_share_it(store_with: Transport) -> None:
    answers: list[object] = []

    def work(number: int) -> None:
        answers.extend(store_with.call("t_list", n=number % 5 + 1)[-1] for _ in range(20))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == sorted((n % 5 + 1) for n in range(16) for _ in range(20))


def test_the_schema_is_current(store_with: Transport) -> None:
    migrate.check(store_with)
