-- Figures of jobs over time: hours by queue, bank link, institution and person, kept two years; totals for /metrics that
-- never shrink; queues that fail often.

-- Hours of months that are over: one row a month and series, each column an array with one entry an hour in which
-- something happened, since Postgres compresses such a row to a tenth of its hours.
create table syncdesk.job_months (
    month       date not null,
    queue       text not null,
    item_id     uuid not null,
    institution text not null,
    user_id     uuid not null,
    hours       smallint[] not null,                -- since the month began, UTC
    done        integer[] not null,
    failed      integer[] not null,
    retried     integer[] not null,
    run_ms      bigint[] not null,
    wait_ms     bigint[] not null,
    lag_ms      bigint[] not null,
    run_hist    text[] not null,                    -- each a histogram as "0,0,3,1"
    wait_hist   text[] not null,
    lag_hist    text[] not null,
    primary key (month, queue, item_id, institution, user_id)
);

-- For /metrics: only ever added to.
create table syncdesk.job_totals (
    queue     text primary key,
    run_ms    bigint not null default 0,
    wait_ms   bigint not null default 0,
    run_hist  bigint[] not null default '{}',
    wait_hist bigint[] not null default '{}'
);
create table syncdesk.job_outcomes (
    queue   text not null,
    outcome text not null,                          -- done, failed, retried
    class   text not null,                          -- kind of error; empty where it went through
    jobs    bigint not null default 0,
    primary key (queue, outcome, class)
);

-- The last batch of statistics of each Redis: their numbers only grow, so a batch is added once.
create table syncdesk.stats_batches (
    source text primary key,
    number bigint not null,
    at     timestamptz not null default clock_timestamp()
);

-- Queues that fail often, from the moment on when it was noticed.
create table syncdesk.queue_alarms (
    queue      text primary key,
    since      timestamptz not null default clock_timestamp(),
    calm_since timestamptz                          -- few failures since then
);

-- ---------------------------------------------------------------- histograms

create function syncdesk.hist_add(a bigint[], b bigint[]) returns bigint[]
language sql immutable set search_path = '' as $$
    select array(select coalesce(x, 0) + coalesce(y, 0) from unnest(a, b) with ordinality u (x, y, n) order by n)
$$;
create aggregate syncdesk.hist_sum(bigint[]) (sfunc = syncdesk.hist_add, stype = bigint[], initcond = '{}');

create function syncdesk.hist(p jsonb) returns bigint[]
language sql immutable set search_path = '' as $$
    select array(select v::bigint from jsonb_array_elements_text(coalesce(p, '[]')) with ordinality u (v, n) order by n)
$$;

-- ---------------------------------------------------------------- queues that fail often

-- Compares every queue's last quarter of an hour with what is known, and answers what changed: each change is told to
-- one of all who look. It begins at one failure in five of ten jobs, and ends after five minutes below one in ten.
create function syncdesk.failing_look() returns jsonb
language plpgsql set search_path = '' as $$
declare
    q record;
    changed boolean;
    outbox_ bigint;
    changes jsonb := '[]';
begin
    for q in
        select n.name, coalesce(sum(m.done), 0) as done, coalesce(sum(m.failed), 0) as failed,
            exists (select from syncdesk.queue_alarms a where a.queue = n.name) as high
        from (values ('notifications'), ('transactions'), ('webhooks')) n (name)
        left join syncdesk.job_minutes m on m.queue = n.name and m.minute > clock_timestamp() - interval '15 minutes'
        group by n.name order by n.name
    loop
        changed := false;
        if not q.high then
            if q.failed >= 2 and q.done + q.failed >= 10 and q.failed * 5 >= q.done + q.failed then
                insert into syncdesk.queue_alarms (queue) values (q.name) on conflict do nothing;
                changed := found;
            end if;
        elsif q.failed > 0 and q.failed * 10 >= q.done + q.failed then
            update syncdesk.queue_alarms set calm_since = null where queue = q.name and calm_since is not null;
        else
            update syncdesk.queue_alarms set calm_since = clock_timestamp() where queue = q.name and calm_since is null;
            delete from syncdesk.queue_alarms
                where queue = q.name and calm_since not between clock_timestamp() - interval '5 minutes' and clock_timestamp();
            changed := found;
        end if;
        if changed then
            insert into syncdesk.outbox (kind, payload) values ('failure_rate', jsonb_build_object('queue', q.name,
                'high', not q.high, 'failed', q.failed, 'done', q.done, 'minutes', 15)) returning id into outbox_;
            changes := changes || jsonb_build_object('queue', q.name, 'high', not q.high, 'failed', q.failed,
                'done', q.done, 'minutes', 15, 'outbox', outbox_);
        end if;
    end loop;
    return changes;
end $$;

-- Queues that fail often, with since when.
create function public.syncdesk_failing() returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select coalesce(jsonb_object_agg(queue, syncdesk.iso(since)), '{}') from syncdesk.queue_alarms
$$;

-- The same after a look, for the clock: a queue in which nothing happens any more ends its alarm too.
create function public.syncdesk_failing_look() returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    changes jsonb := syncdesk.failing_look();
begin
    return jsonb_build_object('changes', changes, 'high', public.syncdesk_failing());
end $$;

-- ---------------------------------------------------------------- adding

-- Adds a batch: [{queue, item_id, institution, user_id, done, failed, retried, run_ms, wait_ms, lag_ms, run_hist,
-- wait_hist, lag_hist, classes: {"outcome|class": jobs}, done_targets}]. One of a source and number that was added
-- before changes nothing. Targets that went through close what was open for them in the groups of failures.
create function public.syncdesk_job_stats_add(
    p_rows jsonb, p_source text default null, p_number bigint default null
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
begin
    if p_source is not null then
        insert into syncdesk.stats_batches as b (source, number) values (p_source, p_number)
        on conflict (source) do update set number = excluded.number, at = clock_timestamp()
            where b.number < excluded.number;
        if not found then return jsonb_build_object('added', false, 'changes', '[]'::jsonb); end if;
        delete from syncdesk.stats_batches where at < clock_timestamp() - interval '1 year';
    end if;
    insert into syncdesk.job_stats as s (hour, queue, item_id, institution, user_id, done, failed, retried, run_ms,
        wait_ms, lag_ms, run_hist, wait_hist, lag_hist)
    select date_trunc('hour', clock_timestamp(), 'UTC'), r ->> 'queue',
        coalesce((r ->> 'item_id')::uuid, '00000000-0000-0000-0000-000000000000'), coalesce(r ->> 'institution', ''),
        coalesce((r ->> 'user_id')::uuid, '00000000-0000-0000-0000-000000000000'), (r ->> 'done')::bigint,
        (r ->> 'failed')::bigint, (r ->> 'retried')::bigint, (r ->> 'run_ms')::bigint, (r ->> 'wait_ms')::bigint,
        coalesce((r ->> 'lag_ms')::bigint, 0), syncdesk.hist(r -> 'run_hist'), syncdesk.hist(r -> 'wait_hist'),
        syncdesk.hist(r -> 'lag_hist')
    from jsonb_array_elements(p_rows) r order by 2, 3, 4, 5
    on conflict (hour, queue, item_id, institution, user_id) do update set done = s.done + excluded.done,
        failed = s.failed + excluded.failed, retried = s.retried + excluded.retried,
        run_ms = s.run_ms + excluded.run_ms, wait_ms = s.wait_ms + excluded.wait_ms,
        lag_ms = s.lag_ms + excluded.lag_ms, run_hist = syncdesk.hist_add(s.run_hist, excluded.run_hist),
        wait_hist = syncdesk.hist_add(s.wait_hist, excluded.wait_hist),
        lag_hist = syncdesk.hist_add(s.lag_hist, excluded.lag_hist);
    insert into syncdesk.job_minutes as m (minute, queue, done, failed)
    select date_trunc('minute', clock_timestamp(), 'UTC'), r ->> 'queue', sum((r ->> 'done')::integer),
        sum((r ->> 'failed')::integer)
    from jsonb_array_elements(p_rows) r group by 2 order by 2
    on conflict (minute, queue) do update set done = m.done + excluded.done, failed = m.failed + excluded.failed;
    insert into syncdesk.job_totals as t (queue, run_ms, wait_ms, run_hist, wait_hist)
    select r ->> 'queue', sum((r ->> 'run_ms')::bigint), sum((r ->> 'wait_ms')::bigint),
        syncdesk.hist_sum(syncdesk.hist(r -> 'run_hist')), syncdesk.hist_sum(syncdesk.hist(r -> 'wait_hist'))
    from jsonb_array_elements(p_rows) r group by 1 order by 1
    on conflict (queue) do update set run_ms = t.run_ms + excluded.run_ms, wait_ms = t.wait_ms + excluded.wait_ms,
        run_hist = syncdesk.hist_add(t.run_hist, excluded.run_hist),
        wait_hist = syncdesk.hist_add(t.wait_hist, excluded.wait_hist);
    insert into syncdesk.job_outcomes as o (queue, outcome, class, jobs)
    select r ->> 'queue', split_part(c.key, '|', 1), split_part(c.key, '|', 2), sum(c.value::bigint)
    from jsonb_array_elements(p_rows) r, jsonb_each_text(coalesce(r -> 'classes', '{}')) c
    group by 1, 2, 3 order by 1, 2, 3
    on conflict (queue, outcome, class) do update set jobs = o.jobs + excluded.jobs;
    update syncdesk.failure_group_items g set open = false
    from (select distinct r ->> 'queue' as queue, t as target from jsonb_array_elements(p_rows) r,
        jsonb_array_elements_text(coalesce(r -> 'done_targets', '[]')) t) d
    where g.queue = d.queue and g.target = d.target and g.open;
    return jsonb_build_object('added', true, 'changes', syncdesk.failing_look());
end $$;

-- ---------------------------------------------------------------- keeping

-- Packs the hours of the oldest month that has been over for two days, and drops what is older than two years. Answers
-- how many rows it changed: call again until none.
create function public.syncdesk_analytics_pack(p_limit integer default 200) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '60s' as $$
declare
    begins timestamptz;
    packed bigint := 0;
    dropped bigint;
begin
    select date_trunc('month', min(hour), 'UTC') into begins from syncdesk.job_stats;
    if begins < date_trunc('month', clock_timestamp() - interval '2 days', 'UTC') then
        with series as (
            select queue, item_id, institution, user_id from syncdesk.job_stats
            where hour < date_trunc('month', begins + interval '32 days', 'UTC')
            group by 1, 2, 3, 4 order by 1, 2, 3, 4 limit p_limit
        ), gone as (
            delete from syncdesk.job_stats s using series k
            where s.hour < date_trunc('month', begins + interval '32 days', 'UTC') and s.queue = k.queue
                and s.item_id = k.item_id and s.institution = k.institution and s.user_id = k.user_id
            returning s.*
        ), rows_ as (
            insert into syncdesk.job_months as m
            select (begins at time zone 'UTC')::date, queue, item_id, institution, user_id,
                array_agg((extract(epoch from hour - begins) / 3600)::smallint order by hour),
                array_agg(done::integer order by hour), array_agg(failed::integer order by hour),
                array_agg(retried::integer order by hour), array_agg(run_ms order by hour),
                array_agg(wait_ms order by hour), array_agg(lag_ms order by hour),
                array_agg(array_to_string(run_hist, ',') order by hour),
                array_agg(array_to_string(wait_hist, ',') order by hour),
                array_agg(array_to_string(lag_hist, ',') order by hour)
            from gone group by queue, item_id, institution, user_id
            on conflict (month, queue, item_id, institution, user_id) do update set hours = m.hours || excluded.hours,
                done = m.done || excluded.done, failed = m.failed || excluded.failed,
                retried = m.retried || excluded.retried, run_ms = m.run_ms || excluded.run_ms,
                wait_ms = m.wait_ms || excluded.wait_ms, lag_ms = m.lag_ms || excluded.lag_ms,
                run_hist = m.run_hist || excluded.run_hist, wait_hist = m.wait_hist || excluded.wait_hist,
                lag_hist = m.lag_hist || excluded.lag_hist
            returning 1
        )
        select count(*) into packed from rows_;
    end if;
    delete from syncdesk.job_months where month < (clock_timestamp() - interval '25 months')::date;
    get diagnostics dropped = row_count;
    return jsonb_build_object('packed', packed, 'dropped', dropped);
end $$;

-- ---------------------------------------------------------------- reading

-- Hours of a span, packed or not. Null: all.
create function syncdesk.job_hours(
    p_from timestamptz, p_to timestamptz, p_queue text, p_item uuid, p_institution text, p_user uuid
) returns setof syncdesk.job_stats
language sql stable set search_path = '' as $$
    select s.* from syncdesk.job_stats s
    where s.hour >= p_from and s.hour < p_to and (p_queue is null or s.queue = p_queue)
        and (p_item is null or s.item_id = p_item) and (p_institution is null or s.institution = p_institution)
        and (p_user is null or s.user_id = p_user)
    union all
    select h.hour, m.queue, m.item_id, m.institution, m.user_id, h.done, h.failed, h.retried, h.run_ms, h.wait_ms,
        string_to_array(h.run_hist, ',')::bigint[], h.lag_ms, string_to_array(h.wait_hist, ',')::bigint[],
        string_to_array(h.lag_hist, ',')::bigint[]
    from syncdesk.job_months m cross join lateral (
        select m.month::timestamp at time zone 'UTC' + u.n * interval '1 hour' as hour, u.*
        from unnest(m.hours, m.done, m.failed, m.retried, m.run_ms, m.wait_ms, m.lag_ms, m.run_hist, m.wait_hist,
            m.lag_hist) u (n, done, failed, retried, run_ms, wait_ms, lag_ms, run_hist, wait_hist, lag_hist)
    ) h
    where m.month > (p_from at time zone 'UTC')::date - 31 and m.month <= (p_to at time zone 'UTC')::date
        and h.hour >= p_from and h.hour < p_to and (p_queue is null or m.queue = p_queue)
        and (p_item is null or m.item_id = p_item) and (p_institution is null or m.institution = p_institution)
        and (p_user is null or m.user_id = p_user)
$$;

-- Points of a span: by time (p_step: hour, day, week, month, all) and by p_by (queue, item, institution, user, or '').
-- Histograms count by power of two of milliseconds. "more": the limit cut it.
create function public.syncdesk_analytics(
    p_from text, p_to text, p_step text default 'day', p_by text default '', p_queue text default null,
    p_item uuid default null, p_institution text default null, p_user uuid default null, p_limit integer default 2000
) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '30s' as $$
    with points as (
        select case p_step when 'all' then p_from::timestamptz else date_trunc(p_step, h.hour, 'UTC') end as at,
            case p_by when 'queue' then h.queue when 'institution' then h.institution
                when 'item' then nullif(h.item_id, '00000000-0000-0000-0000-000000000000')::text
                when 'user' then nullif(h.user_id, '00000000-0000-0000-0000-000000000000')::text else '' end as key,
            sum(h.done) as done, sum(h.failed) as failed, sum(h.retried) as retried, sum(h.run_ms) as run_ms,
            sum(h.wait_ms) as wait_ms, sum(h.lag_ms) as lag_ms, syncdesk.hist_sum(h.run_hist) as run_hist,
            syncdesk.hist_sum(h.wait_hist) as wait_hist, syncdesk.hist_sum(h.lag_hist) as lag_hist
        from syncdesk.job_hours(p_from::timestamptz, p_to::timestamptz, p_queue, p_item, p_institution, p_user) h
        group by 1, 2 order by 1, 2 limit p_limit + 1
    ), page as (
        select * from points order by at, key limit p_limit
    )
    select jsonb_build_object('more', (select count(*) from points) > p_limit, 'points', coalesce((
        select jsonb_agg(to_jsonb(p) || jsonb_build_object('at', syncdesk.iso(p.at), 'key', coalesce(p.key, ''),
            'label', case p_by when 'item' then (select i.institution_name from syncdesk.items i where i.id::text = p.key)
                when 'user' then (select u.name from syncdesk.users u where u.id::text = p.key) else p.key end)
            order by p.at, p.key) from page p), '[]'))
$$;
