-- Tables of the work around the data: jobs that failed and figures of all, notices, the schedule, settings, audit.

-- ---------------------------------------------------------------- jobs

create table syncdesk.failed_jobs (
    job_id         text primary key,
    queue          text not null,
    actor          text not null,
    lane           text not null,
    trigger        text not null default '',
    arguments      jsonb not null,                   -- references only
    user_id        uuid,
    item_id        uuid,
    institution    text,
    correlation_id text not null,
    fingerprint    text not null,
    rule_version   integer not null,
    error          jsonb not null,                   -- the last one, scrubbed
    attempts       jsonb not null,                   -- numbered, each with its error
    max_attempts   integer not null default 4,       -- the setting it ran under
    queued_at      timestamptz not null,
    failed_at      timestamptz not null default now(),
    state          text not null default 'failed' check (state in ('failed', 'discarded', 'retried')),
    state_at       timestamptz not null default now(),
    retried_as     text
);
-- In the order in which pages are read, so that each is one scan of an index.
create index failed_jobs_list on syncdesk.failed_jobs (state, failed_at desc, job_id desc);
create index failed_jobs_queue on syncdesk.failed_jobs (queue, state, failed_at desc, job_id desc);
create index failed_jobs_group on syncdesk.failed_jobs (fingerprint, state, failed_at desc, job_id desc);
create index failed_jobs_item on syncdesk.failed_jobs (item_id);

-- Outlive the trimming of failed_jobs: an outage of 500 failures stays explainable.
create table syncdesk.failure_groups (
    fingerprint  text primary key,
    rule_version integer not null,
    code         text not null,
    kind         text not null,
    queue        text not null,
    count        bigint not null default 0,
    first_seen   timestamptz not null default now(),
    last_seen    timestamptz not null default now(),
    samples      jsonb not null default '[]',        -- the newest few errors, scrubbed
    muted_until  bigint                              -- hidden until count exceeds this
);
create table syncdesk.failure_group_hours (
    fingerprint text not null references syncdesk.failure_groups (fingerprint) on delete cascade,
    hour        timestamptz not null,
    count       bigint not null default 0,
    primary key (fingerprint, hour)
);
-- Every item a group hit, also where the job's own record was trimmed: what a group retry reaches.
create table syncdesk.failure_group_items (
    fingerprint text not null references syncdesk.failure_groups (fingerprint) on delete cascade,
    queue       text not null,
    target      text not null,                       -- item id, inbox id or outbox id
    open        boolean not null default true,
    last_seen   timestamptz not null default now(),
    discarded   boolean not null default false,      -- a person put it aside: closed for people, and not brought back
    primary key (fingerprint, queue, target)
);

create table syncdesk.job_stats (
    hour        timestamptz not null,
    queue       text not null,
    item_id     uuid not null default '00000000-0000-0000-0000-000000000000',
    institution text not null default '',
    user_id     uuid not null default '00000000-0000-0000-0000-000000000000',
    done        bigint not null default 0,
    failed      bigint not null default 0,
    retried     bigint not null default 0,
    run_ms      bigint not null default 0,
    wait_ms     bigint not null default 0,
    run_hist    bigint[] not null default '{}',      -- counts by power of two of milliseconds; no zeros at the end
    lag_ms      bigint not null default 0,           -- from being queued to the end
    wait_hist   bigint[] not null default '{}',      -- as run_hist
    lag_hist    bigint[] not null default '{}',
    primary key (hour, queue, item_id, institution, user_id)
);
-- Fine slots for the console's charts; kept eight days.
create table syncdesk.job_minutes (
    minute timestamptz not null,
    queue  text not null,
    done   integer not null default 0,
    failed integer not null default 0,
    primary key (minute, queue)
);

-- ---------------------------------------------------------------- notifications

create table syncdesk.outbox (
    id             bigint generated always as identity primary key,
    created_at     timestamptz not null default clock_timestamp(),
    kind           text not null,
    user_id        uuid,
    item_id        uuid,
    correlation_id text not null default '',
    payload        jsonb not null default '{}',      -- counts and references, no amounts
    channel        text not null default 'console',
    sent_at        timestamptz,
    attempts       integer not null default 0
);
create index outbox_unsent on syncdesk.outbox (id) where sent_at is null;

create table syncdesk.notices (
    id        bigint generated always as identity primary key,
    outbox_id bigint unique,
    at        timestamptz not null default clock_timestamp(),
    kind      text not null,
    tone      text not null check (tone in ('ok', 'warn', 'error', 'info')),
    title     text not null,
    sentence  text not null,
    target    text,
    read_at   timestamptz
);

-- ---------------------------------------------------------------- operation

create table syncdesk.schedule (
    id          text primary key,
    label       text not null,
    trigger     jsonb not null,                      -- {"every_s": 900} or {"cron": "30 2 * * *", "zone": "UTC"}
    paused_at   timestamptz,
    paused_by   text,
    edited_at   timestamptz,
    next_run_at timestamptz,
    run_now_at  timestamptz,                         -- a click: the scheduler runs it at its next look
    updated_at  timestamptz not null default now(),
    words       text not null default '',            -- the trigger for people, written by the scheduler
    next_five   jsonb not null default '[]'          -- ISO times, written by the scheduler
);
create table syncdesk.schedule_runs (
    id          bigint generated always as identity primary key,
    schedule_id text not null references syncdesk.schedule (id) on delete cascade,
    started_at  timestamptz not null default now(),
    duration_ms double precision,
    outcome     text not null check (outcome in ('running', 'done', 'failed', 'missed')),
    by_person   boolean not null default false,
    correlation_id text not null default '',
    text        text not null default ''
);
create index schedule_runs_list on syncdesk.schedule_runs (schedule_id, id desc);

create table syncdesk.settings (
    key        text primary key,
    value      jsonb not null,
    updated_at timestamptz not null default now(),
    updated_by text not null default ''
);

create table syncdesk.audit (
    id             bigint generated always as identity primary key,
    at             timestamptz not null default clock_timestamp(),
    who            text not null,
    action         text not null,
    target         text not null default '',
    reason         text not null default '',
    result         text not null default '',
    correlation_id text not null default '',
    detail         jsonb not null default '{}'
);
