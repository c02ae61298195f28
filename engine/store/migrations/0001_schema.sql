-- Tables of people, banks, bills and webhooks. Truth lives here; Redis holds only what is live (docs/architecture.md).
-- Money is numeric, never float. Every table of a person's data carries user_id, so that row
-- level security (0002) needs no join.

create schema if not exists syncdesk;

-- ---------------------------------------------------------------- people and banks

create table syncdesk.users (
    id            uuid primary key default gen_random_uuid(),
    name          text not null,
    weight        integer not null default 1 check (weight between 1 and 100),
    -- Raised by every change to bills or matches: a sync that matched against an older
    -- version is refused and matches anew.
    match_version bigint not null default 0,
    created_at    timestamptz not null default now(),
    -- Rows were committed that their run did not weigh against the bills: a matching of everything is due.
    rematch_wanted boolean not null default false
);
create unique index users_name on syncdesk.users (name);

create table syncdesk.items (
    id                  uuid primary key default gen_random_uuid(),
    user_id             uuid not null references syncdesk.users (id),
    plaid_item_id       text not null unique,
    institution_id      text,
    institution_name    text not null default '',
    label               text not null default '',
    environment         text not null check (environment in ('simulated', 'sandbox', 'production')),
    access_token        text not null,            -- sealed, see engine/secrets
    access_key_id       text not null,            -- which master key sealed it
    webhook_url         text,
    -- healthy: whether data flows; what the console calls syncing, paused, ... is derived.
    state               text not null default 'first_data' check (state in
                        ('first_data', 'healthy', 'bank_trouble', 'needs_you', 'expiring', 'error', 'removed')),
    state_code          text,
    state_since         timestamptz not null default now(),
    paused_at           timestamptz,
    paused_by           text,
    cursor              text,                     -- null: never committed a page
    update_status       text,                     -- Plaid's transactions_update_status
    wanted              bigint not null default 0,
    done                bigint not null default 0,
    wanted_at           timestamptz,
    wanted_lane         text not null default 'medium' check (wanted_lane in ('high', 'medium', 'low')),
    wanted_trigger      text,
    wanted_correlation  text,
    last_attempt_at     timestamptz,
    last_success_at     timestamptz,
    newest_data_at      timestamptz,
    expires_at          timestamptz,              -- consent or disconnect time
    transactions        integer not null default 0, -- rows not removed, kept by the commit
    next_probe_at       timestamptz,
    created_at          timestamptz not null default now(),
    removed_at          timestamptz,
    accounts_at         timestamptz,              -- when the full list of accounts is due again, less a day
    quick_until         timestamptz,              -- just linked or repaired: looked at every few seconds until then
    webhook_seen_at     timestamptz,              -- the last believed webhook about its transactions
    usual_hours         integer not null default 0 -- bit for each hour (UTC) at which its bank usually has news
);
create index items_user on syncdesk.items (user_id);
create index items_unfinished on syncdesk.items (id) where wanted > done;
create index items_stale on syncdesk.items (last_success_at nulls first) where removed_at is null;

create table syncdesk.accounts (
    id                    uuid primary key default gen_random_uuid(),
    item_id               uuid not null references syncdesk.items (id) on delete cascade,
    user_id               uuid not null references syncdesk.users (id),
    plaid_account_id      text not null,
    persistent_account_id text,
    name                  text not null default '',
    official_name         text,
    mask                  text,
    type                  text not null default 'other',
    subtype               text,
    iso_currency_code     text,
    unofficial_currency_code text,
    balance_current       numeric,
    balance_available     numeric,
    balance_limit         numeric,
    balances_at           timestamptz,
    newest_data_at        timestamptz,
    closed_at             timestamptz,
    seen_at               timestamptz,            -- last in Plaid's full list of the link's accounts
    replaced_by           text,                   -- Plaid's id of the account that took its place
    silent_since          timestamptz,            -- no news for longer than is usual for it
    unique (item_id, plaid_account_id)
);
create index accounts_user on syncdesk.accounts (user_id);

create table syncdesk.transactions (
    id                       bigint generated always as identity primary key,
    -- No references: a check for each row costs a tenth of a first sync. Only the commit inserts, and it holds the
    -- item's row; a deleted item takes its rows along by a trigger.
    item_id                  uuid not null,
    user_id                  uuid not null,           -- the item's
    transaction_id           text not null,           -- Plaid's
    account_id               text not null,           -- Plaid's
    amount                   numeric not null,        -- positive: money out of the account
    iso_currency_code        text,
    unofficial_currency_code text,
    date                     date not null,
    authorized_date          date,
    datetime                 timestamptz,
    authorized_datetime      timestamptz,
    name                     text not null default '',
    merchant_name            text,
    merchant_entity_id       text,
    original_description     text,
    payment_channel          text,
    check_number             text,
    pending                  boolean not null default false,
    pending_transaction_id   text,
    category_primary         text,
    category_detailed        text,
    category_confidence      text,
    category_version         text,
    extra                    jsonb not null default '{}',  -- location, payment_meta, counterparties, logo ...
    -- What the person (or the matcher) attached; moves from pending to posted.
    note                     text,
    person_category          text,
    first_run                uuid,
    last_run                 uuid,
    created_at               timestamptz not null default now(),
    updated_at               timestamptz not null default now(),
    removed_at               timestamptz,
    replaced_by              text,                    -- the posted transaction that took over
    unique (item_id, transaction_id)
);
create index transactions_user_date on syncdesk.transactions (user_id, date desc, id desc) where removed_at is null;
create index transactions_pending on syncdesk.transactions (item_id, transaction_id) where pending and removed_at is null;

-- Append-only: every change to a transaction with its source. fold(history) equals the row.
create table syncdesk.transaction_history (
    id              bigint generated always as identity primary key,
    item_id         uuid not null,
    user_id         uuid not null,
    transaction_id  text not null,
    change          text not null check (change in
                    ('added', 'modified', 'posted', 'removed', 'restored', 'tagged', 'untagged', 'noted', 'categorised')),
    old             jsonb,                            -- changed fields only; null for added
    new             jsonb,
    source          text not null check (source in ('run', 'person', 'matcher')),
    run_id          uuid,
    correlation_id  text,
    at              timestamptz not null default clock_timestamp()
);
create index transaction_history_transaction on syncdesk.transaction_history (item_id, transaction_id, id);

-- Where the pages of a run longer than one call wait for their commit. Unlogged on purpose:
-- a crash empties it, and commit counts pages and rows. A row is read once: no time for compressing it.
create unlogged table syncdesk.stage (
    run_id   uuid not null,
    page     integer not null,
    kind     text not null check (kind in ('added', 'modified', 'removed')),
    position integer not null,
    transaction_id           text not null,
    account_id               text,
    amount                   numeric,
    iso_currency_code        text,
    unofficial_currency_code text,
    date                     date,
    authorized_date          date,
    datetime                 timestamptz,
    authorized_datetime      timestamptz,
    name                     text,
    merchant_name            text,
    merchant_entity_id       text,
    original_description     text,
    payment_channel          text,
    check_number             text,
    pending                  boolean,
    pending_transaction_id   text,
    category_primary         text,
    category_detailed        text,
    category_confidence      text,
    category_version         text,
    extra                    jsonb,
    body                     jsonb                    -- the row as it came: becomes the history's "new"
) with (toast_tuple_target = 8160);
create index stage_run on syncdesk.stage (run_id);

create table syncdesk.sync_runs (
    id             uuid primary key,
    item_id        uuid not null references syncdesk.items (id) on delete cascade,
    user_id        uuid not null,
    job_id         text,
    trigger        text not null,
    correlation_id text not null,
    fence          bigint not null,
    wanted         bigint not null default 0,       -- items.wanted when the run began
    state          text not null default 'running' check (state in ('running', 'done', 'failed', 'abandoned')),
    replay         boolean not null default false,
    from_cursor    text,
    to_cursor      text,
    pages          integer not null default 0,
    added          integer not null default 0,
    modified       integer not null default 0,
    removed        integer not null default 0,
    skipped        integer not null default 0,
    tagged         integer not null default 0,
    restarts       integer not null default 0,
    error          jsonb,
    timing         jsonb not null default '{}',     -- milliseconds by hop
    started_at     timestamptz not null default now(),
    finished_at    timestamptz,
    -- A run that waits for Plaid's limits holds no thread: where it stopped, for the next claim to carry on.
    parked         jsonb,
    parked_at      timestamptz
);
create index sync_runs_running on syncdesk.sync_runs (item_id) where state = 'running';
create index sync_runs_item on syncdesk.sync_runs (item_id, started_at desc);
create index sync_runs_correlation on syncdesk.sync_runs (correlation_id);
create index sync_runs_finished on syncdesk.sync_runs (finished_at desc);

-- Rows that a constraint refused: set aside, visible, tried again.
create table syncdesk.skipped_rows (
    id             bigint generated always as identity primary key,
    item_id        uuid not null references syncdesk.items (id) on delete cascade,
    user_id        uuid not null,
    run_id         uuid not null,
    transaction_id text,
    reason         text not null,                    -- sqlstate and constraint, never values
    body           jsonb not null,
    at             timestamptz not null default now(),
    resolved_at    timestamptz,
    -- Plaid's row as it came, as JSON text with what jsonb cannot hold (NUL, half a character) escaped; null where
    -- "body" is the whole row in our own shape.
    raw            text,
    tries          integer not null default 0,       -- how often a person asked for another try
    tried_at       timestamptz
);
create index skipped_rows_run on syncdesk.skipped_rows (run_id);
create index skipped_rows_open on syncdesk.skipped_rows (item_id) where resolved_at is null;

-- ---------------------------------------------------------------- leases

-- One row per item that a run holds. No advisory locks: a pooler gives two clients the same one.
create table syncdesk.item_leases (
    item_id    uuid primary key references syncdesk.items (id) on delete cascade,
    owner      text not null,                        -- "<host>/<process>/<thread>"
    fence      bigint not null,
    run_id     uuid not null,
    expires_at timestamptz not null
);

-- Things of which one may be active: the scheduler, the nightly backup.
create table syncdesk.named_leases (
    name       text primary key,
    owner      text not null,
    fence      bigint not null,
    expires_at timestamptz not null
);
create sequence syncdesk.fences;

-- ---------------------------------------------------------------- webhooks

create table syncdesk.inbox (
    id             bigint generated always as identity primary key,
    received_at    timestamptz not null default clock_timestamp(),
    body           text not null,
    body_sha256    text not null,
    verified_by    text check (verified_by in ('jwt', 'hmac', 'replay', 'test')),
    signature_id   text,                             -- makes a repeated delivery a duplicate
    webhook_type   text,
    webhook_code   text,
    plaid_item_id  text,
    item_id        uuid references syncdesk.items (id) on delete set null,
    user_id        uuid,
    correlation_id text not null,
    state          text not null default 'received' check (state in
                   ('received', 'processed', 'duplicate', 'refused', 'unhandled', 'failed')),
    reason         text,
    replay_of      bigint,
    attempts       integer not null default 0,
    processed_at   timestamptz
);
create index inbox_unprocessed on syncdesk.inbox (id) where state = 'received';
create unique index inbox_signature on syncdesk.inbox (signature_id) where signature_id is not null;
create index inbox_item on syncdesk.inbox (item_id, id desc);

-- ---------------------------------------------------------------- bills

create table syncdesk.bills (
    id                 uuid primary key default gen_random_uuid(),
    user_id            uuid not null references syncdesk.users (id),
    name               text not null,
    amount             numeric,
    amount_min         numeric,
    amount_max         numeric,
    currency           text not null default 'USD',
    category           text,
    cadence            text not null check (cadence in
                       ('weekly', 'biweekly', 'semimonthly', 'monthly', 'bimonthly', 'quarterly', 'yearly')),
    anchor_date        date not null,
    business_day_shift text not null default 'none' check (business_day_shift in ('none', 'next', 'previous')),
    account_id         text,
    tolerance          numeric not null default 0.10 check (tolerance >= 0 and tolerance <= 1),
    aliases            jsonb not null default '[]',
    start_date         date,
    end_date           date,
    archived_at        timestamptz,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now()
);
create index bills_user on syncdesk.bills (user_id);

create table syncdesk.matches (
    id             uuid primary key default gen_random_uuid(),
    user_id        uuid not null references syncdesk.users (id),
    bill_id        uuid not null references syncdesk.bills (id) on delete cascade,
    item_id        uuid not null references syncdesk.items (id) on delete cascade,
    transaction_id text not null,
    period         date not null,                    -- nominal due date, before any shift
    state          text not null check (state in ('auto', 'suggested', 'confirmed', 'rejected', 'assigned', 'undone')),
    score          double precision not null default 0,
    evidence       jsonb not null default '[]',
    others         jsonb not null default '[]',      -- candidates weighed and refused, with why
    run_id         uuid,
    correlation_id text,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now()
);
-- One bill per payment. A period may be paid in parts, so it may hold several payments.
create unique index matches_one_bill on syncdesk.matches (item_id, transaction_id)
    where state in ('auto', 'confirmed', 'assigned');
create index matches_bill on syncdesk.matches (bill_id, period);
create index matches_review on syncdesk.matches (user_id, state, created_at desc);

-- What the person said, kept for ever and learned from; a rejected pair is never proposed again.
create table syncdesk.match_labels (
    id             bigint generated always as identity primary key,
    user_id        uuid not null,
    bill_id        uuid not null,
    item_id        uuid not null,
    transaction_id text not null,
    period         date,
    label          text not null check (label in ('confirm', 'reject', 'assign', 'undo')),
    before         jsonb,
    at             timestamptz not null default now()
);
create index match_labels_user on syncdesk.match_labels (user_id, bill_id);
