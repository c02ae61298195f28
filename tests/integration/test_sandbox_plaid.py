"""plaid-python, unchanged, as a client of the sandbox bank: only its host differs. Its models check every type."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support import plaid_shapes
from tests.support.bank import RunningBank
from tests.support.custom_users import ODD, amounts

plaid = pytest.importorskip("plaid")


@pytest.fixture
def api(bank: RunningBank) -> Iterator[Any]:
    from plaid.api import plaid_api

    keys = {"clientId": "id", "secret": "s", "plaidVersion": "2020-09-14"}
    with plaid.ApiClient(plaid.Configuration(host=bank.url, api_key=keys)) as client:
        yield plaid_api.PlaidApi(client)


def linked(api: Any, options: Any = None) -> Any:
    from plaid.model.item_public_token_exchange_request import ItemPublicTokenExchangeRequest
    from plaid.model.products import Products
    from plaid.model.sandbox_public_token_create_request import SandboxPublicTokenCreateRequest

    more = {} if options is None else {"options": options}
    request = SandboxPublicTokenCreateRequest("ins_109508", [Products("transactions")], **more)
    token = api.sandbox_public_token_create(request).public_token
    return api.item_public_token_exchange(ItemPublicTokenExchangeRequest(token))


def history(api: Any, bank: RunningBank, exchanged: Any) -> list[Any]:
    """All pages, by the models of plaid-python."""
    from plaid.model.transactions_sync_request import TransactionsSyncRequest

    bank.do("ready", item_id=exchanged.item_id)
    rows: list[Any] = []
    cursor = ""
    while True:
        page = api.transactions_sync(TransactionsSyncRequest(exchanged.access_token, cursor=cursor, count=500))
        rows += page.added
        cursor = page.next_cursor
        if not page.has_more:
            return rows


def test_a_household_through_plaids_own_models(api: Any, bank: RunningBank) -> None:
    from plaid.model.accounts_get_request import AccountsGetRequest
    from plaid.model.country_code import CountryCode
    from plaid.model.institutions_get_by_id_request import InstitutionsGetByIdRequest
    from plaid.model.item_get_request import ItemGetRequest

    exchanged = linked(api)
    rows = history(api, bank, exchanged)
    truth = bank.truth(exchanged.item_id)
    assert {row.transaction_id: Decimal(str(row.amount)) for row in rows} == {
        each: Decimal(str(truth[each]["amount"])) for each in truth
    }
    assert len(api.accounts_get(AccountsGetRequest(exchanged.access_token)).accounts) == 3
    item = api.item_get(ItemGetRequest(exchanged.access_token)).item
    assert (item.item_id, item.institution_name) == (exchanged.item_id, "First Platypus Bank")
    request = InstitutionsGetByIdRequest("ins_109508", [CountryCode("US")])
    assert api.institutions_get_by_id(request).institution.name == "First Platypus Bank"


@pytest.mark.parametrize("file", plaid_shapes.custom_users(), ids=lambda file: file.stem)
def test_a_custom_user_through_plaids_own_models(api: Any, bank: RunningBank, file: Path) -> None:
    from plaid.model.sandbox_public_token_create_request_options import SandboxPublicTokenCreateRequestOptions

    text = file.read_text(encoding="utf-8")
    exchanged = linked(
        api, SandboxPublicTokenCreateRequestOptions(override_username="user_custom", override_password=text)
    )
    given = [
        (row["description"], row["date_posted"], float(row["amount"]))
        for account in json.loads(text)["override_accounts"]
        for row in account.get("transactions", ())
        if row["amount"] is not None
    ]
    rows = [(row.name, row.date.isoformat(), row.amount) for row in history(api, bank, exchanged)]
    assert sorted(rows) == sorted(given)


#: Its models take seconds for each 500 transactions.
@pytest.mark.parametrize("name", sorted(set(ODD) - {"thousands of transactions"}))
def test_an_odd_user_through_plaids_own_models(api: Any, bank: RunningBank, name: str) -> None:
    from plaid.model.accounts_get_request import AccountsGetRequest
    from plaid.model.sandbox_public_token_create_request_options import SandboxPublicTokenCreateRequestOptions

    text = json.dumps(ODD[name])
    exchanged = linked(
        api, SandboxPublicTokenCreateRequestOptions(override_username="user_custom", override_password=text)
    )
    assert sorted(Decimal(str(row.amount)) for row in history(api, bank, exchanged)) == amounts(ODD[name])
    accounts = api.accounts_get(AccountsGetRequest(exchanged.access_token)).accounts
    assert len(accounts) == len(ODD[name]["override_accounts"])


def test_the_life_of_an_item_through_plaids_own_models(api: Any, bank: RunningBank) -> None:
    from plaid.model.custom_sandbox_transaction import CustomSandboxTransaction
    from plaid.model.item_get_request import ItemGetRequest
    from plaid.model.item_remove_request import ItemRemoveRequest
    from plaid.model.item_webhook_update_request import ItemWebhookUpdateRequest
    from plaid.model.sandbox_item_reset_login_request import SandboxItemResetLoginRequest
    from plaid.model.sandbox_transactions_create_request import SandboxTransactionsCreateRequest
    from plaid.model.transactions_refresh_request import TransactionsRefreshRequest
    from plaid.model.transactions_sync_request import TransactionsSyncRequest

    exchanged = linked(api)
    token = exchanged.access_token
    rows = history(api, bank, exchanged)
    today = datetime.datetime.now(datetime.UTC).date()
    made = CustomSandboxTransaction(today, today, 12.5, "Corner shop", iso_currency_code="USD")
    api.sandbox_transactions_create(SandboxTransactionsCreateRequest(token, [made]))
    assert len(history(api, bank, exchanged)) == len(rows) + 1
    api.transactions_refresh(TransactionsRefreshRequest(token))
    updated = api.item_webhook_update(ItemWebhookUpdateRequest(token, webhook="http://127.0.0.1:9/hook"))
    assert updated.item.webhook == "http://127.0.0.1:9/hook"
    assert api.sandbox_item_reset_login(SandboxItemResetLoginRequest(token)).reset_login
    assert refused(api.transactions_sync, TransactionsSyncRequest(token)) == "ITEM_LOGIN_REQUIRED"
    assert api.item_get(ItemGetRequest(token)).item.error.error_code == "ITEM_LOGIN_REQUIRED"
    bank.do("repair", item_id=exchanged.item_id)
    assert history(api, bank, exchanged)
    api.item_remove(ItemRemoveRequest(token))
    assert refused(api.transactions_sync, TransactionsSyncRequest(token)) == "ITEM_NOT_FOUND"


def refused(call: Any, request: Any) -> str:
    with pytest.raises(plaid.ApiException) as caught:
        call(request)
    code: str = json.loads(caught.value.body)["error_code"]
    return code


def test_the_engines_own_client(bank: RunningBank) -> None:
    from engine.plaid import pages
    from engine.plaid.client import PlaidClient
    from engine.settings import Settings

    client = PlaidClient(Settings(plaid_url=bank.url))
    try:
        exchanged = client.exchange(bank.public_token("ins_900003"))
        bank.do("ready", item_id=exchanged.item_id)
        raw = client.transactions_sync(exchanged.access_token, None)
        page = pages.read(raw)
        assert not page.has_more
        assert json.loads(raw)["next_cursor"] == page.next_cursor
        assert client.institution_name("ins_900003") == "桜信託銀行 Sakura Trust"
        assert len(client.accounts_get(exchanged.access_token).accounts) == 3
        request = {"client_name": "S", "language": "en", "country_codes": ["US"], "user": {"client_user_id": "u"}}
        link = client.link_token_create({**request, "products": ["transactions"], "hosted_link": {}})
        assert client.link_token_get(link.link_token).link_sessions == []
        client.item_webhook_update(exchanged.access_token, "http://127.0.0.1:9/hook")
        assert client.item_get(exchanged.access_token).webhook == "http://127.0.0.1:9/hook"
        client.transactions_refresh(exchanged.access_token)
        client.item_remove(exchanged.access_token)
    finally:
        client.close()
