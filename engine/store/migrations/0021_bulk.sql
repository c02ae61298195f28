-- Bulk actions: one object for what is done to many jobs at a time. The set is fixed at the click; the engine works
-- through it afterwards, a step at a time, each step one transaction: a process that dies in between loses nothing and
-- repeats nothing, and several that step at once take turns by the row's lock.

create table syncdesk.bulks (
    id             uuid primary key,
    verb           text not null check (verb in ('retry', 'discard', 'move')),
    filter         jsonb not null,                   -- as asked, for people
    lane           text check (lane in ('high', 'medium', 'low')),   -- where move puts them
    state          text not null default 'held' check (state in
                   ('held', 'canary', 'running', 'stopped', 'done', 'undone')),
    canary         boolean not null,                 -- one of each cause first
    per_second     integer not null,
    total          integer not null,
    released       integer not null default 0,       -- begun, their end is not known yet
    done           integer not null default 0,
    skipped        integer not null default 0,
    failed         integer not null default 0,
    who            text not null,
    correlation_id text not null,
    note           text not null default '',         -- why it stopped
    created_at     timestamptz not null default clock_timestamp(),
    release_at     timestamptz not null,             -- until then it can be undone
    stepped_at     timestamptz not null default clock_timestamp(),   -- whose turn is next
    finished_at    timestamptz
);
create index bulks_list on syncdesk.bulks (created_at desc, id desc);
create index bulks_active on syncdesk.bulks (release_at)
    where state in ('held', 'canary', 'running') or state = 'stopped' and released > 0;

create table syncdesk.bulk_entries (
    bulk_id     uuid not null references syncdesk.bulks (id) on delete cascade,
    n           integer not null,
    queue       text not null,
    target      text not null,
    job_id      text,                                -- null: its record was trimmed
    fingerprint text not null default '',
    institution text,
    was_open    boolean not null default false,      -- its group waited for it at the click
    canary      boolean not null default false,
    state       text not null default 'waiting' check (state in ('waiting', 'released', 'done', 'skipped', 'failed')),
    reason      text not null default '',
    wish        bigint,                              -- items.wanted that its run must reach
    error_code  text,                                -- how its job failed, until the next step counts it
    released_at timestamptz,
    new_job     text,
    primary key (bulk_id, n)
);
create index bulk_entries_state on syncdesk.bulk_entries (bulk_id, state, queue, n);
create index bulk_entries_open on syncdesk.bulk_entries (queue, target) where state = 'released';
create index bulk_entries_canary on syncdesk.bulk_entries (bulk_id) where canary;

-- When the next job of a queue may be released, over all bulk actions.
create table syncdesk.bulk_pace (
    queue   text primary key,
    next_at timestamptz not null
);

-- What a failed job was for: the id of an item, of an inbox or of an outbox row; empty for a job of any other kind.
create function syncdesk.failed_target(f syncdesk.failed_jobs) returns text
language sql immutable set search_path = '' as $$
    select coalesce(f.item_id::text, f.arguments ->> 'inbox_id', f.arguments ->> 'outbox_id', '')
$$;

-- ---------------------------------------------------------------- the set

-- Why a retry of a bank's job is left out, or null. A row of nulls is no bank.
create function syncdesk.bulk_hindrance(i syncdesk.items) returns text
language sql immutable set search_path = '' as $$
    select case when i.id is null then null when i.removed_at is not null then 'The bank link was removed'
        when i.paused_at is not null then 'The bank is paused' end
$$;

create function syncdesk.failed_fits(f syncdesk.failed_jobs, p_q text) returns boolean
language sql stable set search_path = '' as $$
    select f.job_id like p_q || '%' or f.item_id::text = p_q or f.correlation_id = p_q
        or starts_with(lower(f.error ->> 'code'), lower(p_q)) or strpos(lower(coalesce(f.institution, '')), lower(p_q)) > 0
        or strpos(lower(f.error ->> 'title'), lower(p_q)) > 0
$$;

-- What a filter of failed jobs matches now, oldest first. A retry has one row a target, as one run answers all
-- its failures, and none whose work went through since, unless its job is named; a discard has one a job. Targets whose jobs' records were trimmed are in, unless the
-- filter asks for what only a record knows.
create function syncdesk.bulk_matches(p_filter jsonb, p_verb text) returns table (
    queue text, target text, job_id text, fingerprint text, institution text, was_open boolean, at timestamptz
)
language plpgsql stable set search_path = '' as $$
declare
    jobs text := '';
    trimmed text := '';
    key text;
    ids text[] := case when jsonb_typeof(p_filter -> 'ids') = 'array' and jsonb_array_length(p_filter -> 'ids') > 0
        then array(select jsonb_array_elements_text(p_filter -> 'ids')) end;
begin
    for key in select k from jsonb_object_keys(p_filter) k where coalesce(p_filter ->> k, '') <> '' loop
        jobs := jobs || case key
            when 'queue' then ' and f.queue = $1 ->> ''queue'''
            when 'lane' then ' and f.lane = $1 ->> ''lane'''
            when 'group' then ' and f.fingerprint = $1 ->> ''group'''
            when 'code' then ' and f.error ->> ''code'' = $1 ->> ''code'''
            when 'item' then ' and f.item_id::text = $1 ->> ''item'''
            when 'institution' then ' and f.institution = $1 ->> ''institution'''
            when 'user' then ' and f.user_id::text = $1 ->> ''user'''
            when 'since' then ' and f.failed_at >= ($1 ->> ''since'')::timestamptz'
            when 'until' then ' and f.failed_at < ($1 ->> ''until'')::timestamptz'
            when 'q' then ' and syncdesk.failed_fits(f, $1 ->> ''q'')'
            else '' end;
        trimmed := trimmed || case key
            when 'queue' then ' and g.queue = $1 ->> ''queue'''
            when 'group' then ' and g.fingerprint = $1 ->> ''group'''
            when 'code' then ' and c.code = $1 ->> ''code'''
            when 'item' then ' and g.queue = ''transactions'' and g.target = $1 ->> ''item'''
            when 'institution' then ' and i.institution_name = $1 ->> ''institution'''
            when 'user' then ' and i.user_id::text = $1 ->> ''user'''
            when 'since' then ' and g.last_seen >= ($1 ->> ''since'')::timestamptz'
            when 'until' then ' and g.last_seen < ($1 ->> ''until'')::timestamptz'
            when 'lane' then ' and false' when 'q' then ' and false' else '' end;
    end loop;
    if ids is not null then
        jobs := jobs || ' and f.job_id = any ($2)';
        trimmed := ' and false';
    end if;
    return query execute format($q$
        with kept as (
            select f.queue, syncdesk.failed_target(f) as target, f.job_id, f.fingerprint, f.institution, f.failed_at as at
            from syncdesk.failed_jobs f where f.state = 'failed' %s
        ), bare as (
            select g.queue, g.target, null::text as job_id, g.fingerprint, i.institution_name as institution,
                g.last_seen as at
            from syncdesk.failure_group_items g
            join syncdesk.failure_groups c on c.fingerprint = g.fingerprint
            left join syncdesk.items i on g.queue = 'transactions' and i.id::text = g.target
            where g.open and not g.discarded %s
                and not exists (select from syncdesk.failed_jobs k where k.state = 'failed'
                    and k.fingerprint = g.fingerprint and k.queue = g.queue and syncdesk.failed_target(k) = g.target)
        ), every as (
            select k.*, coalesce(g.open, false) as was_open from kept k
            left join syncdesk.failure_group_items g
                on g.fingerprint = k.fingerprint and g.queue = k.queue and g.target = k.target
            where %L = 'discard' or $2 is not null or coalesce(g.open, true)
            union all select b.*, true from bare b
        ), chosen as (
            select distinct on (queue, case when %L = 'discard' then coalesce(job_id, fingerprint || '/' || target)
                when target = '' then job_id else target end) *
            from every order by queue, case when %L = 'discard' then coalesce(job_id, fingerprint || '/' || target)
                when target = '' then job_id else target end, at desc
        )
        select queue, target, job_id, fingerprint, institution, was_open, at from chosen
        order by at, target, job_id$q$, jobs, trimmed, p_verb, p_verb, p_verb) using p_filter, ids;
end $$;

-- How many jobs a bulk action would be about: by cause, and what it would leave out, with why.
create function public.syncdesk_bulk_preview(p_verb text, p_filter jsonb) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '15s' as $$
    with found as materialized (
        select m.*, case when p_verb = 'retry' then syncdesk.bulk_hindrance(i) end as hindrance
        from syncdesk.bulk_matches(p_filter, p_verb) m
        left join syncdesk.items i on m.queue = 'transactions' and i.id::text = m.target
    )
    select jsonb_build_object(
        'total', (select count(*) from found),
        'causes', coalesce((select jsonb_agg(jsonb_build_object('fingerprint', c.fingerprint, 'code', g.code,
            'title', coalesce(g.samples -> 0 -> 'error' ->> 'title', g.code), 'count', c.n) order by c.n desc, g.code)
            from (select fingerprint, count(*) as n from found group by fingerprint order by 2 desc limit 50) c
            join syncdesk.failure_groups g on g.fingerprint = c.fingerprint), '[]'),
        'left_out', coalesce((select jsonb_agg(jsonb_build_object('reason', hindrance, 'count', n) order by n desc)
            from (select hindrance, count(*) as n from found where hindrance is not null group by hindrance) h), '[]'))
$$;

-- Fixes the set. Refused where more match than the person saw. Moves of waiting jobs bring their rows along, as those
-- live in Redis: [{queue, target, job_id, institution}].
create function public.syncdesk_bulk_start(
    p_id text, p_verb text, p_filter jsonb, p_expected integer, p_hold_ms integer, p_per_second integer,
    p_canary boolean, p_who text, p_lane text default null, p_rows jsonb default null
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    n integer;
begin
    insert into syncdesk.bulks (id, verb, filter, lane, canary, per_second, total, who, correlation_id, release_at)
    values (p_id::uuid, p_verb, p_filter, p_lane, p_canary and p_verb = 'retry', p_per_second, 0, p_who, p_id,
        clock_timestamp() + p_hold_ms * interval '1 millisecond');
    insert into syncdesk.bulk_entries (bulk_id, n, queue, target, job_id, fingerprint, institution, was_open, canary)
    select p_id::uuid, row_number() over w, m.queue, m.target, m.job_id, m.fingerprint, m.institution, m.was_open,
        p_canary and p_verb = 'retry'
            and row_number() over (partition by m.fingerprint order by m.at, m.target, m.job_id) = 1
    from syncdesk.bulk_matches(p_filter, p_verb) m where p_rows is null
    window w as (order by m.at, m.target, m.job_id)
    union all
    select p_id::uuid, r.n, r.row ->> 'queue', coalesce(r.row ->> 'target', ''), r.row ->> 'job_id', '',
        r.row ->> 'institution', false, false
    from jsonb_array_elements(coalesce(p_rows, '[]')) with ordinality r (row, n);
    get diagnostics n = row_count;
    if n > p_expected then
        raise exception using errcode = 'SD409', message =
            format('%s jobs match now, more than the %s that you saw; nothing was done.', n, p_expected);
    elsif n = 0 then
        raise exception using errcode = 'SD409', message = 'No job matches any more; nothing was done.';
    end if;
    update syncdesk.bulks set total = n where id = p_id::uuid;
    return public.syncdesk_bulk_get(p_id);
end $$;

-- ---------------------------------------------------------------- under a person's hand

-- stop: what was not released stays as it is. resume: goes on; where the canary failed, without one. undo: before the
-- release only, as nothing was done until then.
create function public.syncdesk_bulk_change(p_id text, p_change text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    b syncdesk.bulks;
begin
    select * into b from syncdesk.bulks where id::text = p_id for update;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such bulk action.';
    end if;
    if p_change = 'undo' and b.state = 'held' then
        update syncdesk.bulks set state = 'undone', finished_at = clock_timestamp() where id = b.id;
    elsif p_change = 'undo' then
        raise exception using errcode = 'SD409', message = case when b.state in ('canary', 'running')
            then 'It has begun already: stop it instead. What was released stays released.'
            else format('It is %s already.', b.state) end;
    elsif p_change = 'stop' and b.state in ('held', 'canary', 'running') then
        update syncdesk.bulks set state = 'stopped', note = 'Stopped by a person.' where id = b.id;
    elsif p_change = 'resume' and b.state = 'stopped' then
        update syncdesk.bulks set note = '', release_at = least(release_at, clock_timestamp()),
            state = case when b.canary and not exists (select from syncdesk.bulk_entries
                where bulk_id = b.id and canary and state in ('failed', 'done')) then 'canary' else 'running' end
            where id = b.id;
    else
        raise exception using errcode = 'SD409', message = format('A bulk action that is %s cannot be %s.', b.state,
            case p_change when 'stop' then 'stopped' else 'resumed' end);
    end if;
    return public.syncdesk_bulk_get(p_id);
end $$;

create function syncdesk.bulk_json(b syncdesk.bulks) returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_build_object('id', b.id, 'verb', b.verb, 'filter', b.filter, 'lane', b.lane, 'state', b.state,
        'canary', b.canary, 'per_second', b.per_second, 'total', b.total, 'released', b.released, 'done', b.done,
        'skipped', b.skipped, 'failed', b.failed, 'who', b.who, 'note', b.note, 'correlation_id', b.correlation_id,
        'created_at', syncdesk.iso(b.created_at), 'release_at', syncdesk.iso(b.release_at),
        'held_ms', greatest(0, extract(epoch from b.release_at - clock_timestamp()) * 1000)::integer,
        'finished_at', syncdesk.iso(b.finished_at))
$$;

-- With the reasons of what was left out or failed, the most frequent first.
create function public.syncdesk_bulk_get(p_id text) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    b syncdesk.bulks;
begin
    select * into b from syncdesk.bulks where id::text = p_id;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such bulk action.';
    end if;
    return jsonb_build_object('bulk', syncdesk.bulk_json(b), 'reasons', coalesce((
        select jsonb_agg(jsonb_build_object('state', state, 'reason', reason, 'count', n) order by n desc, reason) from (
            select state, reason, count(*) as n from syncdesk.bulk_entries
            where bulk_id = b.id and state in ('skipped', 'failed') group by state, reason order by 3 desc limit 20) r), '[]'));
end $$;

create function public.syncdesk_bulks_list(p_after text default null, p_limit integer default 50) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    with rows_ as (
        select b, b.created_at, b.id from syncdesk.bulks b
        where p_after is null or (b.created_at, b.id) <
            (split_part(p_after, '|', 1)::timestamptz, split_part(p_after, '|', 2)::uuid)
        order by b.created_at desc, b.id desc limit p_limit + 1
    ), page as (select * from rows_ order by created_at desc, id desc limit p_limit)
    select jsonb_build_object(
        'bulks', coalesce((select jsonb_agg(syncdesk.bulk_json(b) order by created_at desc, id desc) from page), '[]'),
        'next', case when (select count(*) from rows_) > p_limit then
            (select created_at::text || '|' || id from page order by created_at, id limit 1) end)
$$;

-- The jobs of one bulk action, by their place in it.
create function public.syncdesk_bulk_entries(
    p_id text, p_state text default null, p_after integer default 0, p_limit integer default 50
) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    with rows_ as (
        select * from syncdesk.bulk_entries
        where bulk_id = p_id::uuid and n > p_after and (p_state is null or state = p_state) order by n limit p_limit + 1
    ), page as (select * from rows_ order by n limit p_limit)
    select jsonb_build_object(
        'entries', coalesce((select jsonb_agg(jsonb_build_object('n', n, 'queue', queue, 'target', target,
            'job_id', job_id, 'institution', institution, 'state', state, 'reason', reason, 'new_job', new_job)
            order by n) from page), '[]'),
        'next', case when (select count(*) from rows_) > p_limit then (select max(n)::text from page) end)
$$;

-- Finished bulk actions go after a while, a bounded number a call.
create function public.syncdesk_bulks_sweep(p_days integer default 90) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    n integer;
begin
    delete from syncdesk.bulks where id in (select id from syncdesk.bulks
        where created_at < now() - make_interval(days => p_days) and state in ('done', 'undone', 'stopped') limit 20);
    get diagnostics n = row_count;
    return jsonb_build_object('deleted', n);
end $$;
